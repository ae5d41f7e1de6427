"""``comsl demo``: the whole path on a small world, and what ships with the package made anew."""

from __future__ import annotations

import argparse
from pathlib import Path

from comsl.commands.common import Command, check_folder
from comsl.demo import PARTS


def add_demo(command: Command) -> None:
    parser = command(
        "demo",
        "show the whole path on a small world: build, compose, train, compare, translate (about 11 minutes on 2 cores)",
        "comsl demo --out demo-out",
        "comsl demo --pretrain speech --out my-parts",
        "comsl demo --covost data/miniature",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="(default demo-out; of --pretrain: the package)")
    parser.add_argument(
        "--pretrain",
        nargs="*",
        choices=PARTS,
        metavar="PART",
        help="instead make anew the three models that ship with the package, or the named ones: DIR/speech and "
        "DIR/text, the pretrained parts, and DIR/composite, made of both, the model of comsl translate (one and three "
        "quarter hours with one thread; speech and text can run side by side; what is only needed on the way goes to "
        "./demo-out/pretrain)",
    )
    parser.add_argument(
        "--covost",
        type=Path,
        metavar="DIR",
        help="instead write a miniature of Common Voice and CoVoST 2: their file names and columns, mp3 clips of "
        "synthetic voices, faults listed in DIR/planted.json (about 6,600 clips, two minutes on 2 cores)",
    )
    parser.add_argument(
        "--languages",
        nargs="+",
        metavar="LANG",
        help="source languages of the miniature; en: English into the others (default: the 21)",
    )
    parser.add_argument("--scale", type=float, default=1.0, metavar="X", help="of its number of clips (default 1)")
    parser.add_argument(
        "--archives", action="store_true", help="one .tar.gz a language and table, as one downloads them"
    )


def demo(arguments: argparse.Namespace) -> int:
    if arguments.covost is not None:
        from comsl.demo.covost import build_covost

        check_folder(arguments.covost, "--covost")
        print(build_covost(arguments.covost, arguments.languages, arguments.scale, archives=arguments.archives))
        return 0
    if arguments.pretrain is not None:
        from comsl.demo.pretrain import MODELS, pretrain

        pretrain(arguments.out or MODELS, arguments.pretrain or PARTS)
        return 0
    out = arguments.out or Path("demo-out")
    check_folder(out)
    from comsl.demo.demo import run_demo

    run_demo(out)
    return 0
