"""Log-mel features of one clip at its true length.

Whisper's own extractor pads every clip to 30 seconds of which most is silence. This one gives the frames of the clip
and nothing else, with the same values: the samples beyond the clip's end are zeros in both, and the clamp to eight
orders of magnitude below the maximum uses the maximum over the whole clip in both.

Shapes: N samples at 16 kHz, M mel bands, T = ceil(N / 160) frames (100 a second).
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import torch
from transformers.audio_utils import mel_filter_bank

from comsl.data.constants import SAMPLE_RATE

N_FFT = 400
HOP = 160
WHISPER_SAMPLES = 480_000
"""Samples that Whisper's extractor pads to."""

# Frames T and T + 1 still overlap the clip's last samples, so they count for the maximum: four more hops hold both of
# them, their windows and the reflection at the padded end, which then mirrors zeros only.
_RIGHT_PADDING = 4 * HOP


@functools.lru_cache(maxsize=8)
def _constants(n_mels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Hann window [N_FFT] and mel filters [M, N_FFT // 2 + 1]."""
    filters = mel_filter_bank(
        num_frequency_bins=1 + N_FFT // 2,
        num_mel_filters=n_mels,
        min_frequency=0.0,
        max_frequency=8000.0,
        sampling_rate=SAMPLE_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.hann_window(N_FFT), torch.from_numpy(filters).to(torch.float32).T.contiguous()


def log_mel(waveform: npt.NDArray[np.float32], n_mels: int = 80) -> npt.NDArray[np.float32]:
    """Log-mel spectrogram as Whisper reads it.

    Args:
        waveform: [N] mono, 16 kHz, N >= 1.
        n_mels: 80, or 128 for Whisper large-v3.

    Returns:
        [M, T] float32, T = ceil(N / 160): within 1e-5 of the first T frames of transformers' WhisperFeatureExtractor
        for clips up to its 30 seconds; longer clips, which it would cut, go on the same way.

    Raises:
        ValueError: not one channel, or no samples.
    """
    samples = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))
    if samples.dim() != 1 or samples.numel() == 0:
        raise ValueError(f"log_mel needs samples of one channel, got an array of shape {tuple(samples.shape)}")
    length = samples.numel()
    frames = -(-length // HOP)
    # Within four hops of 30 s Whisper's padded clip ends here, and its reflection mirrors the clip itself.
    right = min(_RIGHT_PADDING, WHISPER_SAMPLES - length) if length <= WHISPER_SAMPLES else _RIGHT_PADDING
    window, filters = _constants(n_mels)
    padded = torch.nn.functional.pad(samples, (0, right))
    spectrum = torch.stft(padded, N_FFT, HOP, window=window, return_complex=True)[:, :-1]
    power = (spectrum.real.square() + spectrum.imag.square()).contiguous()  # abs() would take a root for nothing
    log_power = (filters @ power).clamp(min=1e-10).log10()
    log_power = torch.maximum(log_power, log_power.max() - 8.0)[:, :frames]
    return ((log_power + 4.0) / 4.0).contiguous().numpy()
