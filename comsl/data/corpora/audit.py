"""What is wrong with a corpus as it lies on disk: counted by split, listed row by row."""

from __future__ import annotations

import unicodedata
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from comsl.data.corpora.clips import Clip
from comsl.data.jsonl import jsonl_line
from comsl.errors import UsageError

NOT_IN_RELEASE = "not-in-release"

LOSSES = {
    NOT_IN_RELEASE: "translated, but not among the release's sentences, so that there is no transcript",
    "missing": "no file",
    "zero-length": "an empty file, or one without samples",
    "undecodable": "not audio, or cut short",
    "too-short": "shorter than the limit",
    "too-long": "longer than the limit",
    "no-transcript": "an empty sentence",
    "no-translation": "an empty translation",
}
"""Why a row is left out of train or dev, or is a failure in test."""

OUTLIER = "outlier"
"""Of rows that stay: the clip is much shorter or longer than its transcript lets expect."""

MIN_ROWS_TO_FIT = 30
"""Fewer say too little about how fast a language is spoken."""


@dataclass(frozen=True)
class Limits:
    """What a usable clip is."""

    min_duration: float = 0.1
    """Seconds."""
    max_duration: float = 30.0
    """Seconds; Whisper's encoder reads no more."""
    outlier_score: float = 6.0
    """Robust standard deviations from the expected duration (see ``DurationFit``)."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_duration < self.max_duration:
            raise UsageError(
                f"durations from {self.min_duration:g} to {self.max_duration:g} s leave no clip; the smaller number is"
                " --min-duration"
            )
        if not self.outlier_score > 0:
            raise UsageError(f"an outlier score of {self.outlier_score:g} makes every clip one; it has to be positive")


class Row(NamedTuple):
    """What an audit looks at."""

    id: str
    split: str
    clip: str
    """Name of its audio, for the list of failures."""
    transcript: str | None
    """None where the corpus has none at all."""
    translation: str | None
    speaker: str | None


def fault_of(row: Row, clip: Clip, limits: Limits) -> tuple[str, str] | None:
    """Kind of loss and reason in one line; None for a row that can be used."""
    if clip.fault is not None:
        return clip.fault, clip.reason
    assert clip.seconds is not None
    if clip.seconds < limits.min_duration:
        return "too-short", f"{clip.seconds:g} s, less than {limits.min_duration:g} s"
    if clip.seconds > limits.max_duration:
        return "too-long", f"{clip.seconds:g} s, more than {limits.max_duration:g} s"
    if row.transcript is not None and not row.transcript.strip():
        return "no-transcript", "the transcript is empty"
    if row.translation is not None and not row.translation.strip():
        return "no-translation", "the translation is empty"
    return None


@dataclass
class SplitAudit:
    """Counts of one split."""

    rows: int = 0
    """In the corpus's split."""
    written: int = 0
    """In the manifest."""
    seconds: float = 0.0
    """Of the clips in the manifest that can be used."""
    losses: Counter[str] = field(default_factory=Counter)
    outliers: int = 0
    repeated: int = 0
    """Rows whose clip has an earlier row; both are in the manifest."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; hours instead of seconds."""
        return {
            "rows": self.rows,
            "written": self.written,
            "hours": round(self.seconds / 3600, 4),
            "losses": {kind: self.losses[kind] for kind in LOSSES if self.losses[kind]},
            "outliers": self.outliers,
            "repeated": self.repeated,
        }


class Shared:
    """What the splits have in common: sentences (their letters and digits alone, without case) and speakers."""

    def __init__(self) -> None:
        # 64-bit hashes: three numbers a row instead of three texts.
        self._hashes: dict[str, dict[str, array[int]]] = defaultdict(lambda: {what: array("q") for what in _SHARED})

    def add(self, row: Row) -> None:
        hashes = self._hashes[row.split]
        for what, text in zip(_SHARED, (row.transcript, row.translation, row.speaker), strict=True):
            # Nothing is equal to what is not there.
            hashes[what].append(hash(bare_text(text) if what != "speaker" else text) if text else id(hashes))

    def counts(self) -> dict[str, dict[str, int]]:
        """Held-out split -> rows whose transcript or translation is one of train's too, and speakers that are."""
        found = {}
        for split in self._hashes.keys() - {"train"}:
            known = {what: np.isin(self._of(split, what), self._of("train", what)) for what in _SHARED}
            speakers = np.unique(self._of(split, "speaker")[known["speaker"]])
            found[split] = {
                "transcripts": int(known["transcript"].sum()),
                "translations": int(known["translation"].sum()),
                "both": int((known["transcript"] & known["translation"]).sum()),
                "speakers": len(speakers),
            }
        return dict(sorted(found.items()))

    def _of(self, split: str, what: str) -> npt.NDArray[np.int64]:
        return np.frombuffer(self._hashes[split][what], np.int64)


_SHARED = ("transcript", "translation", "speaker")


