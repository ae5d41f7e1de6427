"""The symbols of a CTC layer: the characters that a corpus' transcripts, or a text, consist of."""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path

from comsl.data.errors import DataError

BLANK = "<blank>"


def fold_case(text: str) -> str:
    """Composed (NFC) and lower-cased: a model that spells need not learn two shapes of a letter that sound the same.

    What the CTC layer spells is only ever compared with itself.
    """
    return unicodedata.normalize("NFC", text.lower())


def normalize_characters(text: str) -> str:
    """A text as the CTC layer spells it: ``fold_case``, single spaces between words and none at the ends."""
    return " ".join(fold_case(text).split())


def read_texts(path: str | Path) -> list[str]:
    """The transcripts of a manifest (``.jsonl``, ``.parquet``), or the lines of a text in UTF-8.

    Raises:
        DataError: no such file, or not UTF-8.
    """
    path = Path(path)
    if path.suffix in (".jsonl", ".json", ".parquet"):
        from comsl.data.manifest import load_manifest  # heavy, and the processor needs the functions above only

        return [text for text in load_manifest(path)["transcript"] if text]
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}") from error


def character_vocabulary(path: str | Path, min_count: int = 1) -> list[str]:
    """Blank first, then every character in the order of Unicode, the space between words included.

    They are those of the texts as ``normalize_characters`` gives them.

    Args:
        path: as for ``read_texts``.
        min_count: leave out what is rarer.

    Raises:
        DataError: no such file, not UTF-8, or no characters in it.
    """
    counts: Counter[str] = Counter()
    for line in read_texts(path):
        counts.update(normalize_characters(line))
    characters = sorted(character for character, count in counts.items() if count >= min_count)
    if not characters:
        raise DataError(f"{path}: no transcripts to take characters from")
    # A text of single characters, one a line, has no space; words have to be told apart all the same.
    return [BLANK, *sorted({" ", *characters})]
