"""What ``comsl evaluate`` and ``comsl score`` share. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from comsl.commands.common import complain

if TYPE_CHECKING:
    from comsl.evaluation.outcome import Evaluation


def add_scoring(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--train-manifest",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="training rows, for their hours, the look-up floor and the scores of what is not in them",
    )
    parser.add_argument(
        "--no-lookup",
        dest="lookup",
        action="store_false",
        help="leave out the look-up floor (of large training sets it takes long)",
    )
    parser.add_argument("--lowercase", action="store_true", help="score translations without case")
    parser.add_argument("--normaliser", default="basic", metavar="NAME", help="of transcripts (default basic)")


def evaluated(result: Evaluation, allow_failed_rows: bool = False) -> int:
    for line in result.complaints:
        complain(line)
    print(f"{result.out / 'report.html'}\n{result.out / 'table.md'}")
    return 0 if result.ok or allow_failed_rows else 1
