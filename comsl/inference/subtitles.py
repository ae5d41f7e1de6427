"""Results of translation -> text, JSON lines, SubRip, WebVTT and tab-separated values.

Each format is a class with ``begin()``, ``file(result)``, ``error(failed)`` and ``end()`` that return the strings to
write, so that a long run is written as it goes. Where a file has both transcript and translation (``--task both``),
text and tsv give both; subtitles show the translation, because two texts at once are more than anybody can read.
"""

import json
import math
from dataclasses import dataclass, field
from typing import Any

from comsl.inference.inputs import FileError


@dataclass(frozen=True)
class SegmentResult:
    """What was said between ``start`` and ``end`` seconds. A task that was not asked for leaves None."""

    start: float
    end: float
    transcript: str | None = None
    translation: str | None = None
    score: float = math.nan
    """Mean log-probability of a token of the translation, or of the transcript where there is no translation."""
    truncated: bool = False
    """The translation, or a transcript that was made, reached its limit of tokens before its end
    (``Hypothesis.truncated``)."""
    agreement: float | None = None
    """chrF, 0 to 1, between the translations of the modes direct and cascade; None unless confidence was asked for."""
    confidence: float | None = None
    """chrF, 0 to 1, that the translation is expected to have; None unless it was asked for of a calibrated model."""


@dataclass(frozen=True)
class FileResult:
    """One recording. Without speech it has no segments and empty texts (None for what was not asked for)."""

    file: str
    source: str
    target: str
    duration: float
    transcript: str | None = None
    translation: str | None = None
    segments: list[SegmentResult] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The translation, or the transcript where only that was asked for."""
        return _shown(self.translation, self.transcript)

    @property
    def confidence(self) -> float | None:
        """Of the segments, each counted as its translation is long; None unless all have one."""
        sure = [part.confidence for part in self.segments]
        lengths = [max(1, len(part.translation or "")) for part in self.segments]
        known = [value * length for value, length in zip(sure, lengths, strict=True) if value is not None]
        return sum(known) / sum(lengths) if known and len(known) == len(sure) else None

    @property
    def truncated(self) -> bool:
        """Whether the text of a segment was cut at its limit of tokens."""
        return any(part.truncated for part in self.segments)


class TextWriter:
    """One line a file: the translation (or transcript); with both, the transcript, a tab and the translation.

    Line n is input n: a file without speech and a file that cannot be used have an empty line.
    """

    suffix = ".txt"

    def begin(self) -> str:
        return ""

    def file(self, result: FileResult) -> str:
        texts = [text for text in (result.transcript, result.translation) if text is not None]
        return "\t".join(_one_line(text) for text in texts) + "\n"

    def error(self, failed: FileError) -> str:
        return "\n"

    def end(self) -> str:
        return ""


class JsonWriter(TextWriter):
    """One JSON object a line and file; of a file that cannot be used it has ``file`` and ``error``."""

    suffix = ".jsonl"

    def file(self, result: FileResult) -> str:
        return json.dumps(as_json(result), ensure_ascii=False, allow_nan=False) + "\n"

    def error(self, failed: FileError) -> str:
        return json.dumps({"file": failed.file, "error": failed.message}, ensure_ascii=False) + "\n"


class _SegmentWriter(TextWriter):
    """Formats whose unit is the segment: a file that cannot be used has none."""

    def error(self, failed: FileError) -> str:
        return ""


class TsvWriter(_SegmentWriter):
    """A header, then one line a segment: file, start and end in seconds, transcript, translation.

    Texts have their tabs and line ends turned into spaces; a file without speech, or that cannot be used, has no line.
    """

    suffix = ".tsv"
    columns = ("file", "start", "end", "transcript", "translation")

    def begin(self) -> str:
        return "\t".join(self.columns) + "\n"

    def file(self, result: FileResult) -> str:
        return "".join(
            "\t".join(
                (
                    _one_line(result.file),
                    f"{part.start:.3f}",
                    f"{part.end:.3f}",
                    _one_line(part.transcript or ""),
                    _one_line(part.translation or ""),
                )
            )
            + "\n"
            for part in result.segments
        )


class SrtWriter(_SegmentWriter):
    """SubRip, numbered from 1. One recording a track: the times of several would overlap."""

    suffix = ".srt"

    def file(self, result: FileResult) -> str:
        cues: list[str] = []
        for part in result.segments:
            text = _one_line(_shown(part.translation, part.transcript))
            if text:  # an empty cue would end the block early
                times = f"{timestamp(part.start, ',')} --> {timestamp(part.end, ',')}"
                cues.append(f"{len(cues) + 1}\n{times}\n{text}\n\n")
        return "".join(cues)


class VttWriter(_SegmentWriter):
    """WebVTT, one recording a track; ``&``, ``<`` and ``>`` are escaped, and with them ``-->`` within a text."""

    suffix = ".vtt"

    def begin(self) -> str:
        return "WEBVTT\n\n"

    def file(self, result: FileResult) -> str:
        cues = []
        for part in result.segments:
            text = escape_vtt(_one_line(_shown(part.translation, part.transcript)))
            if text:
                cues.append(f"{timestamp(part.start, '.')} --> {timestamp(part.end, '.')}\n{text}\n\n")
        return "".join(cues)


TRACKS = ("srt", "vtt")
"""Formats that hold one recording each."""

WRITERS: dict[str, type[TextWriter]] = {
    "text": TextWriter,
    "json": JsonWriter,
    "srt": SrtWriter,
    "vtt": VttWriter,
    "tsv": TsvWriter,
}


def write_result(writer: TextWriter, result: FileResult | FileError) -> str:
    """What ``writer`` has for one input, used or not."""
    return writer.error(result) if isinstance(result, FileError) else writer.file(result)


def as_json(result: FileResult) -> dict[str, Any]:
    """The object of the JSON format; seconds to the millisecond, scores to 4 places, NaN as null. ``truncated`` of the
    file: one of its segments is."""
    return {
        "file": result.file,
        "source": result.source,
        "target": result.target,
        "duration": round(result.duration, 3),
        "transcript": result.transcript,
        "translation": result.translation,
        "truncated": result.truncated,
        "confidence": _rounded(result.confidence),
        "segments": [
            {
                "start": round(part.start, 3),
                "end": round(part.end, 3),
                "transcript": part.transcript,
                "translation": part.translation,
                "score": None if math.isnan(part.score) else round(part.score, 4),
                "truncated": part.truncated,
                "agreement": _rounded(part.agreement),
                "confidence": _rounded(part.confidence),
            }
            for part in result.segments
        ],
    }


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def timestamp(seconds: float, decimal: str) -> str:
    """``01:02:03.456``, hours always written, with the decimal mark of the format."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}{decimal}{milliseconds % 1000:03d}"


def escape_vtt(text: str) -> str:
    """Text of a WebVTT cue: the characters that would start markup or a timing line become entities."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _shown(translation: str | None, transcript: str | None) -> str:
    return (translation if translation is not None else transcript) or ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
