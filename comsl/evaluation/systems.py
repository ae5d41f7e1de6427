"""The systems that are measured: how each makes its hypotheses of a batch of rows.

direct   speech -> translation, one model
cascade  speech -> transcript -> translation: the same model twice, or two models
mixed    speech -> transcript, then [transcript ; speech] -> translation, one model (``comsl.inference.decode``)
pooled   the translation of these three that is likely to be least wrong, one model
memory   of the sentences of a memory that are nearest to what was heard the safest translation, one model
text     the reference transcript -> translation: the upper bound of a cascade
lookup   the translation of the most similar training transcript: the floor
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from comsl.data.audio import SAMPLE_RATE
from comsl.errors import ComSLError
from comsl.evaluation.records import Record
from comsl.inference import MODES, TASKS, Mode, Precision
from comsl.inference.clips import Clip, join_texts, longest_clip, prepare_clip
from comsl.inference.decode import (
    Decoded,
    DecodingOptions,
    Hypothesis,
    check_memory,
    check_options,
    decode_modes,
    decode_text,
)
from comsl.inference.memory import TranslationMemory
from comsl.inference.precision import load_for_inference
from comsl.inference.segment import MAX_JOINED, segment
from comsl.model import load_model

ROLES = {
    "direct": ("model",),
    "cascade": ("cascade_asr", "cascade_mt"),
    "mixed": ("model",),
    "pooled": ("model",),
    "memory": ("model",),
    "text": ("cascade_mt",),
}
"""The decoders that each system needs."""
LISTENERS = {"direct": "model", "cascade": "cascade_asr", "mixed": "model", "pooled": "model", "memory": "model"}
"""The decoder that hears the clips, of the systems that hear any."""
SILENT = ("direct", "memory")
"""The modes that need no transcript."""

Item = TypeVar("Item")


class Decoder(Protocol):
    """What a system needs of a model."""

    longest_whole: float
    """Seconds of the longest clip that is decoded whole."""

    def prepare(self, waveform: np.ndarray) -> Any:
        """One clip, whole or in segments, ready to be decoded; from its 16 kHz samples."""

    def segments(self, clip: Any) -> int | None:
        """How many segments a prepared clip was cut into, 0 where no speech was found in it; None: it is whole."""

    def speech(
        self, clips: Sequence[Any], sources: Sequence[str], targets: Sequence[str], tasks: Sequence[str]
    ) -> list[list[Hypothesis]]:
        """Prepared clips -> translations and transcripts (``tasks``: of "translate", "transcribe"), a list a task."""

    def modes(
        self, clips: Sequence[Any], sources: Sequence[str], targets: Sequence[str], modes: Sequence[Mode]
    ) -> list[Decoded]:
        """Prepared clips -> translations in each mode, with the transcripts where one needs them."""

    def text(self, texts: Sequence[str], sources: Sequence[str], targets: Sequence[str]) -> list[Hypothesis]:
        """Texts -> translations; "" stays ""."""

    def check_language(self, code: str) -> None:
        """ComSLError if the model lacks the language."""

    def check_hearing(self, system: str) -> None:
        """UsageError if the settings, or the system, ask for what the model does not have to hear with."""


@dataclass(frozen=True)
class PreparedClip:
    """A clip as ``ModelDecoder`` decodes it."""

    parts: list[Clip]
    """The clip itself, or its segments of speech: none where the detector hears none."""
    whole: bool


class ModelDecoder:
    """A ComSL model as a decoder of the clips that a manifest names.

    A clip is decoded whole, as is the practice of the field: a manifest says that it is speech and where it begins and
    ends, so the detector is not asked. Only what is too long for that (more than the model takes, or than the
    ``MAX_JOINED`` seconds that such models are trained on) is cut into segments of speech, whose texts are joined;
    without speech there are none and the hypothesis is empty. ``comsl translate``, which knows nothing of a recording,
    cuts at long pauses, trims silence and leaves out what is not speech whatever the length.
    """

    def __init__(
        self, model: Any, processor: Any, options: DecodingOptions, memory: TranslationMemory | None = None
    ) -> None:
        self.model, self.processor, self.options, self.memory = model, processor, options, memory
        self.max_duration = longest_clip(model, processor)
        self.longest_whole = min(self.max_duration, MAX_JOINED)

    def prepare(self, waveform: np.ndarray) -> PreparedClip:
        whole = len(waveform) <= self.longest_whole * SAMPLE_RATE
        parts = [waveform] if whole else [part.samples(waveform) for part in segment(waveform, self.max_duration)]
        return PreparedClip([prepare_clip(part, self.processor) for part in parts], whole)

    def segments(self, clip: PreparedClip) -> int | None:
        return None if clip.whole else len(clip.parts)

    def speech(
        self, clips: Sequence[PreparedClip], sources: Sequence[str], targets: Sequence[str], tasks: Sequence[str]
    ) -> list[list[Hypothesis]]:
        translated: tuple[Mode, ...] = ("direct",) if "translate" in tasks else ()
        decoded = self._decode(clips, sources, targets, translated, "transcribe" in tasks)
        texts = {
            "transcribe": [row.transcript for row in decoded if row.transcript is not None],
            "translate": [row.translations["direct"] for row in decoded if row.translations],
        }
        return [texts[task] for task in tasks]

    def modes(
        self, clips: Sequence[PreparedClip], sources: Sequence[str], targets: Sequence[str], modes: Sequence[Mode]
    ) -> list[Decoded]:
        return self._decode(clips, sources, targets, modes, False)

    def _decode(
        self,
        clips: Sequence[PreparedClip],
        sources: Sequence[str],
        targets: Sequence[str],
        modes: Sequence[Mode],
        transcribe: bool,
    ) -> list[Decoded]:
        owners = [row for row, clip in enumerate(clips) for _ in clip.parts]
        found = decode_modes(
            self.model,
            self.processor,
            [part for clip in clips for part in clip.parts],
            [sources[row] for row in owners],
            [targets[row] for row in owners],
            modes,
            self.options,
            transcribe=transcribe,
            memory=self.memory,
        )
        heard = transcribe or any(mode not in SILENT for mode in modes)
        joined = []
        for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
            parts = [part for owner, part in zip(owners, found, strict=True) if owner == row]
            transcripts = [part.transcript for part in parts if part.transcript is not None]
            translations = {mode: _join([part.translations[mode] for part in parts], target) for mode in modes}
            joined.append(Decoded(_join(transcripts, source) if heard else None, translations))
        return joined

    def text(self, texts: Sequence[str], sources: Sequence[str], targets: Sequence[str]) -> list[Hypothesis]:
        return decode_text(self.model, self.processor, texts, sources, targets, self.options)

    def check_language(self, code: str) -> None:
        self.processor.language_id(code)

    def check_hearing(self, system: str) -> None:
        check_options(self.model, self.options)
        if system in MODES:
            check_memory(self.model, (system,), self.memory if system in ("pooled", "memory") else None)


def load_decoder(
    path: str | Path,
    options: DecodingOptions,
    device: str | None = None,
    precision: Precision | None = None,
    memory: TranslationMemory | None = None,
) -> ModelDecoder:
    """Load a ComSL model (its directory, a run directory or a hub id) onto a device (a GPU if there is one).

    Args:
        precision: None: float32 on the CPU, what it is saved in on a GPU.
        memory: of the systems "memory" and "pooled".

    Raises:
        PrecisionError: a precision that the device does not compute in.
        ModelLoadError: nothing there, not a ComSL model, or weights missing.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if precision is not None or where.type == "cpu":
        return ModelDecoder(*load_for_inference(path, where, precision), options, memory)
    model, processor = load_model(path)
    to_device: Any = model.to
    return ModelDecoder(to_device(where), processor, options, memory)


