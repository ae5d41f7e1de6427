"""A study: arms x seeds x test sets, from the folders of their evaluations to intervals, tests and what they resolve.

    RUNS/<arm>/<seed>/             a run (its train_log.jsonl says how long it took)
    RUNS/<arm>/<seed>/<test>/      its evaluation on a test set

A cell is a test set and a direction; an arm's score there is the mean over its seeds, and its overall score the mean
over cells. Two things vary: which sentences were drawn, and which seed trained.

* Sentences are resampled, the same ones for all arms, and in cells of the very same sentences together.
* Two or three seeds cannot be resampled to any use. Their variance is pooled over all runs that have several; an arm
  with one seed is as uncertain as that one seed. Systems of the same runs share their seeds, so where two of them are
  compared the differences, seed by seed, are what varies. The look-up is no run and has no seed.

A difference is divided by its standard error, of both variances together, and held against Student's t with as many
degrees of freedom as that error has (Welch and Satterthwaite; the sentences' part is taken as known), on both sides.

Shapes: S resamples, N seeds of an arm, R rows, K counts (see ``bootstrap``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from comsl.errors import UsageError
from comsl.evaluation import LOOKUP
from comsl.evaluation.bootstrap import SEED, Floats, corpus_score, resample_together, scores_of
from comsl.evaluation.curves import LOG, read_log
from comsl.evaluation.forms import FORMS, Form
from comsl.evaluation.metrics import BOOTSTRAP_SAMPLES, TRANSLATION_METRICS, translation_metric
from comsl.evaluation.records import Record, read_records, read_scores
from comsl.evaluation.scoring import count_rows, direction, scorable
from comsl.evaluation.significance import check_aligned, holm, strata
from comsl.progress import track
from comsl.study.made import Made, read_made
from comsl.study.plan import Arm, Contrast, Plan
from comsl.study.student import Student

POWER, LEVEL = 0.8, 0.05


@dataclass
class Result:
    """What an arm gave, by metric ("bleu", "chrf")."""

    arm: Arm
    seeds: list[str]
    tests: Sequence[str]
    """Those that count."""
    made: Made
    rows: dict[str, int] = field(default_factory=dict)
    """Cell -> test rows."""
    cells: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Metric -> cell -> a score a seed."""
    forms: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Form of the texts -> cell -> BLEU, a seed each."""
    draws: dict[str, dict[str, Floats]] = field(default_factory=dict)
    """Metric -> cell -> the mean score over seeds in each resample of sentences, [S]."""
    seconds: list[float] = field(default_factory=list)
    """Of training, a seed each; empty where nothing was trained."""
    transcripts: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """"wer", "cer" -> cell -> a rate a seed, where the system transcribes."""
    confidence: dict[str, list[tuple[float, float | None]]] = field(default_factory=dict)
    """Test -> of a calibrated model, a seed each: mean distance of confidence and chrF, and their correlation."""

    def overall(self, metric: str, tests: Sequence[str] = ()) -> list[float]:
        """Mean over the cells of some tests, or of all that count; a seed each."""
        scores = [scores for cell, scores in self.cells[metric].items() if test_of(cell) in (tests or self.tests)]
        return [float(np.mean(of_seed)) for of_seed in zip(*scores, strict=True)]

    def resampled(self, metric: str, tests: Sequence[str] = ()) -> Floats:
        """The same, meaned over seeds, in each resample, [S]."""
        draws = [drawn for cell, drawn in self.draws[metric].items() if test_of(cell) in (tests or self.tests)]
        return np.asarray(np.mean(draws, axis=0))

    @property
    def has_seeds(self) -> bool:
        return self.arm.system != LOOKUP

    def same_runs(self, other: Result) -> bool:
        return (self.arm.trained, self.seeds) == (other.arm.trained, other.seeds)


@dataclass(frozen=True)
class Answer:
    """A contrast, answered in mean BLEU."""

    contrast: Contrast
    difference: float
    error: float
    """Standard error of the difference: sentences and seeds together."""
    p: float
    """Of both sides."""
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
    """Metric -> standard deviation of the mean score over seeds, pooled over runs; None where no arm has two seeds."""
    degrees: int
    """Degrees of freedom of that."""
    answers: list[Answer]
    signatures: dict[str, str]
    n_samples: int

    def interval(self, result: Result, metric: str) -> float:
        """Half the width of the 95% interval of the overall score."""
        seeds = _variance_of_seeds([result], self.spread[metric])
        error, degrees = _error(result.resampled(metric), seeds, self.degrees)
        return Student(degrees).quantile(0.975) * error


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
    results = {arm.label: _result(arm, runs, there[arm.label], plan.tests) for arm in plan.arms if arm.label in there}
    signatures = _score(results, there, plan.forms, n_samples)
    spread, degrees = {}, 0
    for metric in TRANSLATION_METRICS:
        spread[metric], degrees = _pooled(results.values(), metric)
    answers = _answers(plan.contrasts, results, spread["bleu"], degrees)
    missing = [arm for arm in plan.arms if arm.label not in there]
    return Study(plan, list(results.values()), missing, spread, degrees, answers, signatures, n_samples)


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


def test_of(cell: str) -> str:
    return cell.rpartition(" ")[0]


def _result(arm: Arm, runs: Path, rows: Rows, counted: Sequence[str]) -> Result:
    sizes = {cell: len(records) for cell, records in next(iter(rows.values())).items()}
    folders = {
        seed: list(dict.fromkeys(runs / arm.arm / seed / test_of(cell) for cell in cells))
        for seed, cells in rows.items()
    }
    trained = [runs / arm.trained / seed for seed in rows]
    made = read_made([path for paths in folders.values() for path in paths], trained)
    result = Result(arm, list(rows), counted, made, sizes)
    for seed, cells in rows.items():
        needed = [runs / arm.trained / seed, *([runs / arm.arm / arm.also / seed] if arm.also else [])]
        if result.has_seeds and (needed[0] / LOG).is_file():
            result.seconds.append(sum(map(training_seconds, needed)))
        scores = {path.name: read_scores(path) for path in folders[seed]}
        for cell in cells:
            test, _, languages = cell.rpartition(" ")
            transcription = scores[test]["transcription"] or {}
            rates = transcription.get(arm.system, {"pairs": {}})["pairs"].get(languages.split("-")[0])
            if rates is not None:
                for rate in ("wer", "cer"):
                    result.transcripts.setdefault(rate, {}).setdefault(cell, []).append(rates[rate])
        for test in scores:
            sure = (scores[test].get("confidence") or {}).get(arm.system)
            if sure is not None:
                result.confidence.setdefault(test, []).append((sure["error"], sure["correlation"]))
    return result


def training_seconds(run: Path) -> float:
    """Seconds that a run trained, by its log; work that was lost to an interruption is not in it."""
    return float(sum(record.get("seconds", 0.0) for record in read_log(run / LOG) if record.get("kind") == "train"))


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
            drawn: dict[str, list[Floats]] = {}
            for (label, _), part, sums in zip(everyone, counts[kind], resampled, strict=True):
                scores = results[label].cells.setdefault(kind, {}).setdefault(cell, [])
                scores.append(corpus_score(metric, part.sum(0)))
                drawn.setdefault(label, []).append(scores_of(metric, sums))
            for label, of_seeds in drawn.items():
                results[label].draws.setdefault(kind, {})[cell] = np.asarray(np.mean(of_seeds, axis=0))
    return signatures


def _bleu_in(form: Form, records: Sequence[Record]) -> float:
    hypotheses, references = ([form.change(record[side]) for record in records] for side in ("hypothesis", "reference"))
    metric = translation_metric("bleu", records[0]["target_language"], False)
    return float(metric.corpus_score(hypotheses, [references]).score)


# ------------------------------------------------------------------------------------------------------------ answers


def _pooled(results: Iterable[Result], metric: str) -> tuple[float | None, int]:
    """Standard deviation of the overall score over seeds, and its degrees of freedom: those of the runs, however many
    systems were evaluated of each (their variances are meaned)."""
    variances: dict[str, list[float]] = {}
    degrees: dict[str, int] = {}
    for result in results:
        if result.has_seeds and len(result.seeds) > 1:
            variances.setdefault(result.arm.trained, []).append(float(np.var(result.overall(metric), ddof=1)))
            degrees[result.arm.trained] = len(result.seeds) - 1
    total = sum(degrees.values())
    if not total:
        return None, 0
    return math.sqrt(sum(degrees[runs] * float(np.mean(variances[runs])) for runs in variances) / total), total


def _variance_of_seeds(results: Iterable[Result], spread: float | None) -> float:
    """Of a sum or difference of overall scores whose runs are not the same."""
    return (spread or 0.0) ** 2 * sum(1 / len(result.seeds) for result in results if result.has_seeds)


def _error(draws: Floats, seeds: float, degrees: float) -> tuple[float, float]:
    """Standard error and degrees of freedom of what varies with sentences, as drawn, and with seeds, by a variance that
    has ``degrees`` itself."""
    sentences = float(draws.var(ddof=1))
    total = sentences + seeds
    return math.sqrt(total), degrees * (total / seeds) ** 2 if seeds else math.inf


def _answers(
    contrasts: Sequence[Contrast], results: Mapping[str, Result], spread: float | None, degrees: int
) -> list[Answer]:
    asked = [contrast for contrast in contrasts if contrast.a in results and contrast.b in results]
    level = LEVEL / max(1, len(asked))
    found = []
    for contrast in asked:
        a, b = results[contrast.a], results[contrast.b]
        by_seed = np.array(b.overall("bleu", contrast.tests)), np.array(a.overall("bleu", contrast.tests))
        difference = float(by_seed[0].mean() - by_seed[1].mean())
        seeds, of_seeds = _variance_of_seeds([a, b], spread), degrees
        if a.same_runs(b) and a.has_seeds and b.has_seeds and len(a.seeds) > 1:
            of_seeds = len(a.seeds) - 1
            seeds = float((by_seed[0] - by_seed[1]).var(ddof=1)) / len(a.seeds)
        draws = b.resampled("bleu", contrast.tests) - a.resampled("bleu", contrast.tests)
        error, freedom = _error(draws, seeds, of_seeds)
        student = Student(freedom)
        # Where nothing varies (the same outputs, or no sense in any) no difference can be told.
        p = student.p(difference / error) if difference and error else 1.0
        resolves = (student.quantile(1 - level / 2) + student.quantile(POWER)) * error
        found.append((contrast, difference, error, p, resolves))
    corrected = holm({str(place): p for place, (*_, p, _) in enumerate(found)})
    return [
        Answer(contrast, difference, error, p, corrected[str(place)], resolves)
        for place, (contrast, difference, error, p, resolves) in enumerate(found)
    ]
