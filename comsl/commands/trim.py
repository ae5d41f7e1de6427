"""``comsl trim``: a model with the part of its vocabulary that a corpus needs."""

from __future__ import annotations

import argparse
from pathlib import Path

from comsl.commands.common import Command, check_folder, hide_library_bars, positive, say


def add_trim(command: Command) -> None:
    parser = command(
        "trim",
        "keep only that part of a model's text vocabulary that a corpus needs",
        "comsl trim --model parts/medium --manifest train.jsonl --check dev.jsonl test.jsonl --out parts/medium-de-en",
        "comsl trim --model runs/mt --like parts/medium-de-en --out runs/mt-de-en",
    )
    parser.add_argument("--model", required=True, metavar="MODEL", help="a ComSL model, or a text model alone")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where to save the trimmed model")
    parser.add_argument(
        "--manifest", nargs="+", default=[], type=Path, metavar="FILE", help="what the model is for, both sides"
    )
    parser.add_argument("--text", nargs="+", default=[], type=Path, metavar="FILE", help="the same as lines of text")
    parser.add_argument(
        "--check", nargs="+", default=[], type=Path, metavar="FILE", help="held-out manifests to report coverage of"
    )
    parser.add_argument(
        "--languages", nargs="+", metavar="LANG", help="languages in use (default: all that the manifests have)"
    )
    rule = parser.add_mutually_exclusive_group()
    rule.add_argument("--min-count", type=positive, metavar="N", help="keep pieces that occur N times (default 1)")
    rule.add_argument("--keep", type=positive, metavar="N", help="keep the N most frequent pieces")
    rule.add_argument(
        "--coverage", type=float, metavar="SHARE", help="keep the most frequent pieces, up to this share of all tokens"
    )
    rule.add_argument("--like", type=Path, metavar="DIR", help="keep exactly the tokens of this trimmed model")


def trim(arguments: argparse.Namespace) -> int:
    from comsl.evaluation.report import show
    from comsl.model.coverage import Texts
    from comsl.model.trim import Selection, trim

    check_folder(arguments.out)
    say(f"trimming {arguments.model}")
    hide_library_bars()
    report = trim(
        arguments.model,
        arguments.out,
        Texts(arguments.manifest, arguments.text),
        Texts(arguments.check),
        languages=arguments.languages,
        select=Selection(arguments.min_count, arguments.keep, arguments.coverage),
        like=arguments.like,
    )
    show(report.render())
    print(arguments.out)
    return 0
