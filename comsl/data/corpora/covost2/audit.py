"""What was found wrong with CoVoST 2 as it lies on disk: counted by split, listed row by row."""

from __future__ import annotations

import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from comsl.data.corpora.clips import Clip
from comsl.data.corpora.covost2.published import SPLITS
from comsl.data.corpora.covost2.splits import Row

NOT_IN_RELEASE = "not-in-release"

LOSSES = {
    NOT_IN_RELEASE: "named by CoVoST 2, but not in this release's validated.tsv, so that there is no transcript",
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


def fault_of(row: Row, clip: Clip, limits: Limits) -> tuple[str, str] | None:
    """Kind of loss and reason in one line; None for a row that can be used."""
    if clip.fault is not None:
        return clip.fault, clip.reason
    assert clip.seconds is not None
    if clip.seconds < limits.min_duration:
        return "too-short", f"{clip.seconds:g} s, less than {limits.min_duration:g} s"
    if clip.seconds > limits.max_duration:
        return "too-long", f"{clip.seconds:g} s, more than {limits.max_duration:g} s"
    if not row.sentence.strip():
        return "no-transcript", "the sentence is empty"
    if not row.translation.strip():
        return "no-translation", "the translation is empty"
    return None


@dataclass
class SplitAudit:
    """Counts of one split."""

    rows: int = 0
    """Of the split procedure."""
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
        self._hashes = {
            split: {what: array("q") for what in ("transcript", "translation", "speaker")} for split in SPLITS
        }

    def add(self, row: Row) -> None:
        hashes = self._hashes[row.split]
        hashes["transcript"].append(hash(bare_text(row.sentence)))
        hashes["translation"].append(hash(bare_text(row.translation)))
        hashes["speaker"].append(hash(row.speaker))

    def counts(self) -> dict[str, dict[str, int]]:
        """Held-out split -> rows whose transcript or translation is one of train's too, and speakers that are."""
        found = {}
        for split in ("dev", "test"):
            known = {what: np.isin(self._of(split, what), self._of("train", what)) for what in self._hashes[split]}
            speakers = np.unique(self._of(split, "speaker")[known["speaker"]])
            found[split] = {
                "transcripts": int(known["transcript"].sum()),
                "translations": int(known["translation"].sum()),
                "both": int((known["transcript"] & known["translation"]).sum()),
                "speakers": len(speakers),
            }
        return found

    def _of(self, split: str, what: str) -> npt.NDArray[np.int64]:
        return np.frombuffer(self._hashes[split][what], np.int64)


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
    """Transcript lengths and durations of the usable clips of a pair, and which rows they are."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []
        """Split, id and clip."""
        self._characters, self._seconds = array("q"), array("d")

    def add(self, row: Row, row_id: str, seconds: float) -> None:
        self.rows.append((row.split, row_id, row.clip))
        self._characters.append(len(row.sentence.strip()))
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
