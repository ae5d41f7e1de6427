"""Augmentation of training clips; everything random comes from the generator that is handed in.

Shapes: N samples at 16 kHz, M feature bands, T frames.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

from comsl.data.audio import MIN_DURATION, SAMPLE_RATE, AudioError, Waveform, load_audio
from comsl.errors import UsageError

Features = npt.NDArray[np.float32]

_AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a"}


@dataclasses.dataclass(frozen=True)
class AugmentSettings:
    """What is done to training clips. The defaults do nothing."""

    speed: tuple[float, ...] = ()
    """Factors one of which each clip is sped up by, in tempo and pitch, such as (0.9, 1.0, 1.1); all equally likely.
    A clip that the drawn factor would make longer or shorter than the model reads keeps its own speed."""

    noise: float = 0.0
    """Share of the clips that get noise added."""
    noise_snr: tuple[float, float] = (5.0, 20.0)
    """Lowest and highest signal-to-noise ratio in dB."""
    noise_directory: str | None = None
    """Audio files (any depth) a piece of which is the noise; null: white noise."""

    time_masks: int = 0
    """SpecAugment: number of time masks."""
    time_mask_frames: int = 50
    """Longest time mask in frames of 10 ms."""
    time_mask_share: float = 0.2
    """Largest share of a clip that its time masks cover together."""
    frequency_masks: int = 0
    """SpecAugment: number of frequency masks."""
    frequency_mask_bands: int = 20
    """Widest frequency mask in bands."""

    def __post_init__(self) -> None:
        for name in ("speed", "noise_snr"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        wishes = {
            "speed": (all(0.5 <= factor <= 2 for factor in self.speed), "factors between 0.5 and 2"),
            "noise": (0 <= self.noise <= 1, "a share between 0 and 1"),
            "noise_snr": (
                len(self.noise_snr) == 2 and self.noise_snr[0] <= self.noise_snr[1],
                "the lowest and the highest ratio in dB",
            ),
            "time_masks": (self.time_masks >= 0, "a number of masks"),
            "time_mask_frames": (self.time_mask_frames >= 1, "a number of frames, at least 1"),
            "time_mask_share": (0 <= self.time_mask_share <= 1, "a share between 0 and 1"),
            "frequency_masks": (self.frequency_masks >= 0, "a number of masks"),
            "frequency_mask_bands": (self.frequency_mask_bands >= 1, "a number of bands, at least 1"),
        }
        for name, (fine, wish) in wishes.items():
            if not fine:
                raise UsageError(f"augment.{name}: must be {wish}, not {getattr(self, name)}")

    @property
    def masks_features(self) -> bool:
        return bool(self.time_masks or self.frequency_masks)


def augment_waveform(
    waveform: Waveform,
    settings: AugmentSettings,
    generator: np.random.Generator,
    max_duration: float | None = None,
) -> Waveform:
    """Speed perturbation, then noise.

    Args:
        waveform: [N].
        max_duration: seconds that the result must not exceed. A clip that another speed would make longer, or shorter
            than ``MIN_DURATION``, keeps its own.

    Returns:
        [N'], a new array where anything was changed.
    """
    # Both are always drawn, so that one setting does not change what another one does.
    speed_draw, noise_draw = generator.random(2)
    if settings.speed:
        factor = settings.speed[int(speed_draw * len(settings.speed))]
        changed = change_speed(waveform, factor)
        longest = math.inf if max_duration is None else round(max_duration * SAMPLE_RATE)
        if MIN_DURATION * SAMPLE_RATE <= changed.size <= longest:
            waveform = changed
    if noise_draw < settings.noise:
        waveform = add_noise(waveform, settings, generator)
    return waveform


def change_speed(waveform: Waveform, factor: float) -> Waveform:
    """[N] -> about [N / factor]: played ``factor`` times as fast, so higher where it is faster."""
    if factor == 1.0:
        return waveform
    faster = soxr.resample(waveform, SAMPLE_RATE * factor, SAMPLE_RATE).astype(np.float32, copy=False)
    return faster if faster.size else waveform


def add_noise(waveform: Waveform, settings: AugmentSettings, generator: np.random.Generator) -> Waveform:
    """[N] -> [N] with noise at a signal-to-noise ratio drawn uniformly in dB. Digital silence stays silent."""
    ratio = generator.uniform(*settings.noise_snr)
    if settings.noise_directory is None:
        noise = generator.standard_normal(waveform.size, dtype=np.float32)
    else:
        files = noise_files(settings.noise_directory)
        recording = load_audio(files[int(generator.integers(len(files)))])
        start = int(generator.integers(recording.size))
        noise = np.resize(np.roll(recording, -start), waveform.size)
    signal_power = float(np.square(waveform, dtype=np.float64).mean())
    noise_power = float(np.square(noise, dtype=np.float64).mean())
    if signal_power == 0 or noise_power == 0:
        return waveform
    gain = math.sqrt(signal_power / noise_power / 10 ** (ratio / 10))
    return waveform + np.float32(gain) * noise


@functools.lru_cache(maxsize=8)
def noise_files(directory: str) -> tuple[Path, ...]:
    """Audio files under a directory, sorted. Raises AudioError if there are none."""
    files = tuple(sorted(path for path in Path(directory).rglob("*") if path.suffix.lower() in _AUDIO_SUFFIXES))
    if not files:
        raise AudioError(f"{directory}: no audio files in it to take noise from (augment.noise_directory)")
    return files


def mask_features(
    features: Features, settings: AugmentSettings, generator: np.random.Generator, stack: int | None = None
) -> Features:
    """SpecAugment (Park et al., 2019) without time warping.

    Each mask's width is uniform between 0 and its maximum; time masks stop where together they would exceed
    ``time_mask_share`` of the clip. What is masked takes the clip's mean.

    Args:
        features: [M, T] (Whisper's), or [T, S * M] with S = ``stack``: each row is S frames one after the other.

    Returns:
        A masked copy.
    """
    masked = features.copy()
    by_time = masked if stack is None else masked.reshape(len(masked) * stack, -1).T
    bands, frames = by_time.shape
    mean = features.mean()
    for _ in range(settings.frequency_masks):
        width = int(generator.integers(min(settings.frequency_mask_bands, bands) + 1))
        start = int(generator.integers(bands - width + 1))
        by_time[start : start + width] = mean
    left = int(settings.time_mask_share * frames)
    for _ in range(settings.time_masks):
        width = int(generator.integers(min(settings.time_mask_frames, left) + 1))
        start = int(generator.integers(frames - width + 1))
        by_time[:, start : start + width] = mean
        left -= width
    return masked
