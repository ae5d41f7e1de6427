"""Manifest rows -> training examples.

All randomness of an example follows from (seed, epoch, index): the number of workers, the number of ranks and where a
run was resumed change nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, get_args

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.utils.data import Dataset

from comsl.data.audio import MIN_DURATION, SAMPLE_RATE, audio_duration, load_audio
from comsl.data.augment import AugmentSettings, augment_waveform, mask_features
from comsl.data.constants import TooLong
from comsl.data.errors import DataError
from comsl.data.manifest import ManifestPath, load_manifest
from comsl.data.teacher import TeacherCache, Top
from comsl.errors import ComSLError, UsageError
from comsl.progress import track

NEEDS: dict[str, tuple[str, ...]] = {
    "speech": ("audio",),
    "transcript": ("transcript",),
    "masked_transcript": ("transcript",),
    "translation": ("translation", "target_language"),
    "ctc": ("transcript",),
    "words": ("transcript",),
}
"""Field of a batch -> columns of the manifest that it is made of."""

# Headers and manifests say lengths to a few milliseconds; a clip of exactly the longest duration must pass. What was
# decoded is measured without slack.
_LENGTH_SLACK = 0.02
_READ_SLACK = 0.5 / SAMPLE_RATE


# Source ids of a text that are no character of it: language, end, and perhaps a word boundary before the first word.
_TOKENS_AROUND = 3


@dataclass(frozen=True)
class MixedLimit:
    """How long a clip may be that the text encoder reads behind its transcript, as mtp, stm and erm have it read."""

    alone: float
    """Seconds that it has positions for with no transcript before them."""
    per_token: float
    """Seconds that one position is worth."""

    def beside(self, tokens: Any) -> Any:
        """Seconds of the longest clip behind so many tokens (a number or an array), language and end included."""
        return self.alone - tokens * self.per_token


class FeatureSource(Protocol):
    """The part of ``comsl.model.processing.ComSLProcessor`` that turns waveforms into features, and counts tokens."""

    def features(self, waveform: Any) -> npt.NDArray[np.float32]: ...

    def source_ids(self, text: str, language: str) -> list[int]: ...


@dataclass
class Example:
    """One row, ready for the collator."""

    index: int
    id: str
    key: tuple[int, int, int]
    """(seed, epoch, index), from which the collator's randomness follows too."""
    source_language: str
    target_language: str | None = None
    transcript: str | None = None
    translation: str | None = None
    features: npt.NDArray[np.float32] | None = None
    """[n_mels, T], [samples] or [T, S * n_mels], S frames stacked to one."""
    duration: float | None = None
    """Seconds of audio that the features are made of."""
    teacher: Top | None = None
    """The frozen text model's likeliest tokens at each position of the translation, and their probabilities [N, k]."""


