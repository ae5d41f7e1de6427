"""Minimum Bayes risk: of several hypotheses, the one that agrees most with all of them.

The likeliest translation is not the one that is likely to be least wrong. Taken as samples of what the reference may
be, the candidates say themselves how well each of them would do: by the mean of its chrF against every candidate
(Kumar and Byrne 2004; Eikema and Aziz 2020). One that the search, or several ways of translating, found more than once
counts as often.
"""

import functools
from collections import Counter
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


def expected_chrf(texts: Sequence[str]) -> list[float]:
    """Mean chrF of each text against all of them, itself included."""
    counts = Counter(texts)
    of_text = {text: sum(count * chrf(text, other) for other, count in counts.items()) / len(texts) for text in counts}
    return [of_text[text] for text in texts]


def least_risk(candidates: Sequence[Hypothesis]) -> Hypothesis:
    """The candidate of the highest expected chrF; the first one of several."""
    if len(candidates) == 1:
        return candidates[0]
    utilities = expected_chrf([candidate.text for candidate in candidates])
    return candidates[utilities.index(max(utilities))]
