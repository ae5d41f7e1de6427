"""Models in the shapes of published checkpoints, with random weights: speed does not depend on what was learnt."""

from __future__ import annotations

from typing import Any

import torch
from transformers import M2M100Config, MBartConfig, MBartForConditionalGeneration, WhisperConfig

from comsl.model.configuration import ComSLConfig
from comsl.model.modeling import ComSLForConditionalGeneration

LANGUAGES = {"de": 250003, "en": 250004}
MASK = 250053

WHISPER: dict[str, dict[str, int]] = {
    "large-v3": {"layers": 32, "heads": 20, "d_model": 1280, "ffn": 5120, "mels": 128},  # openai/whisper-large-v3
    "large": {"layers": 32, "heads": 20, "d_model": 1280, "ffn": 5120},  # openai/whisper-large
    "medium": {"layers": 24, "heads": 16, "d_model": 1024, "ffn": 4096},  # openai/whisper-medium
    "shallow": {"layers": 8, "heads": 16, "d_model": 1024, "ffn": 4096},
    "small": {"layers": 12, "heads": 12, "d_model": 768, "ffn": 3072},  # openai/whisper-small
    "tiny": {"layers": 4, "heads": 6, "d_model": 384, "ffn": 1536},  # openai/whisper-tiny
}
MBART: dict[str, dict[str, int]] = {
    "medium": {"layers": 12, "heads": 16, "d_model": 1024, "ffn": 4096, "vocabulary": 250056},
    "shallow": {"layers": 4, "heads": 16, "d_model": 1024, "ffn": 4096, "vocabulary": 250056},
    "small": {"layers": 6, "heads": 8, "d_model": 512, "ffn": 2048, "vocabulary": 250056},
    "tiny": {"layers": 3, "heads": 4, "d_model": 256, "ffn": 1024, "vocabulary": 250056},
}
"""Medium: facebook/mbart-large-50-many-to-many-mmt and the two added languages. The others are cut down from it,
shallow to a third of the layers at full width (the published code knows no other width)."""


def whisper_config(size: str) -> WhisperConfig:
    """Encoder and decoder alike, as OpenAI's are."""
    shape = WHISPER[size]
    return WhisperConfig(
        vocab_size=51865,
        num_mel_bins=shape.get("mels", 80),
        d_model=shape["d_model"],
        encoder_layers=shape["layers"],
        decoder_layers=shape["layers"],
        encoder_attention_heads=shape["heads"],
        decoder_attention_heads=shape["heads"],
        encoder_ffn_dim=shape["ffn"],
        decoder_ffn_dim=shape["ffn"],
    )


def mbart_config(size: str, dropout: float = 0.1, vocabulary: int | None = None) -> MBartConfig:
    shape = MBART[size]
    return MBartConfig(
        vocab_size=vocabulary or shape["vocabulary"],
        d_model=shape["d_model"],
        encoder_layers=shape["layers"],
        decoder_layers=shape["layers"],
        encoder_attention_heads=shape["heads"],
        decoder_attention_heads=shape["heads"],
        encoder_ffn_dim=shape["ffn"],
        decoder_ffn_dim=shape["ffn"],
        max_position_embeddings=1024,
        scale_embedding=True,
        activation_function="gelu",
        dropout=dropout,
        attention_dropout=0.0,
        decoder_start_token_id=2,
    )


def nllb_config(dropout: float = 0.1) -> M2M100Config:
    """facebook/nllb-200-distilled-1.3B, and the mask token that composing adds."""
    return M2M100Config(
        vocab_size=256207,
        d_model=1024,
        encoder_layers=24,
        decoder_layers=24,
        encoder_attention_heads=16,
        decoder_attention_heads=16,
        encoder_ffn_dim=8192,
        decoder_ffn_dim=8192,
        max_position_embeddings=1024,
        scale_embedding=True,
        activation_function="relu",
        dropout=dropout,
        decoder_start_token_id=2,
    )


def composite(size: str, **text: Any) -> ComSLForConditionalGeneration:
    config = ComSLConfig(
        speech_config=whisper_config(size),
        text_config=mbart_config(size, **text),
        languages=LANGUAGES,
        mask_token_id=MASK,
    )
    return build(lambda: ComSLForConditionalGeneration(config))


def text_model(size: str, **text: Any) -> MBartForConditionalGeneration:
    return build(lambda: MBartForConditionalGeneration(mbart_config(size, **text)))


def build(make: Any) -> Any:
    """A model with small random weights, without the minutes that a billion proper initial values take."""
    with torch.device("meta"):
        model = make()
    model = model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if "norm" in name and name.endswith("weight"):
                value.fill_(1.0)
            elif name.endswith("bias") or not value.is_floating_point():
                value.zero_()
            else:
                value.uniform_(-0.03, 0.03, generator=generator)
    if hasattr(model, "tie_weights"):
        model.tie_weights()
    return model
