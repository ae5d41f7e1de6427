"""The rows of CoVoST 2's splits: its translations, joined with Common Voice's sentences.

After the corpus's own script (``get_covost_splits.py`` of facebookresearch/covost, version 2): an inner join of
``validated.tsv`` and ``covost_v2.<source>_<target>.tsv`` on ``path``, in the order of ``validated.tsv``; the training
set is what is marked ``train`` or ``train_covost``, dev and test are what is marked exactly so. How letters are read
is ``comsl.data.tsv``'s matter.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from comsl.data.archives import read_archive
from comsl.data.corpora.common_voice import read_utterances
from comsl.data.errors import CorpusError
from comsl.data.tsv import read_tsv
from comsl.languages import COVOST_SOURCES, COVOST_TARGETS, get_language

SPLIT_OF_MARK = {"train": "train", "train_covost": "train", "dev": "dev", "test": "test"}

DIRECTIONS = {
    "xx-en": tuple((source, "en") for source in COVOST_SOURCES),
    "en-xx": tuple(("en", target) for target in COVOST_TARGETS),
}
"""Pairs of language codes."""


class Joined(NamedTuple):
    """One utterance of a split."""

    clip: str
    sentence: str
    translation: str
    speaker: str
    split: str


def check_root(root: Path) -> None:
    """Raise CorpusError for a folder that cannot be CoVoST 2's at all, whatever the pair."""
    if not root.is_dir():
        raise CorpusError(f"{root}: is not a directory; name the folder that CoVoST 2's TSV files lie in")
    if not any(next(root.glob(pattern), None) for pattern in ("covost_v2.*", "*/covost_v2.*")):
        raise CorpusError(f"{root}: no covost_v2.<source>_<target>.tsv or .tar.gz in it; name the folder they lie in")


def find_translations(root: Path, source: str, target: str) -> Path:
    """The TSV of a pair, or its archive, in ``root`` or a folder right below it.

    Raises:
        CorpusError: it is not there.
    """
    name = f"covost_v2.{get_language(source).common_voice}_{get_language(target).common_voice}.tsv"
    for pattern in (name, f"{name}.tar.gz", f"*/{name}", f"*/{name}.tar.gz"):
        for path in sorted(root.glob(pattern)):
            if path.is_file():
                return path
    raise CorpusError(f"{root}: no {name} or {name}.tar.gz in it; download that pair, or leave the language out")


@dataclass
class Translations:
    """A pair's TSV in memory: some 300 bytes a row."""

    path: Path
    by_clip: dict[str, tuple[str, ...]]
    """Clip -> translation and mark in turn (four or more of them where a clip has several rows)."""
    marks: Counter[str]
    """Rows by what the column ``split`` says."""

    @classmethod
    def read(cls, path: Path) -> Translations:
        """Raises CorpusError for an archive that is damaged or holds something else, TsvError as ``read_tsv``."""
        by_clip: dict[str, tuple[str, ...]] = {}
        marks: Counter[str] = Counter()
        for clip, translation, mark in read_tsv(_lines(path), str(path), ("path", "translation", "split")):
            if "/" in clip or "\\" in clip:
                raise CorpusError(f"{path}: the path {clip!r} is not the name of a clip; take the published file")
            by_clip[clip] = (*by_clip.get(clip, ()), translation, sys.intern(mark))
            marks[mark] += 1
        if not by_clip:
            raise CorpusError(f"{path}: no rows in it; download it again")
        return cls(path, by_clip, marks)

    def rows_of(self, clip: str) -> Iterator[tuple[str, str]]:
        """Translation and split of each row of a clip that is in a split."""
        entry = self.by_clip.get(clip, ())
        for translation, mark in zip(entry[::2], entry[1::2], strict=True):
            split = SPLIT_OF_MARK.get(mark)
            if split is not None:
                yield translation, split

    @property
    def clips(self) -> list[str]:
        """Those of the splits."""
        return [clip for clip in self.by_clip if any(True for _ in self.rows_of(clip))]


def _lines(path: Path) -> Iterator[bytes]:
    if not path.name.endswith(".tar.gz"):
        with path.open("rb") as file:
            yield from file
        return
    name = path.name.removesuffix(".tar.gz")
    found = False
    for member, content in read_archive(path):
        if PurePosixPath(member.name).name == name:
            found = True
            yield from content
    if not found:
        raise CorpusError(f"{path}: no {name} in the archive; download it again")


def join(translations: Translations, table: Path) -> Iterator[Joined]:
    """The rows of all splits, in the order of ``table``, which is Common Voice's ``validated.tsv``."""
    for utterance in read_utterances(table):
        for translation, split in translations.rows_of(utterance.clip):
            yield Joined(utterance.clip, utterance.sentence, translation, utterance.speaker, split)
