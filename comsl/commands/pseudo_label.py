"""``comsl pseudo-label``: translations for transcribed clips that have none."""

from __future__ import annotations

import argparse
from pathlib import Path

from comsl.allocator import keep_freed_memory, limit_kernel_caches
from comsl.commands.common import Command, check_folder, hide_library_bars
from comsl.commands.decoding import add_decoding, device


def add_pseudo_label(command: Command) -> None:
    parser = command(
        "pseudo-label",
        "translate transcribed clips that nobody has translated, for training",
        "comsl pseudo-label --model runs/1-text --common-voice cv-corpus-4-2019-12-10 \\",
        "      --covost-manifests data/covost2 --languages fr de --out data/pseudo",
        "comsl pseudo-label --model runs/mt --manifest transcribed.jsonl --held-out dev.jsonl test.jsonl --out pseudo",
        "torchrun --nproc_per_node 8 -m comsl pseudo-label --model runs/1-text --common-voice cv \\",
        "      --covost-manifests data/covost2 --out data/pseudo",
    )
    parser.add_argument("--model", required=True, metavar="MODEL", help="a ComSL model whose text part translates")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the manifests go")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--common-voice", type=Path, metavar="DIR", help="a release: its validated clips")
    source.add_argument(
        "--manifest", type=Path, nargs="+", metavar="FILE", help="the rows without translation in these"
    )
    parser.add_argument(
        "--covost-manifests",
        type=Path,
        metavar="DIR",
        help="what comsl prepare covost2 wrote: clips that have a translation, and all of dev and test, are left out",
    )
    parser.add_argument(
        "--held-out", type=Path, nargs="+", default=[], metavar="FILE", help="further dev and test manifests"
    )
    parser.add_argument("--languages", nargs="+", metavar="LANG", help="source languages (default: all that there are)")
    parser.add_argument("--target", default="en", metavar="LANG", help="language to translate into (default en)")
    bounds = parser.add_argument_group("what is kept")
    bounds.add_argument(
        "--max-length-ratio", type=float, default=3.0, metavar="X", help="of the sides, in tokens (default 3; 0: any)"
    )
    bounds.add_argument(
        "--max-repeats", type=int, default=3, metavar="N", help="of an n-gram in succession (default 3; 0: any)"
    )
    bounds.add_argument(
        "--min-score",
        type=float,
        default=-1.5,
        metavar="X",
        help="mean log-probability of a token (default -1.5; -inf: any)",
    )
    bounds.add_argument("--max-seconds", type=float, default=30.0, metavar="X", help="of a clip (default 30)")
    bounds.add_argument(
        "--identify-language",
        action="store_true",
        help="only what a language identifier takes for the target language (pip install lingua-language-detector)",
    )
    add_decoding(parser, "as saved")


def pseudo_label(arguments: argparse.Namespace) -> int:
    from comsl.inference.decode import DecodingOptions
    from comsl.pseudo_labels.filters import Filters
    from comsl.pseudo_labels.label import Labelling, pseudo_label
    from comsl.pseudo_labels.sources import open_sources

    keep_freed_memory()
    limit_kernel_caches()
    bounds = ("max_length_ratio", "max_repeats", "min_score", "max_seconds", "identify_language")
    filters = Filters(**{name: getattr(arguments, name) for name in bounds})
    check_folder(arguments.out)
    hide_library_bars()
    wanted = ("common_voice", "manifest", "covost_manifests", "held_out", "languages", "target", "out")
    source, held_out, described = open_sources(**{name: getattr(arguments, name) for name in wanted})
    labelling = Labelling(
        arguments.model,
        held_out,
        described,
        target=arguments.target,
        options=DecodingOptions(beam=arguments.beam, batch_size=arguments.batch_size),
        filters=filters,
        device=device(arguments),
        precision=arguments.precision,
    )
    pseudo_label(source, labelling, arguments.out)
    return 0
