import numpy as np
import pytest
from transformers import WhisperFeatureExtractor

from comsl.data.features import log_mel


def clip(samples: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / 16_000
    tone = 0.3 * np.sin(2 * np.pi * 300 * time * (1 + time))
    return (tone + 0.01 * rng.standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("samples", [1, 100, 160, 399, 400, 401, 16_000, 31_999, 51_237, 479_700, 479_990, 480_000])
def test_equals_first_frames_of_whisper_padded_to_30_seconds(samples: int, n_mels: int) -> None:
    waveform = clip(samples)
    padded = WhisperFeatureExtractor(feature_size=n_mels)(waveform, sampling_rate=16_000)["input_features"][0]
    mine = log_mel(waveform, n_mels)
    frames = -(-samples // 160)
    assert mine.shape == (n_mels, frames)
    assert mine.dtype == np.float32
    np.testing.assert_allclose(mine, padded[:, :frames], atol=1e-5, rtol=0)


@pytest.mark.parametrize("click", [0, 15_999, 15_900, 8_000])
def test_the_maximum_is_the_whole_clips(click: int) -> None:
    """A click in the very last samples lies mostly in frames past T, and still sets the floor of all frames."""
    waveform = 1e-3 * clip(15_999 + 1)
    waveform[click] = 1.0
    padded = WhisperFeatureExtractor()(waveform, sampling_rate=16_000)["input_features"][0]
    np.testing.assert_allclose(log_mel(waveform), padded[:, :100], atol=1e-5, rtol=0)


def test_silence_is_whispers_silence() -> None:
    silence = np.zeros(8_000, np.float32)
    np.testing.assert_array_equal(log_mel(silence), np.full((80, 50), (-10 + 4) / 4, np.float32))


def test_longer_than_30_seconds_goes_on() -> None:
    """Frames do not depend on how long the clip goes on: those of 40 s are those of its parts, by hop-aligned cuts."""
    waveform = clip(640_000)
    whole = log_mel(waveform)
    assert whole.shape == (80, 4000)
    part = log_mel(waveform[320_000:480_160])
    np.testing.assert_allclose(whole[:, 2010:2990], part[:, 10:990], atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(0,), (2, 100)])
def test_refuses_what_is_not_one_channel(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one channel"):
        log_mel(np.zeros(shape, np.float32))
