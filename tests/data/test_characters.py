"""The CTC vocabulary of a manifest and of a text."""

from __future__ import annotations

from pathlib import Path

import pytest

from comsl.data.characters import character_vocabulary, normalize_characters
from comsl.data.errors import DataError
from comsl.data.manifest import write_manifest


def test_characters_of_a_text(tmp_path: Path) -> None:
    # "é" once composed and once as "e" with an accent: the same character.
    (tmp_path / "a.txt").write_text("Bé  be\ncafe\u0301\n", encoding="utf-8")
    assert character_vocabulary(tmp_path / "a.txt") == ["<blank>", " ", "a", "b", "c", "e", "f", "é"]


def test_normalisation_of_capitals_that_have_no_single_small_letter() -> None:
    # Sigma at the end of a word and the Turkish dotted I depend on more than the letter.
    assert normalize_characters(" ΟΔΌΣ  \u0130A") == "οδός i\u0307a"


def test_characters_of_a_manifest_are_those_of_its_transcripts(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "transcript": "Ab", "translation": "xyz", "source_language": "de", "target_language": "en"},
        {"id": "2", "transcript": "bc", "source_language": "de", "target_language": "en"},
    ]
    write_manifest(rows, tmp_path / "m.jsonl")
    assert character_vocabulary(tmp_path / "m.jsonl") == ["<blank>", " ", "a", "b", "c"]
    assert character_vocabulary(tmp_path / "m.jsonl", min_count=2) == ["<blank>", " ", "b"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", None])
def test_what_has_no_characters_is_an_error_naming_the_file(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match="a.txt"):
        character_vocabulary(tmp_path / "a.txt")
