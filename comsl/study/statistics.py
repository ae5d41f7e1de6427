"""A study: arms x seeds x test sets, from the folders of their evaluations to intervals, tests and what they resolve.

    RUNS/<arm>/<seed>/             a run (its train_log.jsonl says how long it took)
    RUNS/<arm>/<seed>/<test>/      its evaluation on a test set

A cell is a test set and a direction; an arm's score there is the mean over its seeds, and its overall score the mean
over cells. Two things vary: which sentences were drawn, and which seed trained. Sentences are resampled, the same ones
for all arms. Two or three seeds cannot be resampled to any use, so their part is drawn from a normal distribution whose
spread is that of all arms with several seeds, pooled; an arm with one seed is as uncertain as that one seed.

Shapes: S resamples, N seeds of an arm, R rows, K counts (see ``bootstrap``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist

import numpy as np

from comsl.errors import UsageError
from comsl.evaluation.bootstrap import SEED, Floats, corpus_score, p_value, resample_together, scores_of
from comsl.evaluation.curves import LOG, read_log
from comsl.evaluation.metrics import BOOTSTRAP_SAMPLES, TRANSLATION_METRICS, translation_metric
from comsl.evaluation.records import Record, read_records, read_scores
from comsl.evaluation.scoring import count_rows, direction, scorable
from comsl.evaluation.significance import check_aligned, holm
from comsl.progress import track
from comsl.study.plan import Arm, Contrast, Plan

POWER, LEVEL = 0.8, 0.05


@dataclass
class Result:
    """What an arm gave, by metric ("bleu", "chrf")."""

    arm: Arm
    seeds: list[str]
    rows: dict[str, int] = field(default_factory=dict)
    """Cell -> test rows."""
    beside: tuple[str, ...] = ()
    """Test sets that do not count."""
    cells: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Metric -> cell -> a score a seed."""
    draws: dict[str, Floats] = field(default_factory=dict)
    """Metric -> the overall score in each resample of sentences, [S]."""
    seconds: list[float] = field(default_factory=list)
    """Of training, a seed each; empty where nothing was trained."""
    transcripts: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """"wer", "cer" -> cell -> a rate a seed, where the system transcribes."""
    confidence: dict[str, list[tuple[float, float | None]]] = field(default_factory=dict)
    """Test -> of a calibrated model, a seed each: mean distance of confidence and chrF, and their correlation."""

    def overall(self, metric: str) -> list[float]:
        """Mean over cells, a seed each."""
        counted = [scores for cell, scores in self.cells[metric].items() if self.counts(cell)]
        return [float(np.mean(scores)) for scores in zip(*counted, strict=True)]

    def counts(self, cell: str) -> bool:
        return cell.rpartition(" ")[0] not in self.beside


@dataclass(frozen=True)
class Answer:
    """A contrast, answered in overall BLEU."""

    contrast: Contrast
    difference: float
    error: float
    """Standard error of the difference: sentences and seeds together."""
    p: float
    p_holm: float
    resolves: float
    """Smallest true difference that would be found four times out of five at the strictest of Holm's levels."""


@dataclass(frozen=True)
class Study:
    plan: Plan
    results: list[Result]
    missing: list[Arm]
    """Arms without any finished evaluation."""
    spread: dict[str, float | None]
    """Metric -> standard deviation over seeds, pooled over arms; None where no arm has two."""
    degrees: int
    """Degrees of freedom of that."""
    answers: list[Answer]
    signatures: dict[str, str]

    def interval(self, result: Result, metric: str) -> float:
        """Half the width of the 95% interval of the overall score."""
        seeds = (self.spread[metric] or 0.0) ** 2 / len(result.seeds)
        return NormalDist().inv_cdf(0.975) * math.sqrt(float(result.draws[metric].var(ddof=1)) + seeds)


def run_study(plan: Plan, runs: Path, n_samples: int = BOOTSTRAP_SAMPLES) -> Study:
    """Read all evaluations and answer the plan's questions.

    Raises:
        UsageError: no arm has an evaluation; an arm lacks one of its tests, or a system.
        ComparisonError: evaluations of the same test over other rows.
    """
    found = {arm.label: _read(arm, runs, [*plan.tests, *plan.beside]) for arm in plan.arms}
    there = {label: rows for label, rows in found.items() if rows is not None}
    if not there:
        raise UsageError(f"{runs} holds no evaluation of any arm: <arm>/<seed>/<test> is where they are looked for")
    results = {
        arm.label: _result(arm, runs, there[arm.label], tuple(plan.beside)) for arm in plan.arms if arm.label in there
    }
    signatures = _score(results, there, n_samples)
    spread, degrees = {}, 0
    for metric in TRANSLATION_METRICS:
        spread[metric], degrees = _pooled(result.overall(metric) for result in results.values())
    answers = _answers(plan.contrasts, results, spread["bleu"])
    missing = [arm for arm in plan.arms if arm.label not in there]
    return Study(plan, list(results.values()), missing, spread, degrees, answers, signatures)


# ------------------------------------------------------------------------------------------------------------ reading

Rows = dict[str, dict[str, dict[str, Record]]]
"""Seed -> cell -> id -> record."""


