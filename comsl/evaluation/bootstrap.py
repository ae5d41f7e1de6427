"""Corpus scores and their bootstrap, from counts that every row is reduced to once.

BLEU and chrF++ of a set of rows are functions of sums over its rows (n-grams, matches, lengths). A resample is then one
line of a matrix product, how often each row was drawn x counts of the rows: no text is touched again, and memory does
not grow with rows x resamples (sacreBLEU's own bootstrap of 150,000 rows would take 14 GB). Draws, interval and p are
sacreBLEU's to the letter, from the same seed, and so is the signature.

Shapes: R rows, S resamples, K counts (10 of BLEU, 24 of chrF++).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sacrebleu.metrics.base import Metric
from sacrebleu.significance import estimate_ci

SEED = 12345
"""sacreBLEU's."""
BLOCK_ROWS = 1000
"""Rows whose references are cut into n-grams at a time: all n-grams of a test set would take a gigabyte."""
BLOCK_DRAWS = 1 << 20
"""Draws (rows x resamples) held at a time."""

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def row_counts(
    make_metric: Callable[[Sequence[str]], Metric], systems: Sequence[Sequence[str]], references: Sequence[str]
) -> list[Counts]:
    """Counts of every row, [R, K], of several systems whose rows have the same references.

    Args:
        make_metric: a BLEU or CHRF that holds these references, which are cut into n-grams once for all systems.
        systems: the hypotheses of each, R strings.
    """
    blocks: list[list[Any]] = [[] for _ in systems]
    for start in range(0, len(references), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        metric = make_metric(references[block])
        for counts, hypotheses in zip(blocks, systems, strict=True):
            counts += metric._extract_corpus_statistics(hypotheses[block], None)
    return [np.array(counts, dtype=np.int64) for counts in blocks]


def corpus_score(metric: Metric, totals: Sequence[float]) -> float:
    """The metric of a corpus, 0 to 100, from its K summed counts."""
    return float(metric._compute_score_from_stats(list(totals)).score)


def scores_of(metric: Metric, totals: Floats) -> Floats:
    """The metric of each of S resamples, [S], from their counts [S, K]."""
    return np.array([corpus_score(metric, row) for row in totals.tolist()])


def resample(counts: Counts, n_samples: int, seed: int | Sequence[int] = SEED) -> Floats:
    """Summed counts of S resamples of R rows, drawn with replacement: [R, K] -> [S, K].

    Counts of several systems or metrics that stand side by side in K are drawn together. Sums are exact.
    """
    rng = np.random.default_rng(seed)
    values = counts.astype(np.float64)
    return np.concatenate([weights @ values for weights in _draws(rng, len(counts), n_samples)])


def resample_together(parts: Sequence[Counts], n_samples: int, seed: int | Sequence[int] = SEED) -> list[Floats]:
    """``resample`` of several [R, K] with the same draws."""
    ends = np.cumsum([part.shape[1] for part in parts])[:-1]
    return np.split(resample(np.hstack(parts), n_samples, seed), ends, axis=1)


def _draws(rng: np.random.Generator, rows: int, n_samples: int) -> Iterator[Floats]:
    """How often each row is in each resample, [some of S, R]."""
    most = max(1, BLOCK_DRAWS // rows)
    for start in range(0, n_samples, most):
        size = min(most, n_samples - start)
        drawn = rng.choice(rows, size=(size, rows), replace=True) + np.arange(size)[:, None] * rows
        yield np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)


def interval(scores: Floats) -> float:
    """Half the width of the 95% interval of resampled scores, [S]."""
    return float(estimate_ci(scores)[1])


def p_value(scores_a: Floats, scores_b: Floats, difference: float) -> float:
    """Of the null hypothesis that two systems do not differ, from the scores of their resamples, [S] each.

    The share of resamples whose absolute difference, centred, exceeds the real one; never zero.
    """
    differences = np.abs(scores_b - scores_a)
    exceeding = np.count_nonzero(differences - differences.mean() > abs(difference))
    return (exceeding + 1) / (len(differences) + 1)


def signature(metric: Metric, n_samples: int = 0) -> str:
    """sacreBLEU's signature of a metric over one reference a row, with the resampling where there was one."""
    metric.num_refs = 1
    found = metric.get_signature()
    if n_samples:
        found.update("bs", n_samples)
        found.update("seed", str(SEED))
    return str(found)
