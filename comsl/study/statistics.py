"""A study's intervals and answers, and what its design resolves.

An arm's score is the mean over its seeds and over cells. Two things vary: which sentences were drawn, and which seed
trained.

* Sentences are resampled, the same ones for all arms, and in cells of the very same sentences together.
* Two or three seeds cannot be resampled to any use. Their variance is pooled over all runs that have several; an arm
  with one seed is as uncertain as that one seed. What two seeds make differently of the same sentences is in that
  variance and in the one over sentences too: it is taken out of the former.
* Systems of the same runs share their seeds, so where two of them are compared the differences, seed by seed, are what
  varies, pooled over all such comparisons of these runs; of a single run nothing is known of that, and the comparison
  is about sentences alone. The look-up is no run and has no seed.

A difference is divided by its standard error, of both variances together, and held against Student's t with as many
degrees of freedom as that error has (Welch and Satterthwaite; the sentences' part is taken as known), on both sides.

Shapes: S resamples, N seeds of an arm.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from comsl.evaluation.bootstrap import Floats
from comsl.evaluation.metrics import BOOTSTRAP_SAMPLES, TRANSLATION_METRICS
from comsl.evaluation.significance import holm
from comsl.study.plan import Arm, Contrast, Plan
from comsl.study.results import Result, read_results
from comsl.study.student import Student

POWER, LEVEL = 0.8, 0.05


@dataclass(frozen=True)
class Seeds:
    """How scores vary from seed to seed."""

    variance: float
    """Of one seed's score, over seeds, on the same sentences."""
    shared: float
    """As much of it as is chance in sentences: what seeds make differently of the same ones."""
    degrees: int
    """Of freedom."""

    @property
    def own(self) -> float:
        return max(0.0, self.variance - self.shared)

    @classmethod
    def of(cls, scores: Floats, draws: Floats) -> Seeds:
        """Of one group of runs, from their scores [N], N > 1, and those of the resamples [N, S]."""
        n = len(scores)
        apart = float((draws - draws.mean(axis=0)).var(axis=1, ddof=1).mean()) * n / (n - 1)
        return cls(float(scores.var(ddof=1)), apart, n - 1)

    @classmethod
    def pooled(cls, groups: Collection[Sequence[Seeds]]) -> Seeds | None:
        """Over groups of runs, each by its degrees of freedom, however many systems were evaluated of each (they are
        meaned); None if there are none."""
        if not groups:
            return None
        degrees = [group[0].degrees for group in groups]
        variances = [np.mean([seeds.variance for seeds in group]) for group in groups]
        shared = [np.mean([seeds.shared for seeds in group]) for group in groups]
        return cls(
            float(np.average(variances, weights=degrees)), float(np.average(shared, weights=degrees)), sum(degrees)
        )


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
    seeds: dict[str, Seeds | None]
    """Metric -> how the overall score varies, pooled over runs; None where no arm has two seeds."""
    answers: list[Answer]
    signatures: dict[str, str]
    n_samples: int

    def interval(self, result: Result, metric: str) -> float:
        """Half the width of the 95% interval of the overall score."""
        weight = 1 / len(result.seeds) if result.has_seeds else 0.0
        error, degrees = _error(result.resampled(metric).mean(axis=0), self.seeds[metric], weight)
        return Student(degrees).quantile(0.975) * error


def run_study(plan: Plan, runs: Path, n_samples: int = BOOTSTRAP_SAMPLES) -> Study:
    """Read all evaluations and answer the plan's questions; raises what ``read_results`` raises."""
    results, signatures = read_results(plan, runs, n_samples)
    seeds = {metric: _over_runs(results.values(), metric) for metric in TRANSLATION_METRICS}
    missing = [arm for arm in plan.arms if arm.label not in results]
    answers = _answers(plan.contrasts, results)
    return Study(plan, list(results.values()), missing, seeds, answers, signatures, n_samples)


def _over_runs(results: Iterable[Result], metric: str, tests: Sequence[str] = ()) -> Seeds | None:
    """How the score over some tests, or all that count, varies from seed to seed."""
    groups: dict[tuple[str, ...], list[Seeds]] = {}
    for result in results:
        if result.has_seeds and len(result.seeds) > 1:
            seeds = Seeds.of(result.overall(metric, tests), result.resampled(metric, tests))
            groups.setdefault(result.runs, []).append(seeds)
    return Seeds.pooled(groups.values())


def _error(draws: Floats, seeds: Seeds | None, weight: float) -> tuple[float, float]:
    """Standard error and its degrees of freedom.

    Args:
        draws: [S], the value in each resample of sentences.
        weight: of one seed's variance: 1 / N for a mean of N of them; 0: nothing that has a seed.
    """
    sentences = float(draws.var(ddof=1))
    if seeds is None or not weight or not seeds.variance:
        return math.sqrt(sentences), math.inf
    total = sentences + seeds.own * weight
    return math.sqrt(total), seeds.degrees * (total / (seeds.variance * weight)) ** 2


# ------------------------------------------------------------------------------------------------------------ answers

Asked = tuple[Contrast, Result, Result]
"""With its a and b."""


def _answers(contrasts: Sequence[Contrast], results: Mapping[str, Result]) -> list[Answer]:
    asked = [
        (contrast, results[contrast.a], results[contrast.b])
        for contrast in contrasts
        if contrast.a in results and contrast.b in results
    ]
    level = LEVEL / max(1, len(asked))
    found = []
    for contrast, a, b in asked:
        difference = float(b.overall("bleu", contrast.tests).mean() - a.overall("bleu", contrast.tests).mean())
        draws = b.resampled("bleu", contrast.tests).mean(axis=0) - a.resampled("bleu", contrast.tests).mean(axis=0)
        if _same_runs(a, b):
            seeds = _of_differences(asked, contrast, a.runs) if len(a.seeds) > 1 else None
            error, degrees = _error(draws, seeds, 1 / len(a.seeds))
        else:
            weight = sum(1 / len(result.seeds) for result in (a, b) if result.has_seeds)
            error, degrees = _error(draws, _over_runs(results.values(), "bleu", contrast.tests), weight)
        student = Student(degrees)
        # Where nothing varies (the same outputs, or no sense in any) no difference can be told.
        p = student.p(difference / error) if difference and error else 1.0
        resolves = (student.quantile(1 - level / 2) + student.quantile(POWER)) * error
        found.append((contrast, difference, error, p, resolves))
    corrected = holm({str(place): p for place, (*_, p, _) in enumerate(found)})
    return [
        Answer(contrast, difference, error, p, corrected[str(place)], resolves)
        for place, (contrast, difference, error, p, resolves) in enumerate(found)
    ]


def _same_runs(a: Result, b: Result) -> bool:
    return a.runs == b.runs and a.has_seeds and b.has_seeds


def _of_differences(asked: Sequence[Asked], contrast: Contrast, runs: tuple[str, ...]) -> Seeds | None:
    """How differences between systems of these runs vary from seed to seed: of all that are asked about over the same
    tests."""
    tests = contrast.tests
    return Seeds.pooled(
        [
            [
                Seeds.of(
                    b.overall("bleu", tests) - a.overall("bleu", tests),
                    b.resampled("bleu", tests) - a.resampled("bleu", tests),
                )
                for other, a, b in asked
                if a.runs == runs and _same_runs(a, b) and list(other.tests) == list(tests)
            ]
        ]
    )
