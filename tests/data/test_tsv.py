"""Tab-separated files read as CoVoST's own script reads them: literal rows, and pandas itself as the reference."""

from __future__ import annotations

import csv
import io
import random

import pandas
import pytest

from comsl.data.tsv import TsvError, read_tsv


def rows(text: str | bytes, *columns: str) -> list[tuple[str, ...]]:
    data = text.encode() if isinstance(text, str) else text
    return list(read_tsv(io.BytesIO(data), "t.tsv", columns or ("a", "b")))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x\tNA", ("x", "NA")),
        ("x\tnull", ("x", "null")),
        ("x\t", ("x", "")),
        ("x\t1.0", ("x", "1.0")),
        ('x\t"quoted" and not', ("x", '"quoted" and not')),
        ('"x\ty"', ('"x', 'y"')),
        ("x\t two  blanks ", ("x", " two  blanks ")),
        ("x\tback\\slash", ("x", "backslash")),
        ("x\ttwo \\\\ of them", ("x", "two \\ of them")),
        ("x\t\\\\", ("x", "\\")),
        ('x\t\\"a\\"', ("x", '"a"')),
        ("x\tnot a line end: \\n", ("x", "not a line end: n")),
        ("x\ta tab:\\\t.", ("x", "a tab:\t.")),
        ("x\ta line end:\\\n.", ("x", "a line end:\n.")),
        ("x\tthree:\\\\\\\n.", ("x", "three:\\\n.")),
        ("x\tسلام \u200cدنیا\u2028\u00a0", ("x", "سلام \u200cدنیا\u2028\u00a0")),
        ("x", ("x", "")),
    ],
)
def test_letters(line: str, expected: tuple[str, str]) -> None:
    assert rows(f"a\tb\n{line}\nlast\tone\n") == [expected, ("last", "one")]
    assert rows(f"a\tb\r\n{line}\r\nlast\tone") == [expected, ("last", "one")]


def test_lines() -> None:
    assert rows("\ufeffa\tb\n\n1\t2\n   \n\t\n3\t4\r5\t6\r\n") == [("1", "2"), ("", ""), ("3", "4"), ("5", "6")]


def test_columns_by_name() -> None:
    assert rows("a\tb\tc\n1\t2\t3\n", "c", "a") == [("3", "1")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "t.tsv: the file is empty"),
        (b"a\tB\n1\t2\n", "no column 'b' in the header, which has 'a', 'B'"),
        (b"a,b\n1,2\n", "no column 'a' in the header, which has 'a,b'"),
        (b"a\tb\n1\t2\n1\t2\t3\n", "t.tsv:3: 3 fields, the header has 2"),
        (b"a\tb\n1\t\xff\n", r"t.tsv:2: not UTF-8 \(byte 3 of the line\)"),
        (b"a\tb\n1\t2\n1\t\0\0\n", "t.tsv:3: a zero byte"),
        (b"a\tb\n1\t2\\", "t.tsv:2: ends in a backslash"),
    ],
)
def test_errors(text: bytes, message: str) -> None:
    with pytest.raises(TsvError, match=message):
        rows(text)


def nasty_table(generator: random.Random) -> str:
    letters = ["a", "é", "\\", "\\\\", '"', " ", "NA", "\r\n", "\n", "x\\\t", "\\\r", "'", "\\n", "#"]
    fields = ["".join(generator.choices(letters, k=generator.randrange(6))) for _ in range(9)]
    ends = generator.choices(["\n", "\r\n"], k=3)
    return "".join(f"k{a}\t{b}\t{c}{end}" for a, b, c, end in zip(*[iter(fields)] * 3, ends, strict=True))


def test_random_tables_are_what_pandas_makes_of_them() -> None:
    """``dtype=str`` keeps pandas from making numbers of columns; it is not in the script and changes nothing else."""
    generator = random.Random(7)
    compared = 0
    for _ in range(1000):
        text = f"p\tq\tr\n{nasty_table(generator)}"
        options = {"sep": "\t", "header": 0, "escapechar": "\\", "quoting": csv.QUOTE_NONE, "na_filter": False}
        try:
            table = pandas.read_csv(io.BytesIO(text.encode()), encoding="utf-8", dtype=str, **options)
        except pandas.errors.ParserError:
            with pytest.raises(TsvError):
                rows(text, "p", "q", "r")
            continue
        if not isinstance(table.index, pandas.RangeIndex):  # pandas takes a first row that is too long for an index
            with pytest.raises(TsvError):
                rows(text, "p", "q", "r")
            continue
        assert rows(text, "p", "q", "r") == list(table.itertuples(index=False, name=None)), repr(text)
        compared += 1
    assert compared > 700
