from pathlib import Path
from typing import Any

import numpy as np
import pytest

from comsl.data.audio import AudioError
from comsl.data.augment import AugmentSettings, add_noise, augment_waveform, change_speed, mask_features
from comsl.errors import UsageError
from tests.data.audio_files import tone, write_sound


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_nothing_by_default() -> None:
    waveform = tone(0.5)
    assert augment_waveform(waveform, AugmentSettings(), rng()) is waveform
    assert not AugmentSettings().masks_features
    features = np.ones((8, 20), np.float32)
    np.testing.assert_array_equal(mask_features(features, AugmentSettings(), rng()), features)


@pytest.mark.parametrize("factor", [0.9, 1.1, 1.25])
def test_speed_changes_length_and_pitch(factor: float) -> None:
    faster = change_speed(tone(2, frequency=400), factor)
    assert faster.size == pytest.approx(32_000 / factor, abs=1)
    strongest = np.abs(np.fft.rfft(faster)).argmax() * 16_000 / faster.size
    assert strongest == pytest.approx(400 * factor, abs=2)
    assert faster.dtype == np.float32


def test_all_speeds_are_drawn_equally_often() -> None:
    settings = AugmentSettings(speed=(0.9, 1.0, 1.1))
    sizes = [augment_waveform(tone(0.1), settings, rng(seed)).size for seed in range(600)]
    counts = {size: sizes.count(size) for size in set(sizes)}
    assert len(counts) == 3
    assert min(counts.values()) > 150


def test_speed_never_makes_a_clip_too_long() -> None:
    settings = AugmentSettings(speed=(0.5,))
    assert augment_waveform(tone(1), settings, rng(), max_duration=1.9).size == 16_000
    assert augment_waveform(tone(1), settings, rng(), max_duration=2.0).size == 32_000


def test_speed_never_makes_a_clip_too_short() -> None:
    """25 ms are 400 samples, which wav2vec 2.0 makes its first frame of."""
    settings = AugmentSettings(speed=(1.1,))
    assert augment_waveform(tone(0.026), settings, rng()).size == 416  # not 378
    assert augment_waveform(tone(0.0275), settings, rng()).size == 400


@pytest.mark.parametrize("ratio", [0.0, 10.0, 30.0])
def test_white_noise_has_its_ratio(ratio: float) -> None:
    waveform = tone(4)
    noise = add_noise(waveform, AugmentSettings(noise=1, noise_snr=(ratio, ratio)), rng()) - waveform
    assert 10 * np.log10((waveform**2).mean() / (noise**2).mean()) == pytest.approx(ratio, abs=0.01)


def test_noise_from_files(tmp_path: Path) -> None:
    """A short recording is repeated from a random place on, at the ratio asked for."""
    (tmp_path / "deep").mkdir()
    write_sound(tmp_path / "deep" / "hum.wav", tone(0.3, frequency=1000), subtype="FLOAT")
    settings = AugmentSettings(noise=1, noise_snr=(6, 6), noise_directory=str(tmp_path))
    waveform = tone(2)
    noise = add_noise(waveform, settings, rng()) - waveform
    assert np.abs(np.fft.rfft(noise)).argmax() * 0.5 == pytest.approx(1000, abs=1)
    assert 10 * np.log10((waveform**2).mean() / (noise**2).mean()) == pytest.approx(6, abs=0.01)
    (tmp_path / "none").mkdir()
    with pytest.raises(AudioError, match="no audio files"):
        add_noise(waveform, AugmentSettings(noise=1, noise_directory=str(tmp_path / "none")), rng())


def test_share_of_noisy_clips() -> None:
    waveform = tone(0.01)
    noisy = [augment_waveform(waveform, AugmentSettings(noise=0.3), rng(seed)) is not waveform for seed in range(1000)]
    assert 250 < sum(noisy) < 350


def test_silence_stays_silent() -> None:
    silence = np.zeros(1000, np.float32)
    np.testing.assert_array_equal(add_noise(silence, AugmentSettings(noise=1), rng()), silence)


@pytest.mark.parametrize("stack", [None, 1, 4])
def test_spec_augment(stack: int | None) -> None:
    """Time masks cover whole frames and at most their share, frequency masks whole bands; all of it is the mean."""
    settings = AugmentSettings(time_masks=5, time_mask_frames=30, time_mask_share=0.25, frequency_masks=2)
    for seed in range(50):
        features = rng(seed).standard_normal((80, 200)).astype(np.float32)
        given = features if stack is None else features.T.reshape(200 // stack, -1)
        kept = given.copy()
        result = mask_features(given, settings, rng(seed), stack)
        np.testing.assert_array_equal(given, kept)
        masked = result if stack is None else result.reshape(200, 80).T
        changed = masked != features
        assert np.all(masked[changed] == given.mean())
        whole_frames, whole_bands = changed.all(0), changed.all(1)
        assert whole_frames.sum() <= 50
        assert whole_bands.sum() <= 40
        np.testing.assert_array_equal(changed, whole_frames[None] | whole_bands[:, None])


def test_short_clips_can_be_masked() -> None:
    settings = AugmentSettings(time_masks=2, frequency_masks=2, frequency_mask_bands=500)
    assert mask_features(np.ones((80, 1), np.float32), settings, rng()).shape == (80, 1)


def test_one_setting_does_not_change_what_another_draws() -> None:
    alone = augment_waveform(tone(0.5), AugmentSettings(noise=1), rng(7))
    with_speed = augment_waveform(tone(0.5), AugmentSettings(noise=1, speed=(1.0,)), rng(7))
    np.testing.assert_array_equal(alone, with_speed)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"speed": [9.0]}, "augment.speed: must be factors between 0.5 and 2"),
        ({"noise": 2}, "augment.noise: must be a share"),
        ({"noise_snr": [20, 5]}, "augment.noise_snr: must be the lowest and the highest"),
        ({"time_mask_share": 1.5}, "augment.time_mask_share: "),
    ],
)
def test_settings_that_make_no_sense(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        AugmentSettings(**values)
    assert message in str(error.value)
    assert AugmentSettings(speed=[0.9, 1.1]).speed == (0.9, 1.1)  # type: ignore[arg-type]
