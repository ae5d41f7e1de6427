"""Sentence pairs of two languages, one a line with a tab between -> a manifest without audio, for the text part.

The files of Tatoeba's pairs and of OPUS's Moses-to-TSV exports look like this; further columns, such as Tatoeba's
attribution, are left alone.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from comsl.data.errors import CorpusError
from comsl.data.held_out import HeldOut
from comsl.data.manifest import write_manifest
from comsl.errors import UsageError
from comsl.files import sha256_of_files, write_atomically
from comsl.languages import get_language
from comsl.progress import console

Row = dict[str, Any]

MANIFEST = "train.jsonl"


@dataclasses.dataclass
class Summary:
    """What ``prepare`` did; also ``prepare.json``."""

    files: list[str]
    languages: tuple[str, str]
    held_out: list[str]
    sha256: str | None
    """Of the files."""
    lines: int = 0
    rows: int = 0
    empty: int = 0
    """Lines that lack one of the sentences."""
    held_out_lines: int = 0
    """Lines with a sentence that a held-out manifest has, whatever its case and punctuation."""


def prepare(
    files: Sequence[str | Path],
    out: str | Path,
    languages: tuple[str, str],
    columns: tuple[int, int] = (1, 2),
    held_out: Sequence[str | Path] = (),
) -> Summary:
    """Write train.jsonl and prepare.json.

    Args:
        files: UTF-8, a pair a line.
        languages: of the source and of the target sentences.
        columns: their places in a line, from 1 on.
        held_out: manifests no sentence of which may be in a pair, on the side of its language.

    Raises:
        CorpusError: a file that is missing or not UTF-8, or no pair is left.
        UsageError: an unknown language, a column that there cannot be, or two files of one name.
    """
    source, target = (get_language(language).code for language in languages)
    if min(columns) < 1 or columns[0] == columns[1]:
        raise UsageError(f"--columns {columns[0]} {columns[1]}: two different places are wanted, counted from 1")
    names = [Path(file).name for file in files]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"two of the files are called {double}, and rows are named after their file: rename one")
    out = Path(out)
    try:
        digest = sha256_of_files(map(Path, files))
    except OSError as error:
        raise CorpusError(f"{error.filename}: {error.strerror}; name a file of sentence pairs") from None
    summary = Summary([str(file) for file in files], (source, target), [str(path) for path in held_out], digest)
    kept_away = HeldOut.read(map(Path, held_out))
    write_manifest(_rows(files, (source, target), columns, kept_away, summary), out / MANIFEST)
    write_atomically(out / "prepare.json", json.dumps(dataclasses.asdict(summary), indent=2, ensure_ascii=False) + "\n")
    console.print(f"{out / MANIFEST}: {summary.rows} pairs of {summary.lines} lines", markup=False, soft_wrap=True)
    for count, why in ((summary.empty, "lack a sentence"), (summary.held_out_lines, "are held out")):
        if count:
            console.print(f"left out: {count} lines that {why}", markup=False, soft_wrap=True)
    return summary


def _rows(
    files: Sequence[str | Path],
    languages: tuple[str, str],
    columns: tuple[int, int],
    kept_away: HeldOut,
    summary: Summary,
) -> Iterator[Row]:
    for file in files:
        for number, line in enumerate(_lines(Path(file)), start=1):
            summary.lines += 1
            cells = line.split("\t")
            texts = [" ".join(cells[place - 1].split()) if place <= len(cells) else "" for place in columns]
            if not all(texts):
                summary.empty += 1
                continue
            if any(kept_away.holds(text, language) for language, text in zip(languages, texts, strict=True)):
                summary.held_out_lines += 1
                continue
            summary.rows += 1
            yield {
                "id": f"{Path(file).name}-{number}",
                "source_language": languages[0],
                "target_language": languages[1],
                "transcript": texts[0],
                "translation": texts[1],
                "provenance": f"{Path(file).name}:{number}",
            }
    if not summary.rows:  # before the manifest stands there
        raise CorpusError(
            f"{', '.join(summary.files)}: no pair in {summary.lines} lines ({summary.empty} lack a sentence in column "
            f"{columns[0]} or {columns[1]}, {summary.held_out_lines} are held out); a line is source, tab, target"
        )


def _lines(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8-sig") as content:
            # Not splitlines: a sentence may have a line separator in it that is none to its file.
            yield from content
    except UnicodeDecodeError:
        raise CorpusError(f"{file}: not UTF-8; convert it first") from None
