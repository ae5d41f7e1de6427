"""``comsl calibrate``: what the agreement of two ways of translating says about quality."""

from __future__ import annotations

import argparse
from pathlib import Path

from comsl.commands.common import Command, check_folder


def add_calibrate(command: Command) -> None:
    parser = command(
        "calibrate",
        "learn from an evaluation how sure a model's translations are",
        "comsl evaluate --model runs/mboshi --manifest data/mboshi/dev.jsonl --systems direct cascade --out runs/dev",
        "comsl calibrate runs/dev",
        "comsl translate clip.wav --source mdw --model runs/mboshi --confidence --format json",
    )
    parser.add_argument(
        "evaluation",
        type=Path,
        metavar="DIR",
        help="directory that comsl evaluate wrote, with the systems direct and cascade, of a manifest that the "
        "model was not trained on",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where confidence.json goes (default: the model)")


def calibrate(arguments: argparse.Namespace) -> int:
    from comsl.evaluation import calibration
    from comsl.inference.confidence import EVIDENCE

    if arguments.out is not None:
        check_folder(arguments.out)
    made, path = calibration.calibrate(arguments.evaluation, arguments.out)
    for mode, weights in made.weights.items():
        named = ", ".join(f"{name} {weight:+.2f}" for name, weight in zip(EVIDENCE, weights, strict=True))
        print(f"{mode}: {made.rows[mode]} rows; {named}")
    print(path)
    return 0
