"""``comsl heard`` and ``comsl study``: what a study of several systems needs beside training and evaluation."""

from __future__ import annotations

import argparse
from pathlib import Path

from comsl.commands.common import Command


def add_heard(command: Command) -> None:
    parser = command(
        "heard",
        "make text rows of what an evaluated system heard, to tune the text side of a cascade on",
        "comsl evaluate --model runs/asr --manifest train.jsonl --task transcribe --out runs/asr/train",
        "comsl heard runs/asr/train --out heard.jsonl",
    )
    parser.add_argument("evaluation", type=Path, metavar="DIR", help="directory that comsl evaluate wrote")
    parser.add_argument("--system", choices=("direct", "cascade"), help="(default: the one that heard something)")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="manifest to write")


def add_study(command: Command) -> None:
    parser = command(
        "study",
        "compare the arms of a study over seeds and test sets, on one page",
        "comsl study recipes/multi30k-speech/study.yaml --runs runs/multi30k-speech/arms --out study.md",
    )
    parser.add_argument("study", type=Path, metavar="STUDY", help="YAML file: arms, test sets, questions")
    parser.add_argument(
        "--runs", required=True, type=Path, metavar="DIR", help="where the evaluations lie: <arm>/<seed>/<test>"
    )
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="FILE",
        help="Markdown page to write; its picture goes into a folder of that name",
    )


def heard(arguments: argparse.Namespace) -> int:
    from comsl.evaluation.heard import heard

    heard(arguments.evaluation, arguments.out, arguments.system)
    return 0


def study(arguments: argparse.Namespace) -> int:
    from comsl.study.page import write_page
    from comsl.study.plan import load_study

    write_page(load_study(arguments.study), arguments.runs, arguments.out)
    print(arguments.out)
    return 0
