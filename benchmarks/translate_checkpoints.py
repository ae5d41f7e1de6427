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

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, WhisperForConditionalGeneration
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from benchmarks.models import build, mbart_config, whisper_config
from comsl.inference.translate import shipped_model
from comsl.model.configuration import ComSLConfig
from comsl.model.modeling import ComSLForConditionalGeneration

END_OF_TEXT = 50_257
"""Whisper's multilingual vocabulary: pieces, then the end, the start, the languages and so on up to the timestamps."""
NEVER = -1e4


def comsl_config(size: str) -> ComSLConfig:
    """Sizes of benchmarks.models, tokens and languages of the shipped model, whose processor decodes what it knows."""
    shipped = ComSLConfig.from_pretrained(shipped_model())
    return ComSLConfig(
        speech_config=whisper_config(size),
        text_config=mbart_config(size),
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
        model = build(lambda: ComSLForConditionalGeneration(comsl_config(size)))
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
        config = whisper_config(size)
        config.pad_token_id = config.bos_token_id = config.eos_token_id = END_OF_TEXT
        config.decoder_start_token_id = END_OF_TEXT + 1
        config.suppress_tokens = config.begin_suppress_tokens = None
        model = build(lambda: WhisperForConditionalGeneration(config))
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
