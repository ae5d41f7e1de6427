"""New, random parts for languages and machines that no public checkpoint suits.

A Whisper-class or conformer speech part and an mBART-class text part of any size, with a sentencepiece vocabulary
learnt from the texts at hand, saved in transformers' own formats: whatever loads openai/whisper-*,
facebook/w2v-bert-2.0 and facebook/mbart-large-50-* loads these. ``comsl compose`` takes them like any other part; a
recipe then trains them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import sentencepiece
import torch
from transformers import (
    MBart50Tokenizer,
    MBartConfig,
    MBartForConditionalGeneration,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from comsl.errors import ComSLError, UsageError

BOS, PAD, EOS, UNK = 0, 1, 2, 3
"""mBART-50's special tokens."""


@dataclass(frozen=True)
class PartSize:
    """Width and depth of a part; feed-forward layers are four times as wide.

    ``init_std`` is the standard deviation of the random weights: the large models' 0.02 is little for a narrow part,
    whose attention then finds nothing for hundreds of steps; width ** -0.5 is the usual scale of a layer's weights.
    """

    width: int = 192
    encoder_layers: int = 4
    decoder_layers: int = 3
    heads: int = 4
    dropout: float = 0.1
    init_std: float = 0.02

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise UsageError(f"width {self.width} is not a multiple of {self.heads} heads")


def new_speech_part(out: str | Path, size: PartSize, mel_bins: int = 80, seed: int = 0) -> None:
    """Saves a random Whisper of this size, with its feature extractor, in ``out``."""
    torch.manual_seed(seed)
    config = WhisperConfig(
        vocab_size=8,  # its decoder is not used in a composite
        num_mel_bins=mel_bins,
        d_model=size.width,
        encoder_layers=size.encoder_layers,
        encoder_attention_heads=size.heads,
        encoder_ffn_dim=4 * size.width,
        decoder_layers=1,
        decoder_attention_heads=size.heads,
        decoder_ffn_dim=size.width,
        dropout=size.dropout,
        init_std=size.init_std,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        decoder_start_token_id=3,
        begin_suppress_tokens=None,
    )
    WhisperForConditionalGeneration(config).save_pretrained(out)
    WhisperFeatureExtractor(feature_size=mel_bins).save_pretrained(out)


def new_conformer_part(out: str | Path, size: PartSize, stack: int = 4, seed: int = 0) -> None:
    """Saves a random wav2vec2-BERT of this size, with its feature extractor, in ``out``: a conformer (Gulati et al.,
    2020), whose convolutions find what is local, on filterbanks of which ``stack`` frames of 10 ms become one."""
    torch.manual_seed(seed)
    config = Wav2Vec2BertConfig(
        initializer_range=size.init_std,
        hidden_size=size.width,
        num_hidden_layers=size.encoder_layers,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.width,
        feature_projection_input_dim=80 * stack,
        hidden_dropout=size.dropout,
        activation_dropout=size.dropout,
        conformer_conv_dropout=size.dropout,
        feat_proj_dropout=size.dropout,
        layerdrop=0.0,
        apply_spec_augment=False,  # the recipe's own augmentation does it
        left_max_position_embeddings=64,
        right_max_position_embeddings=64,  # 8 in the public checkpoints, which read 20 ms a frame
        conv_depthwise_kernel_size=15,
        vocab_size=None,
    )
    Wav2Vec2BertModel(config).save_pretrained(out)
    SeamlessM4TFeatureExtractor(stride=stack).save_pretrained(out)


def new_text_part(out: str | Path, texts: Iterable[str], size: PartSize, vocabulary: int = 500, seed: int = 0) -> None:
    """Saves a random mBART of this size in ``out``, with an mBART-50 tokenizer over ``vocabulary`` pieces.

    Raises:
        ComSLError: the texts are empty, or too few for so many pieces.
    """
    write_tokenizer(out, texts, vocabulary)
    tokenizer = MBart50Tokenizer.from_pretrained(out)
    torch.manual_seed(seed)
    config = MBartConfig(
        vocab_size=len(tokenizer),
        d_model=size.width,
        encoder_layers=size.encoder_layers,
        decoder_layers=size.decoder_layers,
        encoder_attention_heads=size.heads,
        decoder_attention_heads=size.heads,
        encoder_ffn_dim=4 * size.width,
        decoder_ffn_dim=4 * size.width,
        max_position_embeddings=512,
        dropout=size.dropout,
        init_std=size.init_std,
        attention_dropout=0.0,
        activation_dropout=0.0,
        activation_function="gelu",
        scale_embedding=True,
        bos_token_id=BOS,
        pad_token_id=PAD,
        eos_token_id=EOS,
        decoder_start_token_id=EOS,
        forced_eos_token_id=None,
    )
    MBartForConditionalGeneration(config).save_pretrained(out)


def write_tokenizer(out: str | Path, texts: Iterable[str], vocabulary: int) -> None:
    """Learns a unigram sentencepiece model (every character of the texts covered) and saves it as mBART-50's files."""
    out = Path(out)
    lines = [line for line in texts if line and line.strip()]
    if not lines:
        raise ComSLError("no text to learn a vocabulary from: the manifest has neither transcripts nor translations")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            vocab_size=vocabulary,
            model_type="unigram",
            character_coverage=1.0,
            num_threads=1,  # the same pieces on every machine
            normalization_rule_name="nmt_nfkc",
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2]
        raise ComSLError(f"{vocabulary} pieces cannot be learnt from {len(lines)} lines of text: {reason}") from error
    out.mkdir(parents=True, exist_ok=True)
    (out / "sentencepiece.bpe.model").write_bytes(model.getvalue())
    (out / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "MBart50Tokenizer"}) + "\n")
    MBart50Tokenizer.from_pretrained(out).save_pretrained(out)
