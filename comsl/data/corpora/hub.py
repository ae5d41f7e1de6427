"""Any data set of the ``datasets`` library with audio, transcripts and translations -> manifests, by a column mapping.

Audio is taken as it is stored, files or their bytes, and decoded here; ``datasets`` itself would need torchcodec for
that. A split whose audio is bytes becomes a Parquet manifest that holds them, one of files a JSONL manifest of paths.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

from comsl.data.corpora.audio_folder import load_audio_folder
from comsl.data.corpora.audit import Auditor, Limits, Row, summary_line
from comsl.data.corpora.clips import Clip, check_clip, in_processes, processors, read_record
from comsl.data.corpora.common_voice import stamp
from comsl.data.errors import CorpusError
from comsl.data.manifest import write_manifest
from comsl.errors import UsageError, nearest
from comsl.files import replacing, write_atomically
from comsl.languages import get_language
from comsl.progress import console, track

FIELDS = ("audio", "transcript", "translation", "id", "speaker", "source_language", "target_language")
"""What a column can be mapped to."""

SPLIT_NAMES = {"validation": "dev", "valid": "dev", "val": "dev"}
"""What this package calls splits that have other names on the hub; all others keep theirs."""

CHUNK = 8
"""Clips that a process decodes before it reports: few, for their bytes are in memory."""

Stamp = list[Any]
"""Of a file, see ``common_voice.stamp``."""

AUDIT, FAILED = "audit.json", "failed.jsonl"

_VERSION = 2
"""Of the audit and of the record of clips: raise it whenever either is written differently."""


@dataclass(frozen=True)
class Columns:
    """Which column holds what, and the languages where no column says them.

    Attributes:
        names: field (of ``FIELDS``) -> column; ``translation.en`` is the field ``en`` of the column ``translation``.
        source_language, target_language: of all rows.
    """

    names: Mapping[str, str]
    source_language: str | None = None
    target_language: str | None = None

    @classmethod
    def parse(cls, text: str, source_language: str | None, target_language: str | None) -> Columns:
        """``audio=audio,transcript=sentence,...``; raises UsageError for what is not such a list, or not enough."""
        names: dict[str, str] = {}
        for item in text.split(","):
            field, equals, column = item.strip().partition("=")
            if not equals or not column:
                raise UsageError(f"--columns {text}: {item.strip()!r} is not of the form field=column")
            if field not in FIELDS:
                meant = nearest(field, FIELDS)
                hint = f"; is {meant} meant?" if meant else ""
                raise UsageError(f"--columns {text}: no field {field!r}; there are {', '.join(FIELDS)}{hint}")
            names[field] = column
        if "audio" not in names:
            raise UsageError(f"--columns {text}: says nothing of audio; add audio=COLUMN")
        if source_language is None and "source_language" not in names:
            raise UsageError("--source-language: missing, and --columns maps no column to source_language")
        if "translation" in names and target_language is None and "target_language" not in names:
            raise UsageError("--target-language: missing, and --columns maps no column to target_language")
        codes = [None if name is None else get_language(name).code for name in (source_language, target_language)]
        return cls(names, *codes)

    def text(self, row: Mapping[str, Any], field: str) -> str | None:
        """A text of a row: None if no column is mapped to it, empty if the row has none."""
        if field not in self.names:
            return None
        value: Any = row
        for name in self.names[field].split("."):
            value = None if value is None else value[name]
        return "" if value is None else str(value)


@dataclass(frozen=True)
class Location:
    """Which data set.

    Attributes:
        name: on the hub; or a folder of files that ``datasets`` can load, or that its ``save_to_disk`` wrote.
        config, revision: None for the default, and the newest.
        splits: None for all; ``train[:100]`` for a part of one.
    """

    name: str
    config: str | None = None
    splits: Sequence[str] | None = None
    revision: str | None = None


def prepare(
    location: Location, columns: Columns, out: str | Path, limits: Limits | None = None, workers: int | None = None
) -> dict[str, Any]:
    """Write a manifest for each split, ``audit.json`` and ``failed.jsonl`` into ``out``.

    A row that cannot be used is left out, in ``test`` it stays; both are listed. The same command goes on where it was
    interrupted, and does nothing when all is done and each file that could not be used is what it was.

    Args:
        location: of the data set.
        columns: what is where in it.
        out: folder of the manifests.
        limits: what a usable clip is.
        workers: processes that decode clips; None for one a processor.

    Returns:
        What ``Auditor.finish`` returns, under ``manifests`` the path of each split's, and under ``faulty`` the stamps
        of files that cannot be used.

    Raises:
        CorpusError: no such data set, configuration or split, or not one that can be read.
        UsageError: a column that it lacks or that is of another kind, ids that are not unique.
    """
    out, limits = Path(out), limits or Limits()
    parts = {split: _with_audio(part, columns, location) for split, part in _load(location).items()}
    made_of = {
        "version": _VERSION,
        "dataset": asdict(location),
        "fingerprints": {split: part._fingerprint for split, part in parts.items()},
        "columns": asdict(columns),
        "limits": asdict(limits),
    }
    audit = _finished(out, made_of)
    if audit is None:
        out.mkdir(parents=True, exist_ok=True)
        (out / AUDIT).unlink(missing_ok=True)
        with replacing(out / FAILED) as temporary, temporary.open("w", encoding="utf-8") as failed:
            auditor = Auditor(failed, limits, list(parts))
            manifests, faulty = {}, []
            for split, part in parts.items():
                record = out / "checked" / f"{split}-{part._fingerprint}-{_VERSION}.jsonl"
                checked = _check(part, columns.names["audio"], record, workers, location)
                clips = [clip for _, clip in checked]
                faulty += [file for file, clip in checked if file is not None and clip.fault is not None]
                manifests[split] = _write(SplitRows(split, part, clips, columns, location), auditor, out)
            audit = {**auditor.finish(), "manifests": manifests, "faulty": faulty}
        write_atomically(out / AUDIT, json.dumps({**made_of, **audit}, indent=2, ensure_ascii=False) + "\n")
    console.print(summary_line(location.name, audit), markup=False, soft_wrap=True)
    return audit


def _finished(out: Path, made_of: dict[str, Any]) -> dict[str, Any] | None:
    """The audit of an earlier run over the same rows, whose manifests are still there and faulty files unchanged."""
    try:
        audit: dict[str, Any] = json.loads((out / AUDIT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = {name: audit.get(name) for name in made_of} == json.loads(json.dumps(made_of))
    if not same or not all((out / path).is_file() for path in audit["manifests"].values()):
        return None
    return audit if all(_is_unchanged(file) for file in audit["faulty"]) else None


# ------------------------------------------------------------------------------------------------------------- loading


def _load(location: Location) -> dict[str, datasets.Dataset]:
    """Split, by this package's names, -> data set."""
    folder = Path(location.name)
    names = None if location.splits is None else list(location.splits)
    if not console.is_terminal:
        datasets.disable_progress_bars()
    try:
        if any((folder / file).is_file() for file in ("dataset_dict.json", "state.json")):
            found = datasets.load_from_disk(str(folder))
            found = found if isinstance(found, datasets.DatasetDict) else {str(found.split or "train"): found}
            parts = {name: found[name] for name in names or found}
        elif (found := load_audio_folder(folder)) is not None:
            parts = {name: found[name] for name in names or found}
        else:
            loaded = datasets.load_dataset(location.name, location.config, split=names, revision=location.revision)
            parts = dict(loaded) if names is None else dict(zip(names, loaded, strict=True))
    except KeyError as error:
        raise CorpusError(f"{location.name}: no split {error}; it has {', '.join(found)}") from None
    except (DatasetNotFoundError, DatasetGenerationError, OSError, ValueError) as error:
        raise CorpusError(f"{location.name}: {_reason(error)}") from None
    renamed: dict[str, datasets.Dataset] = {}
    for name, part in parts.items():
        split = name.partition("[")[0]
        split = SPLIT_NAMES.get(split, split)
        if split in renamed:
            raise UsageError(f"{location.name}: two splits would both be {split}; name one of them with --split")
        renamed[split] = part
    return renamed


