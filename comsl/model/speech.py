"""The speech part: transformers' speech encoders run at true lengths.

Shapes: B utterances, T input steps (mel frames or samples), F encoder frames, d_s encoder width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from comsl.errors import ComSLError

from .adapter import length_mask
from .configuration import ComSLConfig
from .packing import PackedMask, Spans, accept_packed, dropped

WAVEFORM_MODELS = ("wav2vec2", "hubert", "wavlm")
SUPPORTED_MODELS = ("whisper", *WAVEFORM_MODELS, "wav2vec2-bert")
MEL_FRAMES_PER_SECOND = 100


class SpeechLengthError(ComSLError):
    """A clip is longer than the model has positions for, or shorter than one frame."""


class SpeechEncoder(nn.Module):
    """A pretrained speech encoder whose result for a clip does not depend on padding or on the rest of the batch.

    `.encoder` is the transformers module. `forward(speech, attention_mask)` takes the features of the family
    (Whisper [B, n_mels, T], waveform models [B, samples], wav2vec2-BERT [B, T, S * n_mels]) and a mask
    [B, T or samples] (None: nothing is padded), and returns `(hidden [B, F, d_s], lengths [B])`.
    """

    def __init__(self, config: ComSLConfig):
        super().__init__()
        self.config = config.speech_config
        self.kind: str = self.config.model_type
        if self.kind not in SUPPORTED_MODELS:
            raise ComSLError(
                f"speech model type {self.kind!r} is not supported; use one of {', '.join(SUPPORTED_MODELS)}"
            )
        if self.kind == "whisper":
            self.encoder = WhisperEncoder._from_config(self.config)
        else:
            self.encoder = AutoModel.from_config(self.config)

    @property
    def hidden_size(self) -> int:
        """Width d_s of the encoder's output."""
        if getattr(self.config, "add_adapter", False):
            return self.config.output_hidden_size
        return self.config.hidden_size

    @property
    def max_duration(self) -> float | None:
        """Longest clip in seconds that the encoder has positions for; None: no limit of its own."""
        if self.kind == "whisper":
            return 2 * self.config.max_source_positions / MEL_FRAMES_PER_SECOND
        return None

    def output_lengths(self, input_lengths: Tensor) -> Tensor:
        """Encoder frames [B] for input lengths [B] in mel frames or samples."""
        if self.kind == "whisper":
            return (input_lengths - 1) // 2 + 1
        return self.encoder._get_feat_extract_output_lengths(input_lengths).long()

    def forward(self, speech: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        time = 2 if self.kind == "whisper" else 1
        if attention_mask is None:
            attention_mask = torch.ones(speech.shape[0], speech.shape[time], dtype=torch.long, device=speech.device)
        lengths = attention_mask.sum(dim=1)
        shortest, longest = int(lengths.min()), int(lengths.max())
        speech = speech.narrow(time, 0, longest).to(self.encoder.dtype)
        if int(self.output_lengths(torch.tensor([shortest]))) < 1:
            raise SpeechLengthError(f"a clip of {shortest} input steps is shorter than one frame of the speech encoder")
        if self.kind == "whisper":
            return self._whisper(speech, lengths)
        if self.kind == "wav2vec2-bert":
            return self._filterbank(speech, lengths)
        return self._waveform(speech, lengths)

    def _whisper(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """WhisperEncoder.forward without its 30 seconds: masks after every convolution, layers without padding."""
        encoder = self.encoder
        frames = self.output_lengths(lengths)
        size = (mel.shape[2] - 1) // 2 + 1
        if size > encoder.max_source_positions:
            raise SpeechLengthError(
                f"a clip of {mel.shape[2] / MEL_FRAMES_PER_SECOND:.2f} s is longer than the {self.max_duration:g} s "
                "that the speech encoder has positions for; cut it into segments"
            )
        outside = ~length_mask(lengths, mel.shape[2])[:, None]
        mel = mel.masked_fill(outside, 0.0)
        hidden = nn.functional.gelu(encoder.conv1(mel)).masked_fill(outside, 0.0)
        hidden = nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        spans = Spans.consecutive(frames)
        hidden = spans.packed(hidden + encoder.embed_positions.weight[:size])[None]
        hidden = nn.functional.dropout(hidden, p=encoder.dropout, training=self.training)
        accept_packed(encoder)
        mask = PackedMask.within(spans)
        for layer in encoder.layers:
            if not dropped(encoder):
                hidden = layer(hidden, mask)
        return spans.padded(encoder.layer_norm(hidden)[0]), frames

    def _waveform(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The forward of wav2vec2, HuBERT and WavLM, with its one padding-dependent stage run clip by clip."""
        encoder = self.encoder
        frames = encoder._get_feat_extract_output_lengths(lengths, **self._without_adapter()).long()
        if self.config.feat_extract_norm == "group":
            # Group normalisation averages over time, so silence beyond the end would change every frame.
            features = self._clip_by_clip(
                lambda clip: encoder.feature_extractor(clip).transpose(1, 2), samples, lengths
            )
        else:
            features = encoder.feature_extractor(samples).transpose(1, 2)
        features = features[:, : int(frames.max())]
        mask = length_mask(frames, features.shape[1])
        projected = encoder.feature_projection(features)
        hidden = projected[0] if isinstance(projected, tuple) else projected
        hidden = encoder._mask_hidden_states(hidden, attention_mask=mask)
        hidden = encoder.encoder(hidden, attention_mask=mask).last_hidden_state
        if getattr(encoder, "adapter", None) is not None:
            hidden = self._clip_by_clip(encoder.adapter, hidden, frames)
        return hidden, self.output_lengths(lengths)

    def _filterbank(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The forward of wav2vec2-BERT; its own length adapter, where a checkpoint has one, is run clip by clip."""
        encoder = self.encoder
        mask = length_mask(lengths, features.shape[1])
        hidden, _ = encoder.feature_projection(features)
        hidden = encoder._mask_hidden_states(hidden, attention_mask=mask)
        hidden = encoder.encoder(hidden, attention_mask=mask).last_hidden_state
        if encoder.intermediate_ffn:
            hidden = hidden + 0.5 * encoder.intermediate_ffn(hidden)
        if encoder.adapter is not None:
            hidden = self._clip_by_clip(encoder.adapter, hidden, lengths)
        return hidden, self.output_lengths(lengths)

    def _without_adapter(self) -> dict[str, bool]:
        return {} if self.kind == "hubert" else {"add_adapter": False}

    @staticmethod
    def _clip_by_clip(function: Callable[[Tensor], Tensor], batch: Tensor, lengths: Tensor) -> Tensor:
        """Apply `function` to each row at its true length and pad the results [B, F, width] with zeros."""
        results = [function(row[None, :length])[0] for row, length in zip(batch, lengths.tolist(), strict=True)]
        return pad_sequence(results, batch_first=True)
