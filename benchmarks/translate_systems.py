"""The systems of ``benchmarks.translate``, each as a user would call it: audio in, texts out.

A system is loaded once and then asked to translate the same clips, or the same long file, again and again. Every clip
gets ``NEW_TOKENS`` tokens from every system.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks import translate_checkpoints as checkpoints
from benchmarks.recordings import write_recording
from comsl.data.constants import SAMPLE_RATE

NEW_TOKENS = 20
SHORTEST, LONGEST = 3.0, 8.0
TOKENS_PER_SECOND = NEW_TOKENS / ((SHORTEST + LONGEST) / 2)
"""What a long file gets a second of speech: as many as the clips do."""
PROMPT_TOKENS = 4
"""Whisper's: start, language, task, no timestamps."""


@dataclass(frozen=True)
class Cell:
    """One system at one setting."""

    system: str
    size: str
    precision: str
    batch: int
    beam: int
    clips: int
    folder: str
    """Where the checkpoints lie."""
    file: str | None = None
    """A recording to translate instead of clips."""


def clips(count: int) -> list[np.ndarray]:
    """Noise of 3 to 8 s, evenly spread, in an order that is not sorted."""
    lengths = SHORTEST + (LONGEST - SHORTEST) * (np.arange(count) + 0.5) / count
    rng = np.random.default_rng(0)
    rng.shuffle(lengths)
    return [rng.normal(scale=0.1, size=round(SAMPLE_RATE * length)).astype(np.float32) for length in lengths]


