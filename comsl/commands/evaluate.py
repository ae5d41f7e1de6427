"""``comsl evaluate``: manifests into hypotheses, and these into scores."""

from __future__ import annotations

import argparse
from pathlib import Path

from comsl.allocator import keep_freed_memory, limit_kernel_caches
from comsl.commands.common import Command, check_folder, hide_library_bars, say
from comsl.commands.decoding import add_decoding, add_modes, decoding_options, device
from comsl.commands.scoring import add_scoring, evaluated
from comsl.evaluation import SYSTEMS
from comsl.inference import TASKS


def add_evaluate(command: Command) -> None:
    parser = command(
        "evaluate",
        "translate manifests and score the hypotheses",
        "comsl evaluate --model runs/mboshi --manifest data/mboshi/test.jsonl --out runs/mboshi/test",
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="a ComSL model or a run directory")
    parser.add_argument("--manifest", required=True, nargs="+", type=Path, metavar="FILE", help="JSONL or Parquet")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where scores, hypotheses and page go")
    parser.add_argument(
        "--systems",
        nargs="+",
        choices=SYSTEMS,
        help="direct: speech to translation; cascade: transcript, then its translation; mixed: from the transcript and "
        "the speech together; pooled: the best of these three, told by how they agree; memory: the safest of the "
        "sentences of --memory that may have been said; text: translation of the reference transcript, the upper bound "
        "(default: direct, cascade and text, if the task has work for them)",
    )
    parser.add_argument("--cascade-asr", metavar="DIR", help="model that transcribes in the cascade (default: --model)")
    parser.add_argument("--cascade-mt", metavar="DIR", help="model that translates in the cascade (default: --model)")
    parser.add_argument("--task", choices=TASKS, default="both", help="what to score (default both)")
    parser.add_argument(
        "--allow-failed-rows",
        action="store_true",
        help="exit code 0 although rows could not be done; they are listed and count as empty all the same",
    )
    add_scoring(parser)
    add_decoding(parser, "as saved")
    add_modes(parser)


def evaluate(arguments: argparse.Namespace) -> int:
    from comsl.evaluation.evaluate import evaluate

    keep_freed_memory()
    limit_kernel_caches()
    check_folder(arguments.out)
    say(f"evaluating {arguments.model} on {', '.join(map(str, arguments.manifest))}")
    hide_library_bars()
    result = evaluate(
        arguments.model,
        arguments.manifest,
        arguments.out,
        arguments.systems,
        cascade_asr=arguments.cascade_asr,
        cascade_mt=arguments.cascade_mt,
        train_manifest=arguments.train_manifest,
        lookup=arguments.lookup,
        task=arguments.task,
        options=decoding_options(arguments),
        memory=arguments.memory,
        memory_gap=arguments.memory_gap,
        lowercase=arguments.lowercase,
        normaliser=arguments.normaliser,
        device=device(arguments),
        precision=arguments.precision,
    )
    return evaluated(result, arguments.allow_failed_rows)
