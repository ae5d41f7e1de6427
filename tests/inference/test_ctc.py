"""The CTC head's transcript and its score, against every path spelled out."""

import math
from itertools import groupby, product
from types import SimpleNamespace

import pytest
import torch

from comsl.inference.ctc import best_together, ctc_scores, greedy_transcript, sampled_transcripts
from comsl.inference.decode import Hypothesis

SYMBOLS = ["<blank>", " ", "a", "b"]
SPELLER = SimpleNamespace(ctc_ids=lambda text: ([SYMBOLS.index(letter) for letter in text], 0))


def log_probs(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(frames, 4, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)


def spelled(path: tuple[int, ...]) -> str:
    return "".join(SYMBOLS[symbol] for symbol, _ in groupby(path) if symbol)


def test_repeats_and_blanks_fall_away():
    path = [2, 2, 0, 2, 1, 1, 0, 3, 3, 0]  # a a _ a " " " " _ b b _
    certain = torch.full((10, 4), -5.0)
    certain[range(10), path] = torch.tensor([-0.1] * 5 + [-0.3] * 5)
    found = greedy_transcript(certain, SYMBOLS)
    assert (found.text, found.tokens, found.truncated) == ("aa b", [2, 2, 1, 3], False)
    assert found.score == pytest.approx(-0.2)
    assert greedy_transcript(certain[2:3], SYMBOLS).text == ""


def test_what_is_drawn_comes_as_often_as_it_is_likely():
    frames = log_probs(4)
    drawn = sampled_transcripts(frames, SYMBOLS, 4000)
    assert drawn == sampled_transcripts(frames, SYMBOLS, 4000)
    of_text: dict[str, float] = {}
    for path in product(range(4), repeat=4):
        probability = math.exp(sum(frames[place, symbol].item() for place, symbol in enumerate(path)))
        text = " ".join(spelled(path).split())
        of_text[text] = of_text.get(text, 0.0) + probability
    for text, probability in of_text.items():
        assert drawn.count(text) / 4000 == pytest.approx(probability, abs=0.03)  # four standard errors of a half


def test_the_score_is_the_sum_over_all_alignments():
    frames = log_probs(4)
    of_text: dict[str, float] = {}
    for path in product(range(4), repeat=4):
        probability = math.exp(sum(frames[place, symbol].item() for place, symbol in enumerate(path)))
        of_text[spelled(path)] = of_text.get(spelled(path), 0.0) + probability
    texts = ["ab", "aa", "", "b a", "abab"]
    assert ctc_scores(frames, texts, SPELLER) == pytest.approx([math.log(of_text[text]) for text in texts], abs=1e-5)
    assert ctc_scores(frames, ["ababa"], SPELLER) == [-math.inf]


def test_the_weight_moves_the_choice_from_the_decoder_to_the_ctc_head():
    frames = torch.full((2, 4), -4.0)
    frames[0, 3] = frames[1, 2] = -0.05  # "ba"
    candidates = [Hypothesis("ab", -0.2, [1, 2]), Hypothesis("ba", -0.3, [2, 1])]
    heard = ctc_scores(frames, ["ab", "ba"], SPELLER)
    assert heard == pytest.approx([-8.0, -0.1])
    # Three tokens each, the end included: -0.6 and -0.9 of the decoder.
    even = 0.3 / (0.3 + 7.9)  # where (1 - w) 0.3 = w 7.9
    for weight, wanted in ((0.0, "ab"), (even - 0.01, "ab"), (even + 0.01, "ba"), (1.0, "ba")):
        assert best_together(candidates, frames, SPELLER, weight, 1.0).text == wanted
    assert best_together(candidates, frames[:1], SPELLER, 0.5, 1.0) is candidates[0]  # one frame spells neither
