"""JSON lines -> Arrow tables, block by block, with errors that name the line.

pyarrow parses some hundred MB a second and says little about what it does not like; where it refuses a block, the
block's lines are gone through one by one to find the one that is to blame.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json

BLOCK_BYTES = 1 << 24

_KINDS = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a number",
}


class MalformedLine(Exception):
    """A line that is not a JSON object with fields of the schema's types: ``file:line: what is wrong``."""


def jsonl_line(row: Mapping[str, Any]) -> str:
    """A row as a line of a file."""
    return json.dumps(row, ensure_ascii=False, default=str) + "\n"


def read_blocks(path: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    """Tables of about ``BLOCK_BYTES`` of text each; fields beyond the schema become further columns.

    Raises:
        MalformedLine: not one JSON object on a line, a field of another type than the schema's, or not UTF-8.
    """
    first_line = 1
    with path.open("rb") as file:
        if file.read(3) != b"\xef\xbb\xbf":
            file.seek(0)
        while block := file.read(BLOCK_BYTES) + file.readline():
            try:
                table = pa.json.read_json(
                    io.BytesIO(block),
                    read_options=pa.json.ReadOptions(use_threads=False, block_size=len(block) + 1),
                    parse_options=pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="infer"),
                )
                table.validate(full=True)  # that strings are UTF-8
            except pa.ArrowException as error:
                raise _blame(path, first_line, block, schema, str(error)) from None
            if not _one_object_a_line(block, table.num_rows):
                raise _blame(path, first_line, block, schema, "not one JSON object a line")
            if table.num_rows:
                yield table
            first_line += block.count(b"\n")


def _one_object_a_line(block: bytes, objects: int) -> bool:
    """Arrow minds objects alone, several on a line or one over several; a row is then not on the line that errors name.

    No object has a line end between } and {, so where every line starts and ends with them, each has one or more.
    """
    lines = [line for line in map(bytes.strip, block.split(b"\n")) if line]
    return len(lines) == objects and all(line.startswith(b"{") and line.endswith(b"}") for line in lines)


def _blame(path: Path, first_line: int, block: bytes, schema: pa.Schema, otherwise: str) -> MalformedLine:
    for number, line in enumerate(block.split(b"\n"), start=first_line):
        if line.strip():
            reason = _wrong(line, schema)
            if reason:
                return MalformedLine(f"{path}:{number}: {reason}")
    return MalformedLine(f"{path}: lines {first_line} and following: {otherwise}")


def _wrong(line: bytes, schema: pa.Schema) -> str | None:
    """What is wrong with a line, if anything."""
    try:
        row = json.loads(line.decode("utf-8"), object_pairs_hook=_pairs)
    except UnicodeDecodeError as error:
        return f"not UTF-8 (byte {error.start + 1} of the line); save the manifest as UTF-8"
    except _Twice as error:
        return f"the field {str(error)!r} occurs twice"
    except ValueError as error:
        return f"not a JSON object on one line ({error})"
    if not isinstance(row, dict):
        return f"{_kind(row)} instead of a JSON object; a manifest has one object a line"
    for name in schema.names:
        value = row.get(name)
        is_number = schema.field(name).type == pa.float64()
        wanted = (int, float) if is_number else (str,)
        if value is not None and (not isinstance(value, wanted) or isinstance(value, bool)):
            what = "a number" if is_number else "a string"
            return f"the field {name!r} must be {what}, not {_kind(value)} ({json.dumps(value)[:40]})"
    return None


class _Twice(ValueError):
    pass


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in pairs:
        if name in row:
            raise _Twice(name)
        row[name] = value
    return row


def _kind(value: Any) -> str:
    return "null" if value is None else _KINDS.get(type(value), type(value).__name__)


def line_of_row(path: Path, row: int) -> int:
    """Number (from 1) of the line that holds a row (from 0); blank lines hold none."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                if row == 0:
                    return number
                row -= 1
    raise IndexError(row)


def line_with_field(path: Path, name: str) -> int:
    """Number (from 1) of the first line whose object has a field of this name."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip() and name in json.loads(line):
                return number
    raise KeyError(name)