def bare_text(text: str) -> str:
    """A sentence without what two writers of it would do differently: case, punctuation, blanks, forms of letters."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().translate(_LETTERS).split())


class _Letters(dict[int, int]):
    """Letters, marks and numbers stay, all else becomes a blank."""

    def __missing__(self, code: int) -> int:
        self[code] = code if unicodedata.category(chr(code))[0] in "LMN" else ord(" ")
        return self[code]


_LETTERS = _Letters()


@dataclass(frozen=True)
class DurationFit:
    """How long the clips of a language last, by the characters of their transcripts: a line, fitted robustly.

    The slope is the median over pairs of clips (Theil's incomplete method: sorted by length of the transcript, each of
    the lower half with its counterpart in the upper), the start the median of what remains. A clip's score is how far
    the logarithm of its duration over the expected one lies from the median, in units of 1.4826 times the median
    absolute deviation, which is the standard deviation where the distribution is normal.
    """

    start: float
    """Seconds that a clip has besides its speech."""
    per_character: float
    """Seconds."""
    center: float
    scale: float

    @classmethod
    def of(cls, characters: npt.NDArray[Any], seconds: npt.NDArray[Any]) -> DurationFit | None:
        """None where there are fewer than ``MIN_ROWS_TO_FIT`` clips."""
        if len(seconds) < MIN_ROWS_TO_FIT:
            return None
        order = np.argsort(characters, kind="stable")
        x, y = characters[order].astype(np.float64), seconds[order].astype(np.float64)
        half = len(x) // 2
        run = x[-half:] - x[:half]
        rise = (y[-half:] - y[:half])[run > 0]
        slope = max(0.0, float(np.median(rise / run[run > 0]))) if len(rise) else 0.0
        start = float(np.median(y - slope * x))
        fit = cls(start, slope, 0.0, 1.0)
        ratios = fit.scores(characters, seconds)
        center = float(np.median(ratios))
        # Of clips that all have the same ratio, a tenth more or less is no outlier yet.
        scale = max(1.4826 * float(np.median(np.abs(ratios - center))), 0.02)
        return cls(start, slope, center, scale)

    def expected(self, characters: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Seconds of transcripts with so many characters; at least a tenth of a second."""
        return np.maximum(self.start + self.per_character * characters, 0.1)

    def scores(self, characters: npt.NDArray[Any], seconds: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        ratio = np.log(np.maximum(seconds, 1e-3) / self.expected(characters))
        return (ratio - self.center) / self.scale


class Durations:
    """Transcript lengths and durations of usable clips, and which rows they are."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []
        """Split, id and clip."""
        self._characters, self._seconds = array("q"), array("d")

    def add(self, row: Row, seconds: float) -> None:
        if row.transcript is not None:
            self.rows.append((row.split, row.id, row.clip))
            self._characters.append(len(row.transcript.strip()))
            self._seconds.append(seconds)

    def outliers(self, limit: float) -> tuple[DurationFit | None, Iterator[tuple[str, str, str, str]]]:
        """The fit; split, id, clip and reason of each row whose score is beyond ``limit``."""
        characters, seconds = np.array(self._characters), np.array(self._seconds)
        fit = DurationFit.of(characters, seconds)
        return fit, iter(()) if fit is None else self._beyond(fit, characters, seconds, limit)

    def _beyond(
        self, fit: DurationFit, characters: npt.NDArray[Any], seconds: npt.NDArray[Any], limit: float
    ) -> Iterator[tuple[str, str, str, str]]:
        scores, expected = fit.scores(characters, seconds), fit.expected(characters)
        for place in np.flatnonzero(np.abs(scores) > limit):
            reason = (
                f"{seconds[place]:.2f} s for {characters[place]} characters, {expected[place]:.2f} s expected"
                f" (score {scores[place]:+.1f})"
            )
            yield *self.rows[place], reason


class Auditor:
    """Judges rows as they come, counts, and lists what fails.

    Args:
        failed: where a line of JSON goes for each row that fails or is an outlier.
        limits: what a usable clip is.
        splits: of the corpus, in their order.
    """

    def __init__(self, failed: IO[str], limits: Limits, splits: Sequence[str]) -> None:
        self.failed, self.limits = failed, limits
        self.splits = {split: SplitAudit() for split in splits}
        self._shared, self._durations = Shared(), Durations()

    def judge(self, row: Row, clip: Clip) -> bool:
        """Whether the row goes into its manifest: if nothing is wrong with it, and in test all the same."""
        counts = self.splits[row.split]
        counts.rows += 1
        self._shared.add(row)
        fault = fault_of(row, clip, self.limits)
        if fault is None:
            assert clip.seconds is not None
            counts.seconds += clip.seconds
            self._durations.add(row, clip.seconds)
        else:
            self.lose(row, *fault, kept=row.split == "test")
        written = fault is None or row.split == "test"
        counts.written += written
        return written

    def lose(self, row: Row, kind: str, reason: str, kept: bool = False) -> None:
        """Count and list a row that fails."""
        self.splits[row.split].losses[kind] += 1
        self._list(row.id, row.split, row.clip, kind, reason, kept)

    def _list(self, row_id: str, split: str, clip: str, kind: str, reason: str, kept: bool) -> None:
        failed = {"id": row_id, "split": split, "clip": clip, "kind": kind, "kept": kept, "reason": reason}
        self.failed.write(jsonl_line(failed))

    def finish(self) -> dict[str, Any]:
        """List what can only be known when all rows are; the counts."""
        fit, outliers = self._durations.outliers(self.limits.outlier_score)
        for split, row_id, clip, reason in outliers:
            self.splits[split].outliers += 1
            self._list(row_id, split, clip, OUTLIER, reason, kept=True)
        return {
            "splits": {split: counts.as_dict() for split, counts in self.splits.items()},
            "shared_with_train": self._shared.counts(),
            "duration_fit": None if fit is None else asdict(fit),
        }


def summary_line(name: str, audit: dict[str, Any]) -> str:
    """What ``Auditor.finish`` returned, in one line."""
    parts = []
    for split, counts in audit["splits"].items():
        lost = sum(counts["losses"].values())
        parts.append(f"{split} {counts['written']:,}" + (f" ({lost:,} lost or failing)" if lost else ""))
    hours = sum(counts["hours"] for counts in audit["splits"].values())
    return f"{name}: {', '.join(parts)} rows, {hours:.1f} h"
