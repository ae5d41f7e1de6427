"""Minimum Bayes risk, on an example that can be followed by hand."""

import pytest
from sacrebleu import sentence_chrf

from comsl.inference.decode import Hypothesis
from comsl.inference.mbr import chrf, expected_chrf, least_risk


def hypotheses(*texts: str) -> list[Hypothesis]:
    return [Hypothesis(text, -0.1 * rank, [rank]) for rank, text in enumerate(texts)]


def test_the_consensus_wins_over_the_likeliest():
    """ "ab" and "ac" share one of two letters and no pair: precision and recall are (1/2 + 0) / 2, and so is chrF."""
    assert chrf("ab", "ac") == pytest.approx(0.25)
    assert chrf("ab", "xy") == 0.0
    assert expected_chrf(["xy", "ab", "ac"]) == pytest.approx([1 / 3, 1.25 / 3, 1.25 / 3])
    assert least_risk(hypotheses("xy", "ab", "ac")).text == "ab"  # the likelier of the two


def test_what_was_found_twice_counts_twice():
    assert expected_chrf(["xy", "ab", "ac", "ac"]) == pytest.approx([1 / 4, 1.5 / 4, 2.25 / 4, 2.25 / 4])
    chosen = least_risk(hypotheses("xy", "ab", "ac", "ac"))
    assert (chosen.text, chosen.tokens) == ("ac", [2])


def test_one_candidate_and_empty_ones():
    (only,) = hypotheses("anything")
    assert least_risk([only]) is only
    assert (chrf("", ""), chrf("", "ab"), chrf("ab", " ")) == (1.0, 0.0, 0.0)
    assert least_risk(hypotheses("", "ab", "ac")).text == "ab"


def test_the_utility_is_sacrebleus():
    hypothesis, reference = "the old man sees a house", "an old man saw the house"
    assert chrf(hypothesis, reference) == pytest.approx(sentence_chrf(hypothesis, [reference]).score / 100)
