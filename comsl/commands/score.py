"""``comsl score``: what another system made of manifests."""

from __future__ import annotations

import argparse
from pathlib import Path

from comsl.commands.common import Command, check_folder
from comsl.commands.scoring import add_scoring, evaluated


def add_score(command: Command) -> None:
    parser = command(
        "score",
        "score what another system made of manifests, by the same code and into the same folder",
        "comsl score --manifest test.jsonl --hypotheses theirs.txt --system theirs --out runs/theirs/test",
        "comsl score --manifest data/fr_en/test.jsonl data/de_en/test.jsonl --system theirs --out runs/theirs/test \\",
        "      --hypotheses fr.txt de.txt --transcripts heard.fr.txt heard.de.txt",
    )
    parser.add_argument("--manifest", required=True, nargs="+", type=Path, metavar="FILE", help="JSONL or Parquet")
    parser.add_argument(
        "--hypotheses",
        required=True,
        nargs="+",
        type=Path,
        metavar="FILE",
        help="the translations: a file of text a manifest, one line a row; or .jsonl with id and hypothesis",
    )
    parser.add_argument("--system", required=True, metavar="NAME", help="what to call it in tables and comparisons")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where scores, hypotheses and page go")
    parser.add_argument(
        "--transcripts",
        nargs="+",
        default=[],
        type=Path,
        metavar="FILE",
        help="what it heard, in the same form (.jsonl: id and transcript), for word error rates",
    )
    add_scoring(parser)


def score(arguments: argparse.Namespace) -> int:
    from comsl.evaluation.external import score_external

    check_folder(arguments.out)
    result = score_external(
        arguments.manifest,
        arguments.hypotheses,
        arguments.system,
        arguments.out,
        transcripts=arguments.transcripts,
        train_manifest=arguments.train_manifest,
        lookup=arguments.lookup,
        lowercase=arguments.lowercase,
        normaliser=arguments.normaliser,
    )
    return evaluated(result)