def _reason(error: BaseException) -> str:
    """What lies at the bottom of an error, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ImportError):
        return (
            f"the datasets library needs {error.name} to read it in this form; install that, or take the hub's copy in"
            " Parquet (--revision refs/convert/parquet)"
        )
    return " ".join(str(error).split()) or type(error).__name__


def _with_audio(part: datasets.Dataset, columns: Columns, location: Location) -> datasets.Dataset:
    """The data set without other columns, its audio as it is stored."""
    for field, column in columns.names.items():
        name = column.partition(".")[0]
        if name not in part.column_names:
            known = ", ".join(part.column_names)
            raise UsageError(f"{location.name}: no column {name!r} for {field}; it has {known}")
    audio = columns.names["audio"]
    part = part.select_columns(list(dict.fromkeys(column.partition(".")[0] for column in columns.names.values())))
    feature = part.features.get(audio)
    if isinstance(feature, datasets.Audio):
        return part.cast_column(audio, datasets.Audio(decode=False))
    kind = getattr(feature, "dtype", None)
    is_file = isinstance(feature, dict) and {"bytes", "path"} <= feature.keys()
    if is_file or kind in ("string", "large_string", "binary", "large_binary"):
        return part
    raise UsageError(f"{location.name}: column {audio!r} is {feature}; audio is a file, its bytes or its path")


# -------------------------------------------------------------------------------------------------------------- splits


def _source(value: Any, location: Location) -> str | bytes | None:
    """The path or the bytes of a row's audio file."""
    if isinstance(value, Mapping):
        value = value["path"] if value["bytes"] is None else value["bytes"]
    if isinstance(value, str):
        return os.path.join(location.name, value) if os.path.isdir(location.name) else value
    return value