def _read(arm: Arm, runs: Path, tests: Sequence[str]) -> Rows | None:
    """None: the arm has no evaluation at all."""
    folders = sorted(path for path in (runs / arm.arm).glob("*") if any((path / test).is_dir() for test in tests))
    found: Rows = {}
    for folder in folders:
        cells: dict[str, dict[str, Record]] = {}
        for test in tests:
            read_scores(folder / test)  # whether it is finished
            records = [record for record in read_records(folder / test) if record["system"] == arm.system]
            for record in filter(scorable, records):
                cells.setdefault(f"{test} {direction(record)}", {})[record["id"]] = record
            if not records:
                raise UsageError(f"{folder / test} holds no rows of the system {arm.system!r} (arm {arm.label})")
        found[folder.name] = cells
    return found or None


def _result(arm: Arm, runs: Path, rows: Rows, beside: tuple[str, ...]) -> Result:
    sizes = {cell: len(records) for cell, records in next(iter(rows.values())).items()}
    result = Result(arm, list(rows), sizes, beside)
    for seed, cells in rows.items():
        folders = [runs / arm.arm / seed, *([runs / arm.arm / arm.also / seed] if arm.also else [])]
        if (folders[0] / LOG).is_file():
            result.seconds.append(sum(map(training_seconds, folders)))
        tests = dict.fromkeys(cell.rpartition(" ")[0] for cell in cells)
        scores = {test: read_scores(runs / arm.arm / seed / test) for test in tests}
        for cell in cells:
            test, _, languages = cell.rpartition(" ")
            transcription = scores[test]["transcription"] or {}
            rates = transcription.get(arm.system, {"pairs": {}})["pairs"].get(languages.split("-")[0])
            if rates is not None:
                for rate in ("wer", "cer"):
                    result.transcripts.setdefault(rate, {}).setdefault(cell, []).append(rates[rate])
        for test in tests:
            sure = (scores[test].get("confidence") or {}).get(arm.system)
            if sure is not None:
                result.confidence.setdefault(test, []).append((sure["error"], sure["correlation"]))
    return result


def training_seconds(run: Path) -> float:
    """Seconds that a run trained, by its log; work that was lost to an interruption is not in it."""
    return float(sum(record.get("seconds", 0.0) for record in read_log(run / LOG) if record.get("kind") == "train"))


# ------------------------------------------------------------------------------------------------------------ scoring


def _score(results: Mapping[str, Result], rows: Mapping[str, Rows], n_samples: int) -> dict[str, str]:
    """Fills in scores and resamples; sentences are drawn cell by cell, the same ones for everyone."""
    reference = max(rows, key=lambda label: len(next(iter(rows[label].values()))))
    cells = next(iter(rows[reference].values()))
    everyone = [(label, seed) for label, seeds in rows.items() for seed in seeds]
    totals: dict[str, dict[str, list[Floats]]] = {kind: {label: [] for label in rows} for kind in TRANSLATION_METRICS}
    signatures = {}
    for place, (cell, expected) in enumerate(track(cells.items(), description="bootstrap", unit="cells")):
        ids, systems = list(expected), []
        for label, seed in everyone:
            here = rows[label][seed].get(cell, {})
            check_aligned(expected, here, f"{reference}, {cell}", f"{label}, seed {seed}")
            systems.append([here[row_id] for row_id in ids])
        counts = count_rows(systems, lowercase=False)
        for kind in TRANSLATION_METRICS:
            metric = translation_metric(kind, systems[0][0]["target_language"], False)
            metric.num_refs = 1
            signatures[kind] = str(metric.get_signature())
            drawn = resample_together(counts[kind], n_samples, [SEED, place])
            for (label, _), part, sums in zip(everyone, counts[kind], drawn, strict=True):
                scores = results[label].cells.setdefault(kind, {}).setdefault(cell, [])
                scores.append(corpus_score(metric, part.sum(0)))
                if results[label].counts(cell):
                    totals[kind][label].append(scores_of(metric, sums))
    for kind, by_label in totals.items():
        for label, draws in by_label.items():
            results[label].draws[kind] = np.mean(draws, axis=0)
    return signatures


def _pooled(scores: Iterable[Sequence[float]]) -> tuple[float | None, int]:
    """Standard deviation within groups, and its degrees of freedom."""
    groups = [np.array(group) for group in scores if len(group) > 1]
    degrees = sum(len(group) - 1 for group in groups)
    if not degrees:
        return None, 0
    return math.sqrt(sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / degrees), degrees


def _answers(contrasts: Sequence[Contrast], results: Mapping[str, Result], spread: float | None) -> list[Answer]:
    asked = [contrast for contrast in contrasts if contrast.a in results and contrast.b in results]
    found = []
    for place, contrast in enumerate(asked):
        a, b = results[contrast.a], results[contrast.b]
        difference = float(np.mean(b.overall("bleu")) - np.mean(a.overall("bleu")))
        seeds = (spread or 0.0) * math.sqrt(1 / len(a.seeds) + 1 / len(b.seeds))
        noise = np.random.default_rng([SEED, 1, place]).normal(0.0, seeds, len(a.draws["bleu"]))
        draws = b.draws["bleu"] - a.draws["bleu"]
        error = math.sqrt(float(draws.var(ddof=1)) + seeds**2)
        # Where nothing varies (the same outputs, or no sense in any) the test would call no difference significant.
        p = p_value(a.draws["bleu"], b.draws["bleu"] + noise, difference) if difference and error else 1.0
        found.append((contrast, difference, error, p))
    corrected = holm({str(place): p for place, (*_, p) in enumerate(found)})
    strictest = NormalDist().inv_cdf(1 - LEVEL / (2 * max(1, len(found)))) + NormalDist().inv_cdf(POWER)
    return [
        Answer(contrast, difference, error, p, corrected[str(place)], strictest * error)
        for place, (contrast, difference, error, p) in enumerate(found)
    ]
