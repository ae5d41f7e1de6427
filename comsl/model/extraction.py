"""Speech features at true length, for every family of speech encoders.

Shapes: N samples at 16 kHz, T feature frames, B clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import BatchFeature, SequenceFeatureExtractor, Wav2Vec2FeatureExtractor

from comsl.data.constants import SAMPLE_RATE
from comsl.data.features import HOP, log_mel
from comsl.data.filterbank import filterbank_frames, least_samples, log_filterbank
from comsl.errors import ComSLError

# Frames that transformers' Whisper extractor pads to.
WHISPER_FRAMES = 3000
KINDS = ("whisper", "waveform", "filterbank")
Features = npt.NDArray[np.float32]


class FeatureError(ComSLError):
    """A clip that cannot be turned into features."""


class ComSLFeatureExtractor(SequenceFeatureExtractor):
    """One interface to the feature extraction of all speech families, without padding to 30 s and without cutting.

    Args:
        kind: "whisper" (log-mel [n_mels, T]), "waveform" (wav2vec2, HuBERT, WavLM: samples [N]) or "filterbank"
            (wav2vec2-BERT: [T, S * n_mels], S frames stacked to one).
        settings: of the family's own extractor (not used by Whisper, whose mel features are those of `comsl.data`).
        fixed_duration: seconds that every clip is padded to with silence (Whisper's original regime); None: never.
        feature_size: number of mel bands, for Whisper.
    """

    model_input_names = ["input_features", "attention_mask"]  # noqa: RUF012

    def __init__(
        self,
        kind: str = "whisper",
        settings: dict[str, Any] | None = None,
        fixed_duration: float | None = None,
        feature_size: int = 80,
        sampling_rate: int = SAMPLE_RATE,
        padding_value: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)
        if kind not in KINDS:
            raise FeatureError(f"unknown kind of speech features {kind!r}; use one of {', '.join(KINDS)}")
        if sampling_rate != SAMPLE_RATE:
            raise FeatureError(f"the speech model wants {sampling_rate} Hz; only models for {SAMPLE_RATE} Hz will do")
        self.kind = kind
        self.settings = dict(settings or {})
        self.fixed_duration = fixed_duration
        self.return_attention_mask = True
        self.model_input_names = [self.main_input_name, "attention_mask"]
        self._inner: Any = None

    @classmethod
    def from_extractor(cls, extractor: Any, fixed_duration: float | None = None) -> ComSLFeatureExtractor:
        """Wrap the extractor that a pretrained speech model comes with; `fixed_duration` as given, not as it had it."""
        if isinstance(extractor, cls):
            return cls(extractor.kind, extractor.settings, fixed_duration, extractor.feature_size)
        names = {
            "WhisperFeatureExtractor": "whisper",
            "Wav2Vec2FeatureExtractor": "waveform",
            "SeamlessM4TFeatureExtractor": "filterbank",
        }
        kind = names.get(type(extractor).__name__)
        if kind is None:
            raise FeatureError(f"speech features of a {type(extractor).__name__} are not supported")
        settings = {} if kind == "whisper" else extractor.to_dict()
        size = extractor.feature_size if kind == "whisper" else 1
        return cls(kind, settings, fixed_duration, size, sampling_rate=extractor.sampling_rate)

    @property
    def main_input_name(self) -> str:
        """The model's argument that the features are for."""
        return "input_values" if self.kind == "waveform" else "input_features"

    def to_dict(self) -> dict[str, Any]:
        output = super().to_dict()
        output.pop("_inner", None)
        return output

    def features(self, waveform: npt.ArrayLike) -> Features:
        """Features of one clip [N] at its true length: [n_mels, T], [N] or [T, S * n_mels], S stacked frames.

        Raises:
            FeatureError: empty, not one channel, not finite, or longer than `fixed_duration`.
        """
        samples = np.asarray(waveform, dtype=np.float32)
        if samples.ndim != 1 or samples.size == 0:
            raise FeatureError(f"a clip must be samples of one channel, not an array of shape {samples.shape}")
        if not np.isfinite(samples).all():
            raise FeatureError("a clip has samples that are not finite numbers")
        if self.fixed_duration is not None:
            size = round(self.fixed_duration * SAMPLE_RATE)
            if samples.size > size:
                raise FeatureError(
                    f"a clip of {samples.size / SAMPLE_RATE:.1f} s is longer than the fixed duration of "
                    f"{self.fixed_duration:g} s; cut it into segments"
                )
            samples = np.pad(samples, (0, size - samples.size))
        if self.kind == "whisper":
            return log_mel(samples, self.feature_size)
        if self.kind == "waveform":
            output = self._extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="np")
            return output["input_values"][0].astype(np.float32)
        return self._filterbank(samples)

    def steps(self, samples: int) -> int:
        """Length T, or N, of the features of a clip of so many samples, without padding to `fixed_duration`."""
        if self.kind == "whisper":
            return -(-samples // HOP)
        if self.kind == "waveform":
            return samples
        return filterbank_frames(samples, self.stack)

    def _filterbank(self, samples: Features) -> Features:
        least = least_samples(self.stack)
        if samples.size < least:
            raise FeatureError(
                f"a clip of {1000 * samples.size / SAMPLE_RATE:.0f} ms is too short; {1000 * least // SAMPLE_RATE} ms "
                "are needed"
            )
        return log_filterbank(samples, self.settings.get("num_mel_bins", 80), self.stack)

    @property
    def stack(self) -> int:
        """Frames of 10 ms that one of a filterbank is made of; transformers' extractor calls it the stride."""
        return int(self.settings.get("stride", 2))

    @property
    def _extractor(self) -> Any:
        if self._inner is None:
            self._inner = Wav2Vec2FeatureExtractor.from_dict(self.settings)
        return self._inner

    def pad_features(self, features: Sequence[Features], size: int | None = None) -> dict[str, Tensor]:
        """Batch clips by padding with zeros on the right: the features [B, ...] and `attention_mask` [B, T or N].

        Args:
            features: as `features` gives them, one array a clip.
            size: pad to at least so many steps.
        """
        time = 1 if self.kind == "whisper" else 0
        lengths = [array.shape[time] for array in features]
        longest = max([*lengths, size or 0])
        shape = list(features[0].shape)
        shape[time] = longest
        batch = torch.zeros(len(features), *shape)
        mask = torch.zeros(len(features), longest, dtype=torch.long)
        for row, (array, length) in enumerate(zip(features, lengths, strict=True)):
            batch[row].narrow(time, 0, length).copy_(torch.from_numpy(np.ascontiguousarray(array)))
            mask[row, :length] = 1
        return {self.main_input_name: batch, "attention_mask": mask}

    def __call__(
        self,
        raw_speech: Any,
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Features of one clip or a list of clips with their mask, as transformers' pipelines call it.

        Whisper's features are padded to 30 s, which pipelines need to batch them; the model cuts the padding off
        again by the mask. Nothing is truncated.
        """
        if sampling_rate not in (None, SAMPLE_RATE):
            raise FeatureError(f"audio is at {sampling_rate} Hz; resample it to {SAMPLE_RATE} Hz")
        clips = raw_speech if isinstance(raw_speech, list | tuple) and np.ndim(raw_speech[0]) else [raw_speech]
        size = WHISPER_FRAMES if self.kind == "whisper" else None
        batch = self.pad_features([self.features(np.asarray(clip)) for clip in clips], size)
        return BatchFeature(batch if return_tensors == "pt" else {k: v.numpy() for k, v in batch.items()})