def _check(
    part: datasets.Dataset, column: str, record: Path, workers: int | None, location: Location
) -> list[tuple[Stamp | None, Clip]]:
    """Decode a split's clips; each with the stamp of its file, None for bytes.

    What an earlier run over the same rows has decoded is known, as long as its file has not changed since.
    """
    record.parent.mkdir(exist_ok=True)
    recorded = {place: (file, Clip(*clip)) for place, file, *clip in read_record(record)}
    known = {place: entry for place, entry in recorded.items() if entry[0] is None or _is_unchanged(entry[0])}
    todo = [place for place in range(len(part)) if place not in known]
    values = part.select_columns([column])
    places = (todo[start : start + CHUNK] for start in range(0, len(todo), CHUNK))
    chunks = ([(place, _source(values[place][column], location)) for place in chunk] for chunk in places)
    with record.open("a", encoding="utf-8") as file:

        def results() -> Iterator[int]:
            for chunk in in_processes(_check_sources, chunks, workers or processors()):
                lines = ([place, its_stamp, clip.seconds, clip.fault, clip.reason] for place, its_stamp, clip in chunk)
                file.write("".join(json.dumps(line) + "\n" for line in lines))
                file.flush()
                for place, its_stamp, clip in chunk:
                    known[place] = its_stamp, clip
                    yield place

        for _ in track(results(), total=len(todo), description=f"{record.stem.partition('-')[0]} clips", unit="clips"):
            pass
    return [known[place] for place in range(len(part))]


def _check_sources(sources: list[tuple[int, str | bytes | None]]) -> list[tuple[int, Stamp | None, Clip]]:
    nothing = Clip(None, "missing", "the row has no audio")
    found = []
    for place, source in sources:
        # Before it is read: what changes meanwhile is decoded again.
        file = stamp(Path(source)) if isinstance(source, str) else None
        found.append((place, file, nothing if source is None else check_clip(source)))
    return found


def _is_unchanged(file: Stamp) -> bool:
    return stamp(Path(file[0])) == file


@dataclass(frozen=True)
class SplitRows:
    """The rows of a split, and what became of their clips."""

    split: str
    part: datasets.Dataset
    clips: Sequence[Clip]
    columns: Columns
    location: Location

    @property
    def as_bytes(self) -> bool:
        """Whether the audio is stored in the data set itself."""
        column = self.columns.names["audio"]
        return any(isinstance(_source(row[column], self.location), bytes) for row in self.part.take(1))

    def judged(self, auditor: Auditor) -> Iterator[dict[str, Any]]:
        """The rows of the manifest."""
        as_bytes, text = self.as_bytes, self.columns.text
        seen: set[str] = set()
        for place, (row, clip) in enumerate(zip(self.part, self.clips, strict=True)):
            row_id = text(row, "id") or f"{Path(self.location.name).name}/{self.split}/{place}"
            if row_id in seen:
                raise UsageError(
                    f"{self.location.name}: the id {row_id!r} occurs twice; map another column to id, or none"
                )
            seen.add(row_id)
            source = _source(row[self.columns.names["audio"]], self.location)
            transcript, translation = text(row, "transcript"), text(row, "translation")
            name = row_id if source is None or isinstance(source, bytes) else source
            if auditor.judge(Row(row_id, self.split, name, transcript, translation, text(row, "speaker")), clip):
                yield {
                    "id": row_id,
                    "audio": _stored(source, as_bytes),
                    "duration": clip.seconds or None,
                    "source_language": self._language(row, "source_language"),
                    "target_language": self._language(row, "target_language"),
                    "transcript": transcript,
                    "translation": translation,
                    "split": self.split,
                    "speaker": text(row, "speaker"),
                    "provenance": "/".join(filter(None, (self.location.name, self.location.config))),
                }

    def _language(self, row: Mapping[str, Any], field: str) -> str | None:
        name = self.columns.text(row, field)
        if name is None:
            code: str | None = getattr(self.columns, field)
            return code
        return get_language(name).code


def _stored(source: str | bytes | None, as_bytes: bool) -> str | bytes | None:
    """Audio as the manifest holds it; None for a file that is not there and should be held."""
    if isinstance(source, str):
        if not as_bytes:
            return os.path.abspath(source)
        return Path(source).read_bytes() if os.path.isfile(source) else None
    return source


def _write(rows: SplitRows, auditor: Auditor, out: Path) -> str:
    """The name of the split's manifest."""
    name = f"{rows.split}.{'parquet' if rows.as_bytes else 'jsonl'}"
    write_manifest(rows.judged(auditor), out / name)
    return name
