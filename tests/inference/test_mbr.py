"""Minimum Bayes risk, on an example that can be followed by hand."""

import math

import pytest
from sacrebleu import sentence_chrf

from comsl.inference.decode import Hypothesis
from comsl.inference.mbr import chrf, expected_chrf, least_risk, probabilities


def found(*texts: str, p: tuple[float, ...]) -> list[Hypothesis]:
    """Hypotheses of these probabilities, of two tokens and the end each."""
    return [
        Hypothesis(text, math.log(each) / 3, [rank, rank])
        for rank, (text, each) in enumerate(zip(texts, p, strict=True))
    ]


def test_the_consensus_wins_over_the_likeliest():
    """ "ab" and "ac" share one of two letters and no pair: precision and recall are (1/2 + 0) / 2, and so is chrF."""
    assert chrf("ab", "ac") == pytest.approx(0.25)
    assert chrf("ab", "xy") == 0.0
    assert expected_chrf(["xy", "ab", "ac"], [0.4, 0.35, 0.25]) == pytest.approx([0.4, 0.4125, 0.3375])
    assert least_risk(found("xy", "ab", "ac", p=(0.4, 0.35, 0.25))).text == "ab"
    assert expected_chrf(["xy", "ab", "ac"], [5, 3, 2]) == pytest.approx([0.5, 0.35, 0.275])
    assert least_risk(found("xy", "ab", "ac", p=(0.5, 0.3, 0.2))).text == "xy"  # too likely to be outvoted


def test_weights_are_probabilities_of_whole_hypotheses():
    """One token less, and the same mean: what is short is likelier."""
    long, short = Hypothesis("a", -0.5, [1, 2, 3]), Hypothesis("b", -0.5, [1, 2])
    cut = Hypothesis("c", -0.5, [1, 2], truncated=True)  # without an end
    assert probabilities([long, short, cut]) == pytest.approx(
        [math.exp(x) / (math.exp(-2) + math.exp(-1.5) + math.exp(-1)) for x in (-2, -1.5, -1)]
    )
    assert probabilities([Hypothesis("a", -900.0, [1]), Hypothesis("b", -901.0, [1])])[0] == pytest.approx(
        1 / (1 + math.exp(-2))
    )


def test_samples_count_as_often_as_they_came():
    samples = found("xy", "ab", "ac", "ac", p=(0.97, 0.01, 0.01, 0.01))
    assert expected_chrf(["xy", "ab", "ac", "ac"], [1, 1, 1, 1]) == pytest.approx([1 / 4, 1.5 / 4, 2.25 / 4, 2.25 / 4])
    assert least_risk(samples, sampled=True).tokens == [2, 2]
    assert least_risk(samples).text == "xy"


def test_each_way_of_translating_has_the_same_weight():
    """Whatever one of them thinks of its own: two that find the same outvote the third, which is surer."""
    ways = found("xy", p=(0.9,)), found("ab", p=(0.1,)), found("ab", p=(0.2,))
    assert least_risk(*ways) is ways[1][0]
    # "xy" has 0.9 + 0.2, "ab" 0.1 + 0.8.
    assert least_risk(found("xy", "ab", p=(0.9, 0.1)), found("ab", "xy", p=(0.8, 0.2))).text == "xy"


def test_one_candidate_and_empty_ones():
    (only,) = found("anything", p=(0.5,))
    assert least_risk([only]) is only
    assert (chrf("", ""), chrf("", "ab"), chrf("ab", " ")) == (1.0, 0.0, 0.0)


def test_the_utility_is_sacrebleus():
    hypothesis, reference = "the old man sees a house", "an old man saw the house"
    assert chrf(hypothesis, reference) == pytest.approx(sentence_chrf(hypothesis, [reference]).score / 100)
