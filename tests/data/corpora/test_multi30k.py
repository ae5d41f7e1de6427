"""Multi30k's files as they are published: read to the letter, overlaps found, damage named."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from comsl.data.corpora.multi30k import CorpusError, read

LINES = {
    "train": {
        "en": ["A dog runs.", "Two  men.", "A girl sings.", "."],
        "de": ["Ein Hund rennt.", "Zwei Männer.", "Ein Mädchen singt.", "Nichts."],
        "fr": ["Un chien court.", "Deux hommes.", "Une fille chante.", "Rien."],
        "cs": ["Pes běží.", "Dva muži.", "Dívka zpívá.", "Nic."],
    },
    "val": {"en": ["A cat."], "de": ["Eine Katze."], "fr": ["Un chat."], "cs": ["Kočka."]},
    "test_2016_flickr": {"en": ["A boat."], "de": ["zwei männer"], "fr": ["Un bateau."], "cs": ["Loď."]},
    "test_2017_flickr": {"en": ["A girl sings!"], "de": ["Sie singt."], "fr": ["Elle chante."]},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "task1" / "raw"
    folder.mkdir(parents=True)
    for split, languages in LINES.items():
        for language, lines in languages.items():
            text = "".join(f"{line}\n" for line in lines)
            (folder / f"{split}.{language}.gz").write_bytes(gzip.compress(text.encode()))
    return tmp_path


def test_lines_as_they_stand(root: Path) -> None:
    corpus = read(root)
    assert corpus.lines["train"]["en"] == ("A dog runs.", "Two  men.", "A girl sings.", ".")
    assert corpus.lines["train"]["cs"][2] == "Dívka zpívá."
    assert "cs" not in corpus.lines["test_2017_flickr"]
    assert corpus.blank("train") == {3}
    assert read(root / "data" / "task1" / "raw").sha256 == corpus.sha256


def test_overlaps_in_any_language(root: Path) -> None:
    corpus = read(root)

    def same(text: str) -> str:
        return text.lower().strip(".!")

    assert corpus.leaks("val", same) == {"en": set(), "de": set(), "fr": set(), "cs": set()}
    assert corpus.leaks("test_2016_flickr", same) == {"en": set(), "de": {1}, "fr": set(), "cs": set()}
    assert corpus.leaks("test_2017_flickr", same) == {"en": {2}, "de": set(), "fr": set()}


def test_damage_is_named(root: Path) -> None:
    with pytest.raises(CorpusError, match=r"elsewhere: is not a directory; name the clone of multi30k/dataset"):
        read(root / "elsewhere")
    file = root / "data" / "task1" / "raw" / "val.fr.gz"
    whole = file.read_bytes()
    file.write_bytes(whole[:-6])
    with pytest.raises(CorpusError, match=r"val\.fr\.gz: damaged"):
        read(root)
    file.write_bytes(gzip.compress(b"un\ndeux\n"))
    with pytest.raises(CorpusError, match=r"val files differ in length \(en 1, de 1, fr 2, cs 1 lines\)"):
        read(root)
    file.unlink()
    with pytest.raises(CorpusError, match=r"val\.fr\.gz: missing"):
        read(root)
