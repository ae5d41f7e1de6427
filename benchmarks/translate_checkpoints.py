"""Random checkpoints at real sizes for ``benchmarks.translate``: ours, and a Whisper for the peers.

The time of a forward pass does not depend on what the weights are, so nothing is downloaded. Ours has the shapes of
Whisper's encoder and of mBART-50 with two languages added; the peers get the whole Whisper of the same name. The end
token can never win, so that every system generates exactly as many tokens as it is asked for.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, MBartConfig, WhisperConfig, WhisperForConditionalGeneration
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from comsl.inference.translate import shipped_model
from comsl.model.configuration import ComSLConfig
from comsl.model.modeling import ComSLForConditionalGeneration

SPEECH_SIZES: dict[str, dict[str, int]] = {
    "medium": {"d_model": 1024, "layers": 24, "heads": 16},
    "small": {"d_model": 768, "layers": 12, "heads": 12},
    "tiny": {"d_model": 384, "layers": 4, "heads": 6},
}
TEXT_SIZES: dict[str, dict[str, int]] = {
    "medium": {"d_model": 1024, "layers": 12, "heads": 16, "vocabulary": 250_056},
    "small": {"d_model": 768, "layers": 6, "heads": 12, "vocabulary": 250_056},
    "tiny": {"d_model": 384, "layers": 2, "heads": 6, "vocabulary": 25_000},
}
WHISPER_TOKENS = 51_865
END_OF_TEXT = 50_257
"""Whisper's multilingual vocabulary: pieces, then the end, the start, the languages and so on up to the timestamps."""
NEVER = -1e4


def whisper_config(size: str) -> WhisperConfig:
    sizes = SPEECH_SIZES[size]
    return WhisperConfig(
        vocab_size=WHISPER_TOKENS,
        num_mel_bins=80,
        d_model=sizes["d_model"],
        encoder_layers=sizes["layers"],
        decoder_layers=sizes["layers"],
        encoder_attention_heads=sizes["heads"],
        decoder_attention_heads=sizes["heads"],
        encoder_ffn_dim=4 * sizes["d_model"],
        decoder_ffn_dim=4 * sizes["d_model"],
        max_source_positions=1500,
        max_target_positions=448,
        pad_token_id=END_OF_TEXT,
        bos_token_id=END_OF_TEXT,
        eos_token_id=END_OF_TEXT,
        decoder_start_token_id=END_OF_TEXT + 1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )


def comsl_config(size: str) -> ComSLConfig:
    """Sizes from above, tokens and languages of the shipped model, whose processor decodes the few ids it knows."""
    text, shipped = TEXT_SIZES[size], ComSLConfig.from_pretrained(shipped_model())
    text_config = MBartConfig(
        vocab_size=text["vocabulary"],
        d_model=text["d_model"],
        encoder_layers=text["layers"],
        decoder_layers=text["layers"],
        encoder_attention_heads=text["heads"],
        decoder_attention_heads=text["heads"],
        encoder_ffn_dim=4 * text["d_model"],
        decoder_ffn_dim=4 * text["d_model"],
        max_position_embeddings=1024,
        scale_embedding=True,
    )
    return ComSLConfig(
        speech_config=whisper_config(size),
        text_config=text_config,
        languages=shipped.languages,
        pad_token_id=shipped.pad_token_id,
        eos_token_id=shipped.eos_token_id,
        decoder_start_token_id=shipped.decoder_start_token_id,
        mask_token_id=shipped.mask_token_id,
    )


def comsl_checkpoint(folder: Path, size: str) -> Path:
    """A directory that ``comsl translate --model`` takes."""
    path = folder / f"comsl-{size}"
    if not (path / "processor_config.json").exists():
        torch.manual_seed(0)
        model = ComSLForConditionalGeneration(comsl_config(size))
        model.text_model.final_logits_bias[0, model.config.eos_token_id] = NEVER
        model.save_pretrained(path)
        for file in shipped_model().iterdir():
            if file.name.startswith(("tokenizer", "processor")):
                shutil.copy(file, path / file.name)
    return path


def whisper_checkpoint(folder: Path, size: str) -> Path:
    """A directory that transformers' Whisper and CTranslate2's converter take."""
    path = folder / f"whisper-{size}"
    if not (path / "tokenizer.json").exists():
        torch.manual_seed(0)
        model = WhisperForConditionalGeneration(whisper_config(size))
        first = END_OF_TEXT + 2
        after = first + len(LANGUAGES_OF_MEDIUM)
        model.generation_config = GenerationConfig(
            max_length=448,
            pad_token_id=END_OF_TEXT,
            eos_token_id=END_OF_TEXT,
            decoder_start_token_id=END_OF_TEXT + 1,
            is_multilingual=True,
            lang_to_id={f"<|{code}|>": first + place for place, code in enumerate(LANGUAGES_OF_MEDIUM)},
            task_to_id={"translate": after, "transcribe": after + 1},
            no_timestamps_token_id=after + 5,
            suppress_tokens=[],
            begin_suppress_tokens=[],
        )
        model.save_pretrained(path)
        (path / "preprocessor_config.json").write_text(json.dumps({"feature_size": 80}))
        _write_tokenizer(path)
    return path


LANGUAGES_OF_MEDIUM = [code for code in LANGUAGES if code != "yue"]  # 99; Cantonese came with large-v3


def _write_tokenizer(path: Path) -> None:
    """Byte-level pieces that no text has beyond the 256 bytes, and Whisper's special tokens at their places."""
    vocabulary = {piece: place for place, piece in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    for place in range(len(vocabulary), END_OF_TEXT):
        vocabulary[f"Ġpiece{place}"] = place
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = ["endoftext", "startoftranscript", *LANGUAGES_OF_MEDIUM, "translate", "transcribe", "startoflm"]
    names += ["startofprev", "nocaptions", "notimestamps"]
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in names])
    tokenizer.save(str(path / "tokenizer.json"))
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))


def ctranslate2_checkpoint(folder: Path, size: str, precision: str) -> Path:
    """The same Whisper in CTranslate2's format, its weights stored in ``precision``."""
    from ctranslate2.converters import TransformersConverter

    path = folder / f"ctranslate2-{size}-{precision}"
    if not (path / "model.bin").exists():
        source = whisper_checkpoint(folder, size)
        files = ["tokenizer.json", "preprocessor_config.json"]
        TransformersConverter(str(source), copy_files=files).convert(str(path), quantization=precision, force=True)
    return path
