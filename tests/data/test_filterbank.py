"""Compared with transformers' own extractor."""

import numpy as np
import pytest
from transformers import SeamlessM4TFeatureExtractor

from comsl.data.filterbank import filterbank_frames, least_samples, log_filterbank
from tests.data.test_features import clip


@pytest.mark.parametrize(("samples", "stack"), [(720, 2), (16_000, 2), (16_130, 2), (51_237, 2), (880, 4), (51_237, 4)])
def test_equals_transformers(samples: int, stack: int) -> None:
    waveform = clip(samples)
    theirs = SeamlessM4TFeatureExtractor(stride=stack)(
        waveform, sampling_rate=16_000, return_tensors="np", pad_to_multiple_of=None
    )["input_features"][0]
    mine = log_filterbank(waveform, stack=stack)
    assert mine.shape == (filterbank_frames(samples, stack), 80 * stack)
    assert mine.dtype == np.float32
    np.testing.assert_allclose(mine, theirs[: len(mine)], atol=1e-4, rtol=0)


def test_the_shortest_clip() -> None:
    assert filterbank_frames(least_samples(4), 4) == 1
    assert filterbank_frames(least_samples(4) - 1, 4) == 0
    assert filterbank_frames(0) == 0
    with pytest.raises(ValueError, match="880 samples"):
        log_filterbank(clip(879), stack=4)


def test_silence_is_finite() -> None:
    np.testing.assert_allclose(log_filterbank(np.zeros(8_000, np.float32)), 0, atol=1e-6)
