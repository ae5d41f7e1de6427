"""The bootstrap from counts against sacreBLEU's own over texts: same seed, same numbers."""

from __future__ import annotations

import functools
import random

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

from comsl.evaluation import bootstrap
from comsl.evaluation.bootstrap import interval, p_value, resample, resample_together, row_counts, scores_of, signature
from comsl.evaluation.metrics import translation_metric

ROWS = 60


@pytest.fixture(scope="module")
def texts() -> tuple[list[str], list[str], list[str]]:
    """References, and two systems that get one word in four and one in five wrong."""
    rng = random.Random(3)
    words = ["".join(rng.choices("aeioudnrst", k=rng.randint(2, 6))) for _ in range(300)]
    references = [" ".join(rng.choices(words, k=rng.randint(3, 12))).capitalize() + "." for _ in range(ROWS)]

    def system(wrong: float) -> list[str]:
        return [
            " ".join(rng.choice(words) if rng.random() < wrong else word for word in text.split())
            for text in references
        ]

    return references, system(0.25), system(0.2)


@pytest.mark.parametrize("kind", ["bleu", "chrf"])
def test_equals_sacrebleu(
    kind: str, texts: tuple[list[str], list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    references, first, second = texts
    test = PairedTest(
        [("a", first), ("b", second)], {"m": translation_metric(kind, "en", False)}, [references], "bs", 500
    )
    signatures, results = test()
    (name, expected_signature) = next(iter(signatures.items()))
    expected_a, expected_b = results[name]

    monkeypatch.setattr(bootstrap, "BLOCK_ROWS", 7)
    metric = translation_metric(kind, "en", False)
    counts = row_counts(functools.partial(translation_metric, kind, "en", False), [first, second], references)
    scores = [bootstrap.corpus_score(metric, part.sum(0).tolist()) for part in counts]
    drawn = [scores_of(metric, part) for part in resample_together(counts, 500)]
    assert scores == pytest.approx([expected_a.score, expected_b.score])
    # sacreBLEU computes in single precision
    assert [interval(part) for part in drawn] == pytest.approx([expected_a.ci, expected_b.ci], abs=1e-4)
    assert p_value(*drawn, scores[1] - scores[0]) == expected_b.p_value
    assert 0.002 < expected_b.p_value < 0.5, "the test would say nothing where every draw agrees"
    assert signature(metric, 500) == str(expected_signature)


def test_signatures_without_resampling() -> None:
    for metric in (BLEU(), CHRF(word_order=2)):
        metric.corpus_score(["a b"], [["a b"]])
        assert signature(type(metric)(**({} if isinstance(metric, BLEU) else {"word_order": 2}))) == str(
            metric.get_signature()
        )


@pytest.mark.parametrize("block", [1, 100, 1 << 20])
def test_resamples_are_sums_over_the_drawn_rows(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.random.default_rng(0).integers(0, 1 << 40, size=(13, 5))
    drawn = np.random.default_rng(12345).choice(13, size=(50, 13))
    monkeypatch.setattr(bootstrap, "BLOCK_DRAWS", block)
    assert np.array_equal(resample(counts, 50), counts[drawn].sum(1)), "exactly, however large"
    together = resample_together([counts[:, :2], counts[:, 2:]], 50)
    assert np.array_equal(np.hstack(together), counts[drawn].sum(1))
    assert not np.array_equal(resample(counts, 50, seed=(12345, 1)), counts[drawn].sum(1))


def test_p_value_by_hand() -> None:
    # |b - a| = 1, 3, 2, 6; less their mean of 3: -2, 0, -1, 3. One of four exceeds 2: (1 + 1) / (4 + 1).
    a, b = np.array([5.0, 5.0, 5.0, 5.0]), np.array([6.0, 8.0, 3.0, 11.0])
    assert p_value(a, b, -2.0) == pytest.approx(0.4)
    assert p_value(a, b, 4.0) == pytest.approx(0.2)
