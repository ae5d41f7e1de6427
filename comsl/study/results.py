"""What the arms of a study gave: their evaluations, scored cell by cell on the same resamples of sentences.

    RUNS/<arm>/<seed>/             a run (its train_log.jsonl says how long it took)
    RUNS/<arm>/<seed>/<test>/      its evaluation on a test set

An evaluation names the models that it is of; where they lie elsewhere, those are the arm's runs.
A cell is a test set and a direction. Shapes: S resamples, N seeds of an arm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from comsl.errors import UsageError
from comsl.evaluation import LOOKUP
from comsl.evaluation.bootstrap import SEED, Floats, corpus_score, resample_together, scores_of
from comsl.evaluation.curves import LOG, read_log
from comsl.evaluation.forms import FORMS, Form
from comsl.evaluation.metrics import TRANSLATION_METRICS, translation_metric
from comsl.evaluation.records import Record, read_records, read_scores
from comsl.evaluation.scoring import count_rows, direction, scorable
from comsl.evaluation.significance import check_aligned, strata
from comsl.progress import track
from comsl.study.made import Made, read_made
from comsl.study.plan import Arm, Plan

ROLES = ("model", "cascade_asr", "cascade_mt")


@dataclass
class Result:
    """What an arm gave, by metric ("bleu", "chrf")."""

    arm: Arm
    seeds: list[str]
    tests: Sequence[str]
    """Those that count."""
    runs: tuple[str, ...]
    """The model under evaluation, a seed each: systems of the same ones share their seeds."""
    made: Made
    rows: dict[str, int] = field(default_factory=dict)
    """Cell -> test rows."""
    cells: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Metric -> cell -> a score a seed."""
    forms: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Form of the texts -> cell -> BLEU, a seed each."""
    draws: dict[str, dict[str, list[Floats]]] = field(default_factory=dict)
    """Metric -> cell -> the score in each resample of sentences, [S], a seed each."""
    seconds: list[float] = field(default_factory=list)
    """Of training, a seed each; empty where nothing was trained."""
    transcripts: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """"wer", "cer" -> cell -> a rate a seed, where the system transcribes."""
    confidence: dict[str, list[tuple[float, float | None]]] = field(default_factory=dict)
    """Test -> of a calibrated model, a seed each: mean distance of confidence and chrF, and their correlation."""

    def overall(self, metric: str, tests: Sequence[str] = ()) -> Floats:
        """Mean over the cells of some tests, or of all that count, [N]."""
        return np.mean([self.cells[metric][cell] for cell in self._of(tests)], axis=0)

    def resampled(self, metric: str, tests: Sequence[str] = ()) -> Floats:
        """The same in each resample, [N, S]."""
        return np.mean([self.draws[metric][cell] for cell in self._of(tests)], axis=0)

    @property
    def has_seeds(self) -> bool:
        """The look-up is no run, whatever model it stands beside."""
        return self.arm.system != LOOKUP

    def _of(self, tests: Sequence[str]) -> list[str]:
        return [cell for cell in self.rows if test_of(cell) in (tests or self.tests)]


def test_of(cell: str) -> str:
    return cell.rpartition(" ")[0]


def read_results(plan: Plan, runs: Path, n_samples: int) -> tuple[dict[str, Result], dict[str, str]]:
    """By label of the arms that have been evaluated; and the metrics' signatures.

    Raises:
        UsageError: no arm has an evaluation; an arm lacks one of its tests, or a system.
        ComparisonError: evaluations of the same test over other rows.
    """
    results: dict[str, Result] = {}
    rows: dict[str, Rows] = {}
    for arm in plan.arms:
        evaluated, found = _read(arm, runs, [*plan.tests, *plan.beside])
        if found:
            results[arm.label] = _result(arm, runs, evaluated, found, plan.tests)
            rows[arm.label] = found
    if not results:
        raise UsageError(f"{runs} holds no evaluation of any arm: <arm>/<seed>/<test> is where they are looked for")
    return results, _score(results, rows, plan.forms, n_samples)


def training_seconds(run: Path) -> float:
    """Seconds that a run trained, by its log; work that was lost to an interruption is not in it."""
    return float(sum(record.get("seconds", 0.0) for record in read_log(run / LOG) if record.get("kind") == "train"))


# ------------------------------------------------------------------------------------------------------------ reading

Rows = dict[str, dict[str, dict[str, Record]]]
"""Seed -> cell -> id -> record."""
Evaluated = dict[str, dict[str, dict[str, Any]]]
"""Seed -> test -> its scores.json."""


def _read(arm: Arm, runs: Path, tests: Sequence[str]) -> tuple[Evaluated, Rows]:
    """Empty: the arm has no evaluation at all."""
    folders = sorted(path for path in (runs / arm.arm).glob("*") if any((path / test).is_dir() for test in tests))
    evaluated: Evaluated = {}
    found: Rows = {}
    for folder in folders:
        evaluated[folder.name] = {test: read_scores(folder / test) for test in tests}  # raises if one is not finished
        cells: dict[str, dict[str, Record]] = {}
        for test in tests:
            records = [record for record in read_records(folder / test) if record["system"] == arm.system]
            for record in filter(scorable, records):
                cells.setdefault(f"{test} {direction(record)}", {})[record["id"]] = record
            if not records:
                raise UsageError(f"{folder / test} holds no rows of the system {arm.system!r} (arm {arm.label})")
        found[folder.name] = cells
    return evaluated, found


def _result(arm: Arm, runs: Path, evaluated: Evaluated, rows: Rows, counted: Sequence[str]) -> Result:
    models = {seed: _models(tests.values(), runs / arm.arm / seed) for seed, tests in evaluated.items()}
    scores = [each for tests in evaluated.values() for each in tests.values()]
    made = read_made(arm.system, scores, [path for paths in models.values() for path in paths])
    sizes = {cell: len(records) for cell, records in next(iter(rows.values())).items()}
    result = Result(arm, list(rows), counted, tuple(str(paths[0]) for paths in models.values()), made, sizes)
    for seed, cells in rows.items():
        logged = [path for path in models[seed] if (path / LOG).is_file()]
        if result.has_seeds and logged:
            result.seconds.append(sum(map(training_seconds, logged)))
        for cell in cells:
            test, _, languages = cell.rpartition(" ")
            transcription = evaluated[seed][test]["transcription"] or {}
            rates = transcription.get(arm.system, {"pairs": {}})["pairs"].get(languages.split("-")[0])
            if rates is not None:
                for rate in ("wer", "cer"):
                    result.transcripts.setdefault(rate, {}).setdefault(cell, []).append(rates[rate])
        for test, scored in evaluated[seed].items():
            sure = (scored.get("confidence") or {}).get(arm.system)
            if sure is not None:
                result.confidence.setdefault(test, []).append((sure["error"], sure["correlation"]))
    return result


def _models(scores: Iterable[dict[str, Any]], folder: Path) -> list[Path]:
    """Directories of the models that were evaluated, the main one first; ``folder`` where none is known or there."""
    named = dict.fromkeys(Path(path).resolve() for each in scores for role in ROLES if (path := each.get(role)))
    return [path for path in named if path.is_dir()] or [folder]


# ------------------------------------------------------------------------------------------------------------ scoring


def _score(
    results: Mapping[str, Result], rows: Mapping[str, Rows], forms: Sequence[str], n_samples: int
) -> dict[str, str]:
    """Fills in scores and resamples; sentences are drawn cell by cell, the same ones for everyone."""
    reference = max(rows, key=lambda label: len(next(iter(rows[label].values()))))
    cells = next(iter(rows[reference].values()))
    numbers = strata({cell: list(expected.values()) for cell, expected in cells.items()})
    everyone = [(label, seed) for label, seeds in rows.items() for seed in seeds]
    signatures = {}
    for cell, expected in track(cells.items(), description="bootstrap", unit="cells"):
        ids, systems = list(expected), []
        for label, seed in everyone:
            here = rows[label][seed].get(cell, {})
            check_aligned(expected, here, f"{reference}, {cell}", f"{label}, seed {seed}")
            systems.append([here[row_id] for row_id in ids])
        for form in forms:
            for (label, _), records in zip(everyone, systems, strict=True):
                of_cell = results[label].forms.setdefault(form, {}).setdefault(cell, [])
                of_cell.append(_bleu_in(FORMS[form], records))
        counts = count_rows(systems, lowercase=False)
        for kind in TRANSLATION_METRICS:
            metric = translation_metric(kind, systems[0][0]["target_language"], False)
            metric.num_refs = 1
            signatures[kind] = str(metric.get_signature())
            resampled = resample_together(counts[kind], n_samples, [SEED, numbers[cell]])
            for (label, _), part, sums in zip(everyone, counts[kind], resampled, strict=True):
                result = results[label]
                result.cells.setdefault(kind, {}).setdefault(cell, []).append(corpus_score(metric, part.sum(0)))
                result.draws.setdefault(kind, {}).setdefault(cell, []).append(scores_of(metric, sums))
    return signatures


def _bleu_in(form: Form, records: Sequence[Record]) -> float:
    hypotheses, references = ([form.change(record[side]) for record in records] for side in ("hypothesis", "reference"))
    metric = translation_metric("bleu", records[0]["target_language"], False)
    return float(metric.corpus_score(hypotheses, [references]).score)