class SpeechTranslationDataset(Dataset[Example]):
    """Examples of one or several manifests, made when they are asked for.

    Args:
        manifest: path(s), or what ``load_manifest`` returned.
        processor: makes the features (a ComSLProcessor).
        augment: what is done to the clips; None for nothing.
        seed: of all randomness.
        fields: what the collator will build (keys of ``NEEDS``); nothing else is loaded. None: audio where a row has
            it, and whatever text there is.
        max_duration: seconds that the model reads at most; default: the processor's ``max_duration``, if it has one.
            Never more than its ``fixed_duration``.
        mixed: what the text encoder reads of a clip behind its transcript; None where it does not, or has no limit.
        teacher: cached distributions of the same rows, which go into the examples.
        too_long: "leave_out" leaves out the rows that are longer than the model reads, by what the manifest or else the
            file's header says; the data set is then that much smaller (``left_out``). Needs ``fields``.

    Raises:
        DataError: a row lacks a column that the fields need, is in a language that the processor lacks, or is known
            to be too long or too short, naming the rows: better now than after an hour of training; or none is left.
        UsageError: the processor pads every clip to more than the model reads.
    """

    def __init__(
        self,
        manifest: ManifestPath | Sequence[ManifestPath] | datasets.Dataset,
        processor: FeatureSource,
        augment: AugmentSettings | None = None,
        seed: int = 0,
        fields: Collection[str] | None = None,
        max_duration: float | None = None,
        mixed: MixedLimit | None = None,
        teacher: TeacherCache | None = None,
        too_long: TooLong = "error",
    ) -> None:
        self.manifest = manifest if isinstance(manifest, datasets.Dataset) else load_manifest(manifest)
        if self.manifest._indices is not None:  # a selection: its columns would be those of the whole
            self.manifest = self.manifest.flatten_indices()
        self.processor = processor
        self.augment = augment or AugmentSettings()
        self.seed = seed
        self.fields = None if fields is None else check_fields(fields)
        if too_long not in get_args(TooLong) or (too_long == "leave_out" and fields is None):
            raise ValueError(f"too_long is one of {', '.join(get_args(TooLong))}, the last one with fields")
        if max_duration is None:
            max_duration = getattr(processor, "max_duration", None)
        self.fixed_duration: float | None = getattr(processor, "fixed_duration", None)
        limits = [seconds for seconds in (max_duration, self.fixed_duration) if seconds is not None]
        self.max_duration: float | None = min(limits, default=None)
        self.mixed, self.teacher = mixed, teacher
        # Shared memory, so that workers that live on from one epoch to the next see it change.
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()
        self._seconds: npt.NDArray[np.float64] | None = None
        self._kept = np.arange(len(self.manifest))
        """Rows of the manifest, and of the teacher's, that are in the data set."""
        self.left_out: list[str] = []
        """Ids of the rows that are too long, and not in the data set."""
        self._stack = self._find_stack()
        self._check_columns()
        self._check_languages()
        if self.fields is not None and "speech" not in self.fields:
            self.manifest = self.manifest.remove_columns(["audio"])
            return
        if self.fixed_duration is not None and max_duration is not None and self.fixed_duration > max_duration:
            raise UsageError(
                f"the fixed duration of {self.fixed_duration:g} s, which every clip is padded to, is longer than the"
                f" {max_duration:g} s that the model reads at most: compose it with a shorter fixed_duration"
            )
        if self.fields is None:
            return
        if too_long == "leave_out":
            self._leave_out()
        else:
            self._check_durations(_numbers(self.manifest.data.column("duration")))

    def _find_stack(self) -> int | None:
        extractor = getattr(self.processor, "feature_extractor", None)
        kind = getattr(extractor, "kind", "whisper")
        if kind == "waveform" and self.augment.masks_features:
            raise UsageError(
                "augment.time_masks and augment.frequency_masks are for spectral features; this model reads the"
                " waveform itself: leave them out (augment.speed and augment.noise work on waveforms)"
            )
        return extractor.stack if extractor is not None and kind == "filterbank" else None

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose randomness the next examples have, in running workers too."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> Example:
        """Load, augment and featurize one row.

        Raises:
            DataError: naming the row, its file and what is wrong with it.
        """
        place = int(self._kept[index])
        row = self.manifest[place]
        key = (self.seed, self.epoch, index)
        example = Example(
            index, row["id"], key, row["source_language"], row["target_language"], row["transcript"], row["translation"]
        )
        if self.teacher is not None:
            example.teacher = self.teacher[place]
        if row.get("audio") is not None and (self.fields is None or "speech" in self.fields):
            try:
                self._add_speech(example, row["audio"])
            except ComSLError as error:
                file = row["audio"] if isinstance(row["audio"], str) else None
                named = f" ({file})" if file and file not in str(error) else ""
                raise DataError(f"row {row['id']!r}{named}: {error}") from None
        return example

    def _add_speech(self, example: Example, audio: str | bytes) -> None:
        waveform = load_audio(audio)
        seconds, slack = waveform.size / SAMPLE_RATE, _READ_SLACK
        reason, longest = self._wrong_duration(seconds, slack), self.max_duration
        if self.mixed is not None and example.transcript is not None:
            tokens = len(self.processor.source_ids(example.transcript, example.source_language))
            reason = reason or self._too_long_together(seconds, tokens, slack)
            if self.fixed_duration is None:  # otherwise it is the padding that takes the positions
                longest = min(self.mixed.beside(tokens), longest or np.inf)
        if reason:
            raise DataError(reason)
        generator = np.random.default_rng(example.key)
        waveform = augment_waveform(waveform, self.augment, generator, longest)
        example.duration = waveform.size / SAMPLE_RATE
        example.features = self.processor.features(waveform)
        if self.augment.masks_features:
            example.features = mask_features(example.features, self.augment, generator, self._stack)

    def _wrong_duration(self, seconds: float, slack: float = _LENGTH_SLACK) -> str | None:
        if seconds < MIN_DURATION:
            return f"{1000 * seconds:.0f} ms of audio, at least {1000 * MIN_DURATION:.0f} ms are needed; leave it out"
        if self.max_duration is not None and seconds > self.max_duration + slack:
            digits = 2 if seconds > self.max_duration + _LENGTH_SLACK else 4
            return (
                f"{seconds:.{digits}f} s of audio, the model reads {self.max_duration:g} s at most; cut it into"
                " segments with their own text, or leave it out"
            )
        return None

    def _too_long_together(self, seconds: float, tokens: int, slack: float = _LENGTH_SLACK) -> str | None:
        """What is wrong with a clip behind a transcript of so many tokens, if anything."""
        assert self.mixed is not None
        seconds, room = max(seconds, self.fixed_duration or 0.0), self.mixed.beside(tokens)
        if seconds <= room + slack:
            return None
        return (
            f"{seconds:.2f} s of audio and a transcript of {tokens} tokens, beside which the text encoder has positions"
            f" for {max(room, 0.0):.2f} s; cut it into segments with their own text, leave it out, or switch off mtp,"
            " stm and erm, which read both together"
        )

    def _check_columns(self) -> None:
        for field in sorted(self.fields or ()):
            for column in NEEDS[field]:
                missing = np.flatnonzero(self.manifest.data.column(column).is_null().to_numpy())
                if missing.size:
                    raise DataError(
                        f"{self._rows(missing)} no {column}, which {field!r} is made of; fill it in, leave the rows"
                        " out, or switch the objectives off that need it"
                    )

    def _check_languages(self) -> None:
        """Refuse languages that the model has no token for, as far as the fields need them."""
        find = getattr(self.processor, "language_id", None)
        if find is None:
            return
        columns = set()
        if self.fields is None or self.fields - {"ctc"}:
            columns.add("source_language")
        if self.fields is not None and "translation" in self.fields:
            columns.add("target_language")
        for name in sorted(columns):
            column = self.manifest.data.column(name)
            for code in pc.unique(column).drop_null().to_pylist():
                try:
                    find(code)
                except ComSLError as error:
                    rows = np.flatnonzero(pc.fill_null(pc.equal(column, code), False).to_numpy())
                    raise DataError(
                        f"{self._rows(rows)} the {name} {code!r}: {error}; leave the rows out, or compose the model"
                        " with it as a new language"
                    ) from None

    def _rows(self, rows: npt.NDArray[np.int64]) -> str:
        """ "row 'a' has" or "3 rows (first: 'a', 'b') have"."""
        ids = self.manifest.data.column("id")
        if rows.size == 1:
            return f"row {ids[int(rows[0])].as_py()!r} has"
        return f"{rows.size} rows (first: {', '.join(repr(ids[int(row)].as_py()) for row in rows[:3])}) have"

    def check_durations(self, rows: Sequence[int]) -> None:
        """Refuse those of the rows that the manifest says to be too long or too short; needed only without fields."""
        seconds = np.full(len(self), np.nan)
        seconds[rows] = _numbers(self.manifest.data.column("duration"))[rows]
        self._check_durations(seconds)

    def _check_durations(self, seconds: npt.NDArray[np.float64]) -> None:
        """Refuse what is known to be too long or too short; NaN: not known."""
        for rows, reason in self._too_long(seconds):
            raise DataError(f"{self._rows(rows)} {reason}")
        self._check_short(seconds)

    def _check_short(self, seconds: npt.NDArray[np.float64]) -> None:
        short = np.flatnonzero(seconds < MIN_DURATION)
        if short.size:
            raise DataError(f"{self._rows(short)} {self._wrong_duration(float(seconds[short[0]]))}")

    def _leave_out(self) -> None:
        """Go on without the rows that are too long."""
        seconds = self._measured()
        kept = np.ones(len(seconds), dtype=bool)
        # As strict as when a clip is read: a row that stayed would end the training.
        for rows, reason in self._too_long(seconds, _READ_SLACK):
            kept[rows] = False
            if not kept.any():
                raise DataError(f"{self._rows(rows)} {reason}; that leaves no row at all")
        self._kept = np.flatnonzero(kept)
        ids = self.manifest.data.column("id")
        self.left_out = [ids[row].as_py() for row in np.flatnonzero(~kept).tolist()]
        self._check_short(np.where(kept, seconds, np.nan))
        self._seconds = seconds[kept]

    def _too_long(
        self, seconds: npt.NDArray[np.float64], slack: float = _LENGTH_SLACK
    ) -> Iterator[tuple[npt.NDArray[np.int64], str]]:
        """Rows known to be too long, and what is wrong with the first: alone, then behind their transcripts."""
        if self.max_duration is not None:
            rows = np.flatnonzero(seconds > self.max_duration + slack)
            if rows.size:
                yield rows, str(self._wrong_duration(float(seconds[rows[0]]), slack))
        if self.mixed is not None:
            reasons = self._without_room(seconds, slack)
            if reasons:
                yield np.array([*reasons]), next(iter(reasons.values()))

    def _without_room(self, seconds: npt.NDArray[np.float64], slack: float) -> dict[int, str]:
        """Clips that are known to have no room beside their transcript, with the reason.

        Only rows of which this could be true are tokenised: a token is a character at least. Where a tokeniser takes
        one character apart (NFKC does so with a few) a row may be overlooked, and is found when it is read.
        """
        assert self.mixed is not None
        transcripts, languages = (self.manifest.data.column(name) for name in ("transcript", "source_language"))
        characters = _numbers(pc.utf8_length(transcripts))
        if self.fixed_duration is not None:  # which is known where the clip's own is not
            seconds = np.full_like(seconds, self.fixed_duration)
        reasons = {}
        for row in np.flatnonzero(seconds > self.mixed.beside(characters + _TOKENS_AROUND)).tolist():
            tokens = len(self.processor.source_ids(transcripts[row].as_py(), languages[row].as_py()))
            reason = self._too_long_together(float(seconds[row]), tokens, slack)
            if reason:
                reasons[row] = reason
        return reasons

    def durations(self) -> npt.NDArray[np.float64]:
        """Seconds of each row [rows], from the manifest or else from the file's header; NaN without audio."""
        if self._seconds is None:
            seconds = self._measured()
            self._check_durations(seconds)
            self._seconds = seconds
        return self._seconds

    def _measured(self) -> npt.NDArray[np.float64]:
        seconds = _numbers(self.manifest.data.column("duration"))
        audio = self.manifest.data.column("audio")
        unknown = np.flatnonzero(np.isnan(seconds) & audio.is_valid().to_numpy())
        if unknown.size:
            with ThreadPoolExecutor(8) as pool:
                found = pool.map(self._read_duration, unknown.tolist())
                seconds[unknown] = list(track(found, total=unknown.size, description="lengths of clips", unit="clips"))
        return seconds

    def _read_duration(self, index: int) -> float:
        row = self.manifest[index]
        try:
            return audio_duration(row["audio"])
        except ComSLError as error:
            raise DataError(f"row {row['id']!r}: {error}") from None

    def costs(self) -> npt.NDArray[np.float64]:
        """What each row costs in a batch [rows], for ``BucketBatchSampler``.

        Seconds of audio (at the slowest speed of the augmentation that leaves the clip short enough; the fixed
        duration, where the processor has one, whatever the clip's), or, if speech is not among the fields, characters
        of the longer of transcript and translation.
        """
        if self.fields is None or "speech" in self.fields:
            seconds = self.durations()
            if self.fixed_duration is not None:
                return np.where(np.isnan(seconds), np.nan, self.fixed_duration)
            slowest = seconds / min((1.0, *self.augment.speed))
            return slowest if self.max_duration is None else np.minimum(slowest, self.max_duration)
        columns = {column for field in self.fields for column in NEEDS[field]} & {"transcript", "translation"}
        lengths = [_numbers(pc.utf8_length(self.manifest.data.column(column))) for column in sorted(columns)]
        return np.nanmax(np.stack(lengths), axis=0)

    def source_languages(self) -> npt.NDArray[np.int32]:
        """Source language of each row [rows], as its place among the sorted codes, for temperature sampling."""
        column = self.manifest.data.column("source_language").take(pa.array(self._kept))
        codes = sorted(pc.unique(column).to_pylist())
        return pc.index_in(column, pa.array(codes)).to_numpy()


def check_fields(fields: Collection[str]) -> frozenset[str]:
    """Raises ValueError for what is not a key of ``NEEDS``."""
    unknown = set(fields) - set(NEEDS)
    if unknown:
        raise ValueError(f"unknown fields {sorted(unknown)}; there are {', '.join(NEEDS)}")
    return frozenset(fields)


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return np.array(pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy(), dtype=np.float64)
