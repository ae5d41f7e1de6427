r"""Tab-separated files as CoVoST's split script reads them: pandas without quoting and with a backslash that escapes.

That script calls ``pandas.read_csv(sep="\t", header=0, encoding="utf-8", escapechar="\\", quoting=csv.QUOTE_NONE,
na_filter=False)``. What that means for the letters of a field, here without pandas and line by line:

* quotation marks are letters, blanks stay, ``NA`` and ``null`` are words;
* a backslash goes and the character behind it stays whatever it is: a tab or line end behind it belongs to the field,
  two backslashes are one, ``\n`` is the letter n;
* ``\n``, ``\r\n`` and a lone ``\r`` end a line; lines that are empty or of blanks only are no rows;
* a line with too few fields is filled with empty ones.

Two things differ on purpose. All fields stay text: pandas makes numbers out of a column (or block) of nothing but
numbers. And what pandas reads as something else without a word (a first row with more fields than the header; a zero
byte, at which it cuts the field) is an error here, as is what pandas refuses too (a later row with more fields).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from comsl.data.errors import DataError

_FIELD = re.compile(r"((?:[^\\\t\r\n]+|\\.)*)(\t|\r\n|\r|\n|\Z)", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_BOM = b"\xef\xbb\xbf"


class TsvError(DataError):
    """A tab-separated file that cannot be used; names the file and the line or column."""


def read_tsv(lines: Iterable[bytes], name: str, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The named columns of every row.

    Args:
        lines: of the file, each up to and with its ``\\n`` (a file opened as binary).
        name: of the file, for errors.
        columns: header names to return, in this order.

    Raises:
        TsvError: no header, a column that it lacks, a row with more fields than it, not UTF-8, a zero byte, or a
            backslash as the last character.
    """
    records = _records(lines, name)
    try:
        _, header = next(records)
    except StopIteration:
        raise TsvError(f"{name}: the file is empty; copy or download it again") from None
    places = [_place(column, header, name) for column in columns]
    width = len(header)
    for number, fields in records:
        if len(fields) != width:
            if len(fields) > width:
                raise TsvError(f"{name}:{number}: {len(fields)} fields, the header has {width}; is a tab in a text?")
            fields += [""] * (width - len(fields))
        yield tuple([fields[place] for place in places])


def _place(column: str, header: list[str], name: str) -> int:
    if column in header:
        return header.index(column)
    found = ", ".join(map(repr, header)) if len(header) <= 20 else f"{len(header)} others"
    raise TsvError(f"{name}: no column {column!r} in the header, which has {found}; take the file as it was published")


def _records(lines: Iterable[bytes], name: str) -> Iterator[tuple[int, list[str]]]:
    """Number of the line that a row starts on (from 1), and its fields."""
    number = 0
    iterator = iter(lines)
    for line in iterator:
        number += 1
        if number == 1 and line.startswith(_BOM):
            line = line[len(_BOM) :]
        if b"\0" in line:
            raise TsvError(f"{name}:{number}: a zero byte; the file is damaged, copy or download it again")
        if b"\\" not in line:
            bare = line.rstrip(b"\r\n")
            if b"\r" not in bare:
                if bare.strip(b" "):
                    yield number, _text(bare, name, number).split("\t")
                continue
        first = number
        while _ends_in_escape(line):
            following = next(iterator, b"")
            if not following and not line.endswith(b"\n"):
                raise TsvError(f"{name}:{number}: ends in a backslash; the file is cut short, copy it again")
            if not following:
                break
            line += following
            number += 1
        for fields in _split(_text(line, name, first)):
            yield first, fields


def _ends_in_escape(line: bytes) -> bool:
    """Whether the line end (or the end of the file) is escaped and so part of the last field."""
    body = line.removesuffix(b"\n")
    return (len(body) - len(body.rstrip(b"\\"))) % 2 == 1


def _text(line: bytes, name: str, number: int) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TsvError(f"{name}:{number}: not UTF-8 (byte {error.start + 1} of the line); save it as UTF-8") from None


def _split(text: str) -> Iterator[list[str]]:
    """Rows of a text that has backslashes or carriage returns in it."""
    fields: list[str] = []
    start = position = 0
    while position < len(text):
        match = _FIELD.match(text, position)
        assert match is not None  # the pattern matches the empty field
        fields.append(_ESCAPE.sub(r"\1", match[1]))
        position = match.end()
        if match[2] != "\t":
            if text[start:position].strip(" \r\n"):
                yield fields
            fields, start = [], position
    if fields:  # the text ends in a tab
        yield [*fields, ""]