@dataclass(frozen=True)
class Heard:
    """A clip's transcript, and ``Decoder.segments`` of the clip."""

    transcript: Hypothesis
    segments: int | None


class SystemRunner:
    """Makes the records of a batch of manifest rows.

    Args:
        decoders: by role (``ROLES``); those of the systems that are run.
        load_audio: manifest row -> 16 kHz samples; raises ComSLError.
        task: "translate" (hypotheses only), "transcribe" (transcripts only) or "both".
        heard_before: id -> what the direct system already heard with the cascade's own ASR decoder; None where it must
            be heard.
    """

    def __init__(
        self,
        decoders: Mapping[str, Decoder],
        load_audio: Callable[[Record], np.ndarray],
        task: str,
        heard_before: Callable[[str], Heard | None],
    ) -> None:
        self.decoders = decoders
        self.load_audio, self.task, self.heard_before = load_audio, task, heard_before

    def run(self, system: str, rows: Sequence[Record]) -> list[Record]:
        """Records of ``rows`` in their order. Where a row cannot be decoded its record has the reason as ``error`` and
        an empty hypothesis; the others are not touched by it."""
        steps: dict[str, Callable[[Sequence[Record]], list[Record]]] = {
            "direct": self._direct,
            "cascade": self._cascade,
            "mixed": partial(self._mode, "mixed"),
            "pooled": partial(self._mode, "pooled"),
            "memory": partial(self._mode, "memory"),
            "text": self._text,
        }
        return each(steps[system], rows, lambda row, error: self._failed(system, row, error))

    def _direct(self, rows: Sequence[Record]) -> list[Record]:
        sources, targets = _languages(rows, self.task)
        main = self.decoders["model"]
        self._check(main, sources + targets)
        clips = [main.prepare(self.load_audio(row)) for row in rows]
        tasks = TASKS[:2] if self.task == "both" else (self.task,)
        made = dict(zip(tasks, main.speech(clips, sources, targets, tasks), strict=True))
        nothing: list[None] = [None] * len(rows)
        translations, transcripts = (made.get(task, nothing) for task in TASKS[:2])
        segments = [main.segments(clip) for clip in clips]
        return [record("direct", *parts) for parts in zip(rows, translations, transcripts, segments, strict=True)]

    def _cascade(self, rows: Sequence[Record]) -> list[Record]:
        sources, targets = _languages(rows, self.task)
        asr, mt = self.decoders["cascade_asr"], self.decoders["cascade_mt"]
        self._check(asr, sources)
        known = {index: self.heard_before(row["id"]) for index, row in enumerate(rows)}
        todo = [index for index, heard in known.items() if heard is None]
        if todo:
            clips = [asr.prepare(self.load_audio(rows[index])) for index in todo]
            languages = [sources[index] for index in todo]
            (transcripts,) = asr.speech(clips, languages, languages, ("transcribe",))
            for index, clip, transcript in zip(todo, clips, transcripts, strict=True):
                known[index] = Heard(transcript, asr.segments(clip))
        heard_all = [heard for heard in known.values() if heard is not None]
        translations: Sequence[Hypothesis | None] = [None] * len(rows)
        if self.task != "transcribe":
            self._check(mt, sources + targets)
            translations = mt.text([heard.transcript.text for heard in heard_all], sources, targets)
        return [
            record("cascade", row, translation, heard.transcript, heard.segments)
            for row, translation, heard in zip(rows, translations, heard_all, strict=True)
        ]

    def _mode(self, mode: Mode, rows: Sequence[Record]) -> list[Record]:
        sources, targets = _languages(rows, self.task)
        main = self.decoders["model"]
        self._check(main, sources + targets)
        clips = [main.prepare(self.load_audio(row)) for row in rows]
        decoded = main.modes(clips, sources, targets, (mode,))
        return [
            record(mode, row, found.translations[mode], found.transcript, main.segments(clip))
            for row, found, clip in zip(rows, decoded, clips, strict=True)
        ]

    def _text(self, rows: Sequence[Record]) -> list[Record]:
        sources, targets = _languages(rows, self.task)
        mt = self.decoders["cascade_mt"]
        self._check(mt, sources + targets)
        for row in rows:
            if row["transcript"] is None:
                raise ComSLError(f"row {row['id']}: no transcript to translate")
        translations = mt.text([row["transcript"] for row in rows], sources, targets)
        return [record("text", row, translation, None) for row, translation in zip(rows, translations, strict=True)]

    def _check(self, decoder: Decoder, codes: Sequence[str]) -> None:
        for code in dict.fromkeys(codes):
            decoder.check_language(code)

    def _failed(self, system: str, row: Record, error: str) -> Record:
        nothing = Hypothesis("", float("nan"))
        silent = system in ("text", "memory") or (system == "direct" and self.task == "translate")
        transcript = None if silent else nothing
        translation = None if self.task == "transcribe" else nothing
        return record(system, row, translation, transcript, error=error)


