"""What becomes of the records of an evaluation, however they were made: scores, tables and pages in its folder."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comsl
from comsl.evaluation import LOOKUP
from comsl.evaluation.records import SCORES, Record, RecordLog, grouped_failures, write_json
from comsl.evaluation.report import render, write_html
from comsl.evaluation.report import show as show_report
from comsl.evaluation.rows import ManifestRows, TrainingRows
from comsl.evaluation.scoring import direction, transcription_scores, translation_scores
from comsl.evaluation.systems import record
from comsl.evaluation.table import write_table
from comsl.inference.decode import Hypothesis
from comsl.inference.lookup import Lookup
from comsl.provenance import git_commit, versions


@dataclass(frozen=True)
class Evaluation:
    """What was measured; all of it is in the folder ``out`` too."""

    out: Path
    scores: dict[str, Any]
    records: list[Record]

    @property
    def failed(self) -> list[dict[str, str]]:
        """``{"id", "system", "error"}`` of every row that could not be done."""
        failed: list[dict[str, str]] = self.scores["failed"]
        return failed

    @property
    def complaints(self) -> list[str]:
        """One line a row and reason: "id (system, system): reason"."""
        return [f"{row_id} ({systems}): {error}" for row_id, systems, error in grouped_failures(self.failed)]

    @property
    def ok(self) -> bool:
        """Whether every row was done; False is exit code 1."""
        return not self.failed


@dataclass(frozen=True)
class ScoringOptions:
    """How hypotheses become numbers.

    Attributes:
        task: "translate" (BLEU, chrF++), "transcribe" (WER, CER), or "both".
        lowercase: score translations without case (stated in the signature).
        normaliser: of transcripts, key of ``metrics.NORMALISERS``.
        n_bootstrap: resamples for confidence intervals; 0 leaves them out.
    """

    task: str
    lowercase: bool
    normaliser: str
    n_bootstrap: int


def write_evaluation(
    out: Path,
    records: list[Record],
    systems: Sequence[str],
    rows: ManifestRows,
    training: TrainingRows | None,
    options: ScoringOptions,
    facts: dict[str, Any],
    *,
    heard_by_another: Collection[str] = (),
    show: bool = True,
) -> Evaluation:
    """Score records and write scores.json, table.md and report.html beside them.

    Args:
        systems: whose records they are, in the order of the tables.
        training: what the systems were trained on; its amounts stand beside the scores.
        facts: what else scores.json shall say, of the model and the decoding.
        heard_by_another: systems whose transcripts are those of another one, and are not scored again.
        show: print the tables to stdout.
    """
    of = {system: [row for row in records if row["system"] == system] for system in systems}
    scores = {
        "comsl": comsl.__version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "manifests": rows.paths,
        "train_manifests": training.paths if training else [],
        "training": training.amounts() if training else {},
        **rows.counts(),
        "task": options.task,
        "lowercase": options.lowercase,
        **facts,
        "versions": versions(),
        "git_commit": git_commit(),
        "systems": _translation(of, training, options) if options.task != "transcribe" else {},
        "transcription": _transcription(of, heard_by_another, options.normaliser),
        "failed": _failures(records) + rows.unscorable(options.task),
    }
    write_json(out / SCORES, scores)
    write_table(out)
    write_html(out)
    if show:
        show_report(render(scores))
    return Evaluation(out, scores, records)


def add_floor(rows: Sequence[Record], training: TrainingRows, log: RecordLog) -> None:
    """Look up what the log does not hold yet, each sentence among the training rows of its own direction.

    A direction without any has no floor, which the report says.
    """
    wanted: dict[str, list[Record]] = {}
    for row in rows:
        if (row["id"], LOOKUP) not in log.records and row["target_language"]:
            wanted.setdefault(direction(row), []).append(row)
    for name, pending in wanted.items():
        started = time.perf_counter()
        memory = training.sentences(pending[0]["source_language"], pending[0]["target_language"])
        if not memory[0]:
            continue
        transcripts = [row["transcript"] or "" for row in pending]
        answers = Lookup(*memory).translate(transcripts, description=f"look-up, {name}")
        hypotheses = [Hypothesis(answer, math.nan) for answer in answers]
        records = [record(LOOKUP, row, found, None) for row, found in zip(pending, hypotheses, strict=True)]
        log.append(records, LOOKUP, time.perf_counter() - started)


def _translation(of: dict[str, list[Record]], training: TrainingRows | None, options: ScoringOptions) -> dict[str, Any]:
    seen = training.translations() if training else ()
    return translation_scores(of, seen, lowercase=options.lowercase, n_bootstrap=options.n_bootstrap)


def _transcription(of: dict[str, list[Record]], heard_by_another: Collection[str], normaliser: str) -> dict[str, Any]:
    scores = {}
    for system, records in of.items():
        if system not in heard_by_another:
            rates = transcription_scores(records, normaliser=normaliser)
            if rates["pairs"]:
                scores[system] = rates
    return scores


def _failures(records: Sequence[Record]) -> list[dict[str, str]]:
    return [
        {key: record[key] for key in ("id", "system", "error")} for record in records if record["error"] is not None
    ]
