from __future__ import annotations

import math

import numpy as np
import pytest

from comsl.errors import ComSLError
from comsl.inference.lookup import Lookup


def test_weights_by_hand() -> None:
    # Bigrams only. "ab" is in both rows, "bc" in the second: idf 1 and ln(3/2) + 1.
    lookup = Lookup(["ab", "abc"], ["first", "second"], (2, 2))
    rare = math.log(3 / 2) + 1
    length = math.sqrt(1 + rare**2)
    np.testing.assert_allclose(lookup.similarities("ab"), [1.0, 1.0 / length])
    np.testing.assert_allclose(lookup.similarities("bcbc"), [0.0, rare / length])
    # Of several the mean: (2, rare) of unit length.
    both = math.sqrt(4 + rare**2)
    np.testing.assert_allclose(lookup.similarities("ab", "abc"), [2 / both, (2 + rare**2) / both / length])
    np.testing.assert_allclose(lookup.similarities("xyz", ""), [0.0, 0.0])
    assert lookup.translate(["ab", "bcbc", "xyz"]) == ["first", "second", ""]


def test_equals_dense_cosines() -> None:
    generator = np.random.default_rng(0)
    texts = ["".join(generator.choice(list("ab cd"), size=12)).strip() + "e" for _ in range(20)]
    train, test = texts[:15], texts[15:]

    def grams(text: str) -> list[str]:
        return [text[i : i + n] for n in (2, 3, 4, 5) for i in range(len(text) - n + 1)]

    texts = [" ".join(text.split()) for text in texts]
    vocabulary = sorted({gram for text in texts[:15] for gram in grams(text)})
    counts = np.array([[grams(text).count(gram) for gram in vocabulary] for text in texts], dtype=float)
    idf = np.log((1 + 15) / (1 + (counts[:15] > 0).sum(0))) + 1
    vectors = counts * idf
    cosines = vectors[15:] @ (vectors[:15] / np.linalg.norm(vectors[:15], axis=1, keepdims=True)).T
    cosines /= np.linalg.norm(vectors[15:], axis=1, keepdims=True)
    lookup = Lookup(train, [str(row) for row in range(15)])
    for text, expected in zip(test, cosines, strict=True):
        np.testing.assert_allclose(lookup.similarities(text), expected, atol=1e-12)
    assert lookup.translate(test) == [str(row) for row in cosines.argmax(1)]


def test_a_training_transcript_finds_itself_whatever_its_case() -> None:
    transcripts = ["wa ámitúúngá obia", "obia wa", "s' éléngé itsωώ"]
    lookup = Lookup(transcripts, ["un", "deux", "trois"])
    assert lookup.translate([text.upper() + " " for text in transcripts]) == ["un", "deux", "trois"]


def test_first_of_equals_and_short_texts() -> None:
    assert Lookup(["abc", "abc"], ["first", "second"]).translate(["abc", "a", ""]) == ["first", "", ""]


def test_needs_rows() -> None:
    with pytest.raises(ComSLError, match="at least one"):
        Lookup([], [])
    with pytest.raises(ComSLError, match="1 transcripts for 2"):
        Lookup(["a"], ["b", "c"])