def each(
    step: Callable[[Sequence[Item]], list[Record]], items: Sequence[Item], failed: Callable[[Item, str], Record]
) -> list[Record]:
    """``step`` over all items at once; if one of them cannot be done, over each alone, so that only that one fails."""
    try:
        return step(items)
    except ComSLError as error:
        if len(items) == 1:
            return [failed(items[0], " ".join(str(error).split()))]
        return [result for item in items for result in each(step, [item], failed)]


def record(
    system: str,
    row: Record,
    translation: Hypothesis | None,
    transcript: Hypothesis | None,
    segments: int | None = None,
    error: str | None = None,
) -> Record:
    """The record (``records.FIELDS``) of one manifest row."""
    score = None if translation is None or not np.isfinite(translation.score) else round(translation.score, 4)
    return {
        "id": row["id"],
        "system": system,
        "source_language": row["source_language"],
        "target_language": row["target_language"],
        "source": row["transcript"],
        "hypothesis": None if translation is None else translation.text,
        "reference": row["translation"],
        "truncated": translation is not None and translation.truncated,
        "transcript_hypothesis": None if transcript is None else transcript.text,
        "transcript_truncated": transcript is not None and transcript.truncated,
        "score": score,
        "duration": row["duration"],
        "segments": segments,
        "error": error,
    }


def _join(pieces: Sequence[Hypothesis], language: str) -> Hypothesis:
    """The hypotheses of a clip's segments as one."""
    if len(pieces) == 1:
        return pieces[0]
    tokens = [token for piece in pieces for token in piece.tokens]
    lengths = [len(piece.tokens) + (not piece.truncated) for piece in pieces]  # the end counts as a token
    total = sum(piece.log_probability for piece in pieces)
    mean = total / sum(lengths) if pieces else 0.0
    text = join_texts([piece.text for piece in pieces], language)
    return Hypothesis(text, mean, tokens, any(piece.truncated for piece in pieces))


def _languages(rows: Sequence[Record], task: str) -> tuple[list[str], list[str]]:
    """Source and target languages; the target is the source where nothing is translated."""
    sources = [row["source_language"] for row in rows]
    if task == "transcribe":
        return sources, sources
    for row in rows:
        if row["target_language"] is None:
            raise ComSLError(f"row {row['id']}: no target_language to translate into")
    return sources, [row["target_language"] for row in rows]
