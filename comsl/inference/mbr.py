"""Minimum Bayes risk: of several hypotheses, the one that is likely to be least wrong.

The likeliest translation need not be it. The candidates, each with its probability, stand for what the reference may
be, and say themselves how well each of them would do: by the expectation of its chrF over them (Kumar and Byrne 2004;
Eikema and Aziz 2020). Hypotheses of a beam are weighted by the model's probabilities; samples are not, having come in
proportion to them. Where several ways of translating are pooled, each has the same weight in sum, and a translation
that several of them find has the weights of all.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

from comsl.inference.options import Hypothesis


def chrf(hypothesis: str, reference: str) -> float:
    """sacreBLEU's chrF2 of one sentence (character n-grams up to 6, no words), 0 to 1; two empty ones agree."""
    if not hypothesis.strip() or not reference.strip():
        return float(hypothesis.strip() == reference.strip())
    return float(_metric().sentence_score(hypothesis, [reference]).score) / 100


@functools.cache
def _metric() -> Any:
    from sacrebleu.metrics.chrf import CHRF  # plain translating does without

    return CHRF()


def expected_chrf(texts: Sequence[str], weights: Sequence[float]) -> list[float]:
    """Weighted mean of the chrF of each text against all of them, itself included.

    Args:
        weights: any positive numbers.
    """
    masses: dict[str, float] = {}
    for text, weight in zip(texts, weights, strict=True):
        masses[text] = masses.get(text, 0.0) + weight
    total = sum(masses.values())
    of_text = {text: sum(mass * chrf(text, other) for other, mass in masses.items()) / total for text in masses}
    return [of_text[text] for text in texts]


def probabilities(candidates: Sequence[Hypothesis]) -> list[float]:
    """The model's probabilities of the candidates, which it is taken to choose among."""
    best = max(candidate.log_probability for candidate in candidates)
    masses = [math.exp(candidate.log_probability - best) for candidate in candidates]
    return [mass / sum(masses) for mass in masses]


def least_risk(
    *lists: Sequence[Hypothesis], sampled: bool = False, recalled: Sequence[tuple[Hypothesis, float]] = ()
) -> Hypothesis:
    """The candidate of the highest expected chrF; the first one of several.

    Args:
        lists: candidates, a list each way of translating.
        sampled: they are samples, equally likely as they are.
        recalled: candidates from elsewhere with their weights; a list has 1.
    """
    candidates = [candidate for found in lists for candidate in found] + [candidate for candidate, _ in recalled]
    if len(candidates) == 1:
        return candidates[0]
    weights = [
        weight
        for found in lists
        for weight in ([1 / len(found)] * len(found) if sampled or len(found) == 1 else probabilities(found))
    ]
    weights += [weight for _, weight in recalled]
    utilities = expected_chrf([candidate.text for candidate in candidates], weights)
    return candidates[utilities.index(max(utilities))]
