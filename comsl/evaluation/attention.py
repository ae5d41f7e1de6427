"""Where the decoder looks: cross-attention from the tokens of one translation to the speech it was made from.

Shapes: N tokens of the translation, F frames after the adapter.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from comsl.errors import ComSLError
from comsl.inference.clips import Clip
from comsl.inference.decode import evaluating


@dataclass(frozen=True)
class Attention:
    """Mean over decoder layers and heads.

    Attributes:
        weights: [N, F]; the share that goes to the language embedding in front of the frames is left out, so a row
            sums to at most 1.
        tokens: [N], as the tokenizer writes them.
        seconds: length of the speech.
        spectrogram: log-mel [n_mels, T], where that is what the model reads; else None.
    """

    weights: np.ndarray
    tokens: list[str]
    seconds: float
    spectrogram: np.ndarray | None


def cross_attention(
    model: Any, processor: Any, clip: Clip, source_language: str, target_language: str, text: str
) -> Attention:
    """Cross-attention while ``text`` is read off (teacher forcing) from one clip.

    Args:
        model, processor: a ComSL model and its processor.
        clip: as ``prepare_clip`` makes it; of a fixed duration's silence nothing is shown.
        text: the translation, usually the model's own.

    Raises:
        ComSLError: the decoder looks at pieces that CTC heard, which have no even places in time.
    """
    if model.config.adapter == "ctc":
        raise ComSLError("the decoder looks at pieces that CTC heard, which have no even places in time")
    device = next(model.parameters()).device
    batch = processor.pad_features([clip.features])
    speech = torch.as_tensor(batch["input_features" if "input_features" in batch else "input_values"])
    mask = torch.as_tensor(batch["attention_mask"]).to(device)
    language = torch.tensor([processor.language_id(source_language)], device=device)
    decoder_input_ids, labels = processor.target_ids(text, target_language)
    with evaluating(model), _eager(model.text_model):
        hidden, lengths = model.encode_speech(speech.to(device, next(model.parameters()).dtype), mask)
        embeds, memory_mask = model.embed_speech(hidden, lengths, language)
        memory = model.text_encoder(inputs_embeds=embeds, attention_mask=memory_mask).last_hidden_state
        output = model.text_decoder(
            input_ids=torch.tensor([decoder_input_ids], device=device),
            encoder_hidden_states=memory,
            encoder_attention_mask=memory_mask,
            output_attentions=True,
            use_cache=False,
        )
    layers = torch.stack([layer[0].float().mean(0) for layer in output.cross_attentions])  # [layers, positions, 1 + F]
    scored = [place for place, label in enumerate(labels) if label >= 0]
    tokens = processor.tokenizer.convert_ids_to_tokens([labels[place] for place in scored])
    weights = layers.mean(0)[scored, 1:].cpu().numpy()
    weights = _spoken(weights, clip)
    spectrogram = _spoken(clip.features, clip) if processor.feature_extractor.kind == "whisper" else None
    return Attention(weights, list(tokens), clip.seconds, spectrogram)


def _spoken(frames: np.ndarray, clip: Clip) -> np.ndarray:
    """Of [rows, frames] those of the audio itself, without what a fixed duration adds behind."""
    return frames[:, : max(1, round(frames.shape[1] * clip.seconds / clip.padded_seconds))]


@contextmanager
def _eager(text_model: Any) -> Iterator[None]:
    """Fused attention kernels do not say where they looked."""
    before = text_model.config._attn_implementation
    text_model.set_attn_implementation("eager")
    try:
        yield
    finally:
        text_model.set_attn_implementation(before)
