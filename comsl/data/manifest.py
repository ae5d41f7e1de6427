"""Manifests: the one row type that every corpus becomes, as JSONL or Parquet.

A manifest is read once: checked, brought to one Arrow schema and kept in the cache directory of ``datasets``, from
where it is memory-mapped. A million rows cost no memory, and nothing the second time.

    id               string, unique over all manifests that are used together
    audio            path relative to the manifest's folder (or absolute); or the bytes of a file (Parquet); or null
    duration         seconds, optional (read from the audio where it is needed and missing)
    source_language  code, of speech and transcript
    target_language  code, of the translation
    transcript       string
    translation      string
    split, speaker, provenance   strings, optional, for your information
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import hashlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from comsl.data.errors import DataError
from comsl.data.jsonl import MalformedLine, jsonl_line, line_of_row, line_with_field, read_blocks
from comsl.data.parquet import holds_bytes, is_audio_feature, plain_audio
from comsl.errors import ComSLError, nearest
from comsl.files import matching, replacing
from comsl.languages import get_language

COLUMNS: dict[str, pa.DataType] = {
    "id": pa.string(),
    "audio": pa.string(),
    "duration": pa.float64(),
    "source_language": pa.string(),
    "target_language": pa.string(),
    "transcript": pa.string(),
    "translation": pa.string(),
    "split": pa.string(),
    "speaker": pa.string(),
    "provenance": pa.string(),
}
"""Columns of a manifest row. ``audio`` is binary where a Parquet manifest holds the files themselves."""

# Part of the cache's key: raise it whenever a manifest would be converted or checked differently.
_CACHE_VERSION = 3

ManifestPath = str | os.PathLike[str]


class ManifestError(DataError):
    """A manifest that cannot be used; names file, line or row, and field."""


def load_manifest(paths: ManifestPath | Sequence[ManifestPath]) -> datasets.Dataset:
    """Read one or several manifests.

    Args:
        paths: ``.jsonl`` or ``.parquet`` files, or patterns of them (``data/*_en/train.jsonl``); the rows of several
            follow each other, those of a pattern in the order of their names.

    Returns:
        A memory-mapped data set with all of ``COLUMNS``. Fields that are absent or blank are None; ``audio`` is an
        absolute path, or bytes; languages are the codes of ``comsl.languages``. Whether the audio files exist is not
        looked at: a missing one is the error of its row, when that is read.

    Raises:
        ManifestError: no such file, a pattern that matches none, malformed line, wrong type, unknown or missing column,
            unknown language, a row without id, source language or both audio and transcript, a duration that is not
            positive, duplicate ids.
    """
    files = manifest_files(paths)
    parts = [datasets.Dataset.from_file(str(_converted(path))) for path in files]
    if len(parts) == 1:
        return parts[0]
    whole = datasets.concatenate_datasets(_with_one_audio_type(parts, files))
    repeated = _duplicates(whole.data.column("id"))
    if repeated:
        names = ", ".join(str(path) for path in files)
        raise ManifestError(f"{names}: ids that occur more than once: {_some(repeated)}; make them unique")
    return whole


def manifest_files(paths: ManifestPath | Sequence[ManifestPath]) -> list[Path]:
    """The files that ``paths`` of ``load_manifest`` name; raises ManifestError where that are none."""
    files: list[Path] = []
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        matched = matching(os.fspath(path))
        if not matched:
            raise ManifestError(f"{path}: matches no file; check the pattern")
        files += map(Path, matched)
    if not files:
        raise ManifestError("no manifest was named")
    return files


def write_manifest(rows: Iterable[Mapping[str, Any]], path: ManifestPath) -> int:
    """Write rows as JSONL or Parquet, by the suffix; the file appears when it is complete.

    Returns:
        Number of rows.

    Raises:
        ManifestError: another suffix, a column that a manifest does not have, or bytes in JSONL.
    """
    path = Path(path)
    writers: dict[str, Callable[[Iterable[Mapping[str, Any]], Path], int]] = {
        ".jsonl": _write_jsonl,
        ".parquet": _write_parquet,
    }
    if path.suffix not in writers:
        raise ManifestError(f"{path}: manifests are .jsonl or .parquet files, not {path.suffix or 'without a suffix'}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        return writers[path.suffix](_checked_columns(rows, path), temporary)


# ------------------------------------------------------------------------------------------------------------ reading


def _converted(path: Path) -> Path:
    """The checked Arrow copy of a manifest, made if there is none of this version of the file."""
    if path.suffix not in (".jsonl", ".json", ".parquet"):
        raise ManifestError(f"{path}: manifests are .jsonl or .parquet files")
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such manifest; check the path") from None
    if not path.is_file():
        raise ManifestError(f"{path}: is not a file; name the manifest itself")
    folder = _cache_folder()
    where = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]
    stamp = f"{_CACHE_VERSION} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
    target = folder / f"{where}-{hashlib.sha256(stamp.encode()).hexdigest()[:24]}.arrow"
    if not target.exists():
        older = list(folder.glob(f"{where}-*.arrow"))
        with replacing(target) as temporary:
            _convert(path, temporary)
        for file in older:
            if file != target:  # which another process may have made in the meantime
                file.unlink(missing_ok=True)
    return target


def _cache_folder() -> Path:
    for parent in (datasets.config.HF_DATASETS_CACHE, Path(tempfile.gettempdir()) / f"comsl-{getpass.getuser()}"):
        folder = Path(parent) / "comsl-manifests"
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    raise ManifestError(f"{folder}: cannot be written; set HF_HOME to a directory that can")


def _convert(path: Path, target: Path) -> None:
    """Read, check and write one manifest block by block."""
    blocks = _parquet_blocks(path) if path.suffix == ".parquet" else _jsonl_blocks(path)
    folder = str(path.resolve().parent)
    rows = 0
    writer: pa.ipc.RecordBatchStreamWriter | None = None
    with contextlib.ExitStack() as stack:
        for block in blocks:
            table = _normalized(block, folder)
            try:
                _check(table)
                table = _with_language_codes(table)
            except _RowError as error:
                raise ManifestError(f"{_place(path, rows + error.row)}: {error}") from None
            if writer is None:
                writer = stack.enter_context(pa.ipc.new_stream(str(target), table.schema))
            writer.write_table(table)
            rows += table.num_rows
    if writer is None:
        raise ManifestError(f"{path}: the manifest has no rows")
    with pa.memory_map(str(target)) as written:
        ids = pa.ipc.open_stream(written).read_all().column("id")
        repeated = _duplicates(ids)
        if repeated:
            first, second = _positions(ids, repeated[0])
            raise ManifestError(
                f"{_place(path, second)}: the id {repeated[0]!r} is taken ({_place(path, first)}); ids that occur more"
                f" than once: {_some(repeated)}"
            )


def _jsonl_blocks(path: Path) -> Iterator[pa.Table]:
    try:
        for table in read_blocks(path, pa.schema(list(COLUMNS.items()))):
            for name in table.column_names:
                if name not in COLUMNS:
                    raise _unknown_column(name, f"{path}:{line_with_field(path, name)}")
            yield table
    except MalformedLine as error:
        raise ManifestError(str(error)) from None


def _parquet_blocks(path: Path) -> Iterator[pa.Table]:
    try:
        file = pq.ParquetFile(path)
        for name in file.schema_arrow.names:
            if name not in COLUMNS:
                raise _unknown_column(name, str(path))
        with_bytes = holds_bytes(file)
        rows = 0
        for batch in file.iter_batches(batch_size=1024):
            columns = {name: batch.column(name) for name in batch.schema.names}
            if "audio" in columns and is_audio_feature(columns["audio"].type):
                columns["audio"], without = plain_audio(columns["audio"], with_bytes)
                if without is not None:
                    raise ManifestError(
                        f"{_place(path, rows + without)}: audio is a path without bytes, other rows have bytes; write"
                        " all rows the same way"
                    )
            yield pa.table({name: _as_type(column, name, path) for name, column in columns.items()})
            rows += batch.num_rows
    except pa.ArrowException as error:
        raise ManifestError(f"{path}: not a Parquet file that can be read ({error})") from None


def _as_type(column: pa.Array, name: str, path: Path) -> pa.Array:
    kind = column.type
    if name == "audio" and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        return column.cast(pa.binary())
    wanted = COLUMNS[name]
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if pa.types.is_null(kind) or (number if wanted == pa.float64() else text):
        return column.cast(wanted)
    raise ManifestError(f"{path}: column {name!r} is of type {kind}, not {wanted}")


def _unknown_column(name: str, place: str) -> ManifestError:
    meant = nearest(name, COLUMNS, cutoff=0.6)
    hint = f"did you mean {meant!r}?" if meant else f"a manifest has {', '.join(COLUMNS)}"
    return ManifestError(f"{place}: unknown column {name!r}: {hint}")


def _normalized(block: pa.Table, folder: str) -> pa.Table:
    """All columns, in order; blank text as null; audio paths absolute; languages by their codes."""
    columns = {}
    for name, kind in COLUMNS.items():
        if name not in block.column_names:
            columns[name] = pa.nulls(block.num_rows, kind)
            continue
        column = block.column(name)
        if column.type == pa.string():
            blank = pc.equal(pc.utf8_trim_whitespace(column), "")
            column = pc.if_else(pc.fill_null(blank, False), pa.scalar(None, pa.string()), column)
        columns[name] = column
    if columns["audio"].type == pa.string():
        relative = pc.binary_join_element_wise(folder, columns["audio"], "/")
        absolute = pc.fill_null(pc.starts_with(columns["audio"], "/"), True)
        columns["audio"] = pc.if_else(absolute, columns["audio"], relative)
    return pa.table(columns)


class _RowError(Exception):
    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


def _fail_where(table: pa.Table, wrong: pa.ChunkedArray, message: Callable[[dict[str, Any]], str]) -> None:
    row = pc.index(pc.fill_null(wrong, False), True).as_py()
    if row >= 0:
        raise _RowError(row, message(table.select(["id", "duration"]).slice(row, 1).to_pylist()[0]))


def _name_row(text: str, row: dict[str, Any]) -> str:
    return f"row {row['id']!r}{text}"


def _check(table: pa.Table) -> None:
    """The rules for single rows, a column at a time."""
    _fail_where(table, pc.is_null(table["id"]), lambda row: "the row has no id")
    _fail_where(table, pc.is_null(table["source_language"]), lambda row: f"row {row['id']!r} has no source_language")
    _fail_where(
        table,
        pc.and_(pc.is_null(table["audio"]), pc.is_null(table["transcript"])),
        lambda row: f"row {row['id']!r} has neither audio nor transcript",
    )
    _fail_where(
        table,
        pc.invert(pc.and_(pc.greater(table["duration"], 0.0), pc.is_finite(table["duration"]))),
        lambda row: f"row {row['id']!r} has the duration {row['duration']}; it must be positive seconds, or absent",
    )


def _with_language_codes(table: pa.Table) -> pa.Table:
    """Languages by the codes of ``comsl.languages``, whatever accepted spelling the manifest has."""
    for name in ("source_language", "target_language"):
        spellings = pc.unique(table[name]).drop_null()
        codes = []
        for spelling in spellings.to_pylist():
            try:
                codes.append(get_language(spelling).code)
            except ComSLError as error:
                here = pc.equal(table[name], spelling)
                _fail_where(table, here, functools.partial(_name_row, f", {name}: {error}"))
                raise
        if codes != spellings.to_pylist():
            column = pc.take(pa.array(codes, pa.string()), pc.index_in(table[name], spellings))
            table = table.set_column(table.column_names.index(name), name, column)
    return table


def _duplicates(ids: pa.ChunkedArray) -> list[str]:
    """Ids that occur more than once. Hashes are compared first: a table of all ids would take a gigabyte for ten
    million rows, and twice the time."""
    hashes = np.concatenate([np.fromiter(map(hash, chunk.to_pylist()), np.int64, len(chunk)) for chunk in ids.chunks])
    ordered = np.sort(hashes)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if not repeated.size:
        return []
    counts = pc.value_counts(ids.filter(pa.array(np.isin(hashes, repeated))))
    return counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()


def _positions(ids: pa.ChunkedArray, value: str) -> tuple[int, int]:
    """The first two rows with this id."""
    first, second = pc.indices_nonzero(pc.equal(ids, value))[:2].to_pylist()
    return first, second


def _place(path: Path, row: int) -> str:
    """A row as its reader finds it: file:line of JSONL, the number of a Parquet row."""
    return f"{path}, row {row + 1}" if path.suffix == ".parquet" else f"{path}:{line_of_row(path, row)}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _with_one_audio_type(parts: list[datasets.Dataset], files: list[Path]) -> list[datasets.Dataset]:
    """Manifests without audio go with any; paths and bytes do not go into one column."""
    kinds: dict[pa.DataType, Path] = {}
    for part, file in zip(parts, files, strict=True):
        column = part.data.column("audio")
        if column.null_count < len(column):
            kinds.setdefault(column.type, file)
    if len(kinds) > 1:
        paths, with_bytes = (kinds[kind] for kind in sorted(kinds, key=lambda kind: kind == pa.binary()))
        raise ManifestError(
            f"{with_bytes} holds its audio as bytes and {paths} as paths: write both the same way to use them together"
        )
    kind = next(iter(kinds), pa.string())
    return [
        part if part.data.column("audio").type == kind else part.cast_column("audio", datasets.Value(str(kind)))
        for part in parts
    ]


# ------------------------------------------------------------------------------------------------------------ writing


def _checked_columns(rows: Iterable[Mapping[str, Any]], path: Path) -> Iterator[Mapping[str, Any]]:
    for row in rows:
        for name in row:
            if name not in COLUMNS:
                raise _unknown_column(name, str(path))
        yield row


def _write_jsonl(rows: Iterable[Mapping[str, Any]], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            if isinstance(row.get("audio"), bytes):
                raise ManifestError(f"row {row.get('id')!r}: JSONL cannot hold audio bytes; write a .parquet manifest")
            file.write(jsonl_line(row))
            count += 1
    return count


def _write_parquet(rows: Iterable[Mapping[str, Any]], path: Path) -> int:
    count = 0
    iterator = iter(rows)
    block = list(itertools.islice(iterator, 1024))
    with_bytes = any(isinstance(row.get("audio"), bytes) for row in block)
    schema = pa.schema([*({**COLUMNS, "audio": pa.binary()} if with_bytes else COLUMNS).items()])
    with pq.ParquetWriter(path, schema) as writer:
        while block:
            values = {name: [row.get(name) for row in block] for name in schema.names}
            writer.write_table(pa.table(values, schema=schema))
            count += len(block)
            block = list(itertools.islice(iterator, 1024))
    return count