def _batches(waveforms: list[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    for start in range(0, len(waveforms), size):
        yield waveforms[start : start + size]


def missing_package(system: str) -> str | None:
    """The package without which a system cannot run here."""
    needed = {"ctranslate2": ["ctranslate2", "faster_whisper"]}.get(system, [])
    return next((name for name in needed if importlib.util.find_spec(name) is None), None)


def unsupported(system: str, precision: str) -> str | None:
    """Why a system has no such precision on this machine."""
    if system == "transformers" and precision == "int8":
        return "transformers has no int8 of its own on the CPU"
    if system == "ctranslate2":
        import ctranslate2

        if precision not in ctranslate2.get_supported_compute_types("cpu"):
            return f"CTranslate2 has no {precision} on this CPU"
    return None


def checkpoint(cell: Cell) -> Path:
    """Make the checkpoint of a cell, unless it is there."""
    folder = Path(cell.folder)
    if cell.system == "comsl":
        return checkpoints.comsl_checkpoint(folder, cell.size)
    if cell.system == "ctranslate2":
        return checkpoints.ctranslate2_checkpoint(folder, cell.size, cell.precision)
    return checkpoints.whisper_checkpoint(folder, cell.size)


def load(cell: Cell) -> Any:
    return {"comsl": ComSL, "transformers": Transformers, "ctranslate2": CTranslate2}[cell.system](cell)


class ComSL:
    def __init__(self, cell: Cell) -> None:
        from comsl.allocator import keep_freed_memory, limit_kernel_caches
        from comsl.inference.translate import Translator

        keep_freed_memory()  # both as the command does
        limit_kernel_caches()
        self.cell = cell
        self.translator = Translator.from_pretrained(checkpoint(cell), "cpu", precision=cell.precision)

    def translate_clips(self, waveforms: list[np.ndarray]) -> list[int]:
        """New tokens of each clip."""
        from comsl.inference.clips import prepare_clip
        from comsl.inference.decode import DecodingOptions, decode_speech

        model, processor = self.translator.model, self.translator.processor
        options = DecodingOptions(beam=self.cell.beam, batch_size=self.cell.batch, max_new_tokens=NEW_TOKENS)
        prepared = [prepare_clip(waveform, processor) for waveform in waveforms]
        return [len(row.tokens) for row in decode_speech(model, processor, prepared, "de", "en", options=options)]

    def translate_file(self, path: str) -> list[int]:
        """New tokens of each segment, counted where the decoder hands them over."""
        from comsl.inference import translate
        from comsl.inference.decode import DecodingOptions
        from comsl.inference.inputs import FileError

        decode, tokens = translate.decode_modes, []

        def counting(*arguments: Any, **settings: Any) -> Any:
            found = decode(*arguments, **settings)
            tokens.extend(len(text.tokens) for row in found for text in row.translations.values())
            return found

        options = DecodingOptions(tokens_per_second=TOKENS_PER_SECOND, extra_tokens=0)
        settings = {"batch_size": self.cell.batch, "beam": self.cell.beam, "decoding": options}
        with mock.patch.object(translate, "decode_modes", counting):
            (result,) = self.translator.translate([path], "de", **settings)
        if isinstance(result, FileError):
            raise RuntimeError(result.message)
        return tokens


class Transformers:
    """``WhisperForConditionalGeneration.generate``, with the padding to 30 s of its feature extractor."""

    def __init__(self, cell: Cell) -> None:
        from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration
        from transformers.utils import logging

        logging.set_verbosity_error()
        self.cell = cell
        self.extractor = WhisperFeatureExtractor()
        dtype = getattr(torch, cell.precision)
        self.model = WhisperForConditionalGeneration.from_pretrained(checkpoint(cell), dtype=dtype).eval()

    def translate_clips(self, waveforms: list[np.ndarray]) -> list[int]:
        found: list[int] = []
        for rows in _batches(waveforms, self.cell.batch):
            inputs = self.extractor(rows, sampling_rate=SAMPLE_RATE, return_tensors="pt")
            ids = self.model.generate(
                inputs.input_features.to(self.model.dtype),
                language="de",
                task="translate",
                num_beams=self.cell.beam,
                min_new_tokens=NEW_TOKENS,
                max_new_tokens=NEW_TOKENS,
            )
            found += [
                len(row) - (PROMPT_TOKENS if row[0] == checkpoints.END_OF_TEXT + 1 else 0) for row in ids.tolist()
            ]
        return found


class CTranslate2:
    """faster-whisper: its features, padding and calls of CTranslate2; for a long file its batched pipeline."""

    def __init__(self, cell: Cell) -> None:
        from faster_whisper import BatchedInferencePipeline, WhisperModel

        self.cell = cell
        threads = os.cpu_count() or 1
        path = str(checkpoint(cell))
        self.model = WhisperModel(path, "cpu", compute_type=cell.precision, cpu_threads=threads)
        self.pipeline = BatchedInferencePipeline(self.model)
        self.chunk_tokens = None if cell.file is None else self._tokens_of_a_chunk(cell.file)

    def translate_clips(self, waveforms: list[np.ndarray]) -> list[int]:
        from faster_whisper.audio import pad_or_trim
        from faster_whisper.tokenizer import Tokenizer

        tokenizer = Tokenizer(self.model.hf_tokenizer, True, task="translate", language="de")
        prompt = self.model.get_prompt(tokenizer, [], without_timestamps=True)
        found: list[int] = []
        for rows in _batches(waveforms, self.cell.batch):
            features = np.stack([pad_or_trim(self.model.feature_extractor(row)[..., :-1]) for row in rows])
            results = self.model.model.generate(
                self.model.encode(features),
                [prompt] * len(rows),
                beam_size=self.cell.beam,
                max_length=2 * NEW_TOKENS,  # it generates half of this at most, less a prompt longer than that
                suppress_tokens=[tokenizer.eot],
                return_scores=True,
            )
            found += [len(result.sequences_ids[0]) for result in results]
        return found

    def translate_file(self, path: str) -> list[int]:
        segments, _ = self.pipeline.transcribe(
            path,
            language="de",
            task="translate",
            beam_size=self.cell.beam,
            batch_size=self.cell.batch,
            temperature=0.0,
            suppress_tokens=[-1, checkpoints.END_OF_TEXT],
            max_new_tokens=2 * self.chunk_tokens - PROMPT_TOKENS,  # becomes half of the sum of the two
        )
        return [len(segment.tokens) for segment in segments]

    def _tokens_of_a_chunk(self, path: str) -> int:
        """As many tokens for the whole file as its speech gets from us, the same number for each 30-second chunk."""
        from faster_whisper.audio import decode_audio
        from faster_whisper.vad import VadOptions, collect_chunks, get_speech_timestamps

        audio = decode_audio(path, sampling_rate=SAMPLE_RATE)
        options = VadOptions(max_speech_duration_s=30, min_silence_duration_ms=160)
        speech = get_speech_timestamps(audio, options)
        chunks, _ = collect_chunks(audio, speech, max_duration=30)
        seconds = sum(part["end"] - part["start"] for part in speech) / SAMPLE_RATE
        return round(TOKENS_PER_SECOND * seconds / len(chunks))


def long_file(folder: Path, minutes: float) -> Path:
    """A recording whose pauses of 0.2 to 1 s leave little to cut away."""
    path = folder / f"sentences-{minutes:g}-minutes.wav"
    if not path.exists():
        write_recording(path, minutes, pauses=(0.2, 1.0))
    return path
