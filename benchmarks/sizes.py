"""Shapes of the models that are measured, with random weights: Whisper's encoder and mBART-50 in three sizes."""

from __future__ import annotations

import torch
from transformers import MBartConfig, MBartForConditionalGeneration, WhisperConfig

from comsl.model.configuration import ComSLConfig
from comsl.model.modeling import ComSLForConditionalGeneration

VOCABULARY = 250_056
"""mBART-50's 250,054 tokens and the two added languages."""

_SPEECH = {  # layers, width, heads: Whisper tiny, small and medium
    "tiny": (4, 384, 6),
    "small": (12, 768, 12),
    "medium": (24, 1024, 16),
    "large": (32, 1280, 20),
}
_TEXT = {  # layers of encoder and of decoder, width, heads: mBART-50 is the last
    "tiny": (3, 256, 4),
    "small": (6, 512, 8),
    "medium": (12, 1024, 16),
    "large": (12, 1024, 16),
}


def model_config(size: str, vocabulary: int = VOCABULARY, dropout: float = 0.0) -> ComSLConfig:
    """ "medium" and "large" are the paper's; "tiny" and "small" have a text part that nobody pretrained."""
    speech_layers, speech_width, speech_heads = _SPEECH[size]
    layers, width, heads = _TEXT[size]
    speech = WhisperConfig(
        d_model=speech_width,
        encoder_layers=speech_layers,
        encoder_attention_heads=speech_heads,
        encoder_ffn_dim=4 * speech_width,
        decoder_layers=1,  # which the composite does not have
        dropout=dropout,
    )
    text = MBartConfig(
        vocab_size=vocabulary,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        max_position_embeddings=1024,
        scale_embedding=True,
        dropout=dropout,
        attention_dropout=0.0,
    )
    return ComSLConfig(
        speech_config=speech,
        text_config=text,
        languages={"de": vocabulary - 3, "en": vocabulary - 2},
        mask_token_id=vocabulary - 1,
    )


def random_model(config: ComSLConfig, seed: int = 0) -> ComSLForConditionalGeneration:
    torch.manual_seed(seed)
    return ComSLForConditionalGeneration(config).train()


def random_teacher(config: ComSLConfig, seed: int = 1) -> MBartForConditionalGeneration:
    torch.manual_seed(seed)
    return MBartForConditionalGeneration(config.text_config)
