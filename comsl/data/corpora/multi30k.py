"""Multi30k, task 1: 29,000 descriptions of pictures in English, German, French and Czech.

Elliott et al. (2016, 2017), Barrault et al. (2018); repository multi30k/dataset. Line n of every language's file says
the same. Text is taken from the raw files, blanks at the ends removed and nothing else.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from comsl.data.errors import DataError

FOLDER = Path("data/task1/raw")
TARGET = "en"
SOURCES = ("de", "fr", "cs")
TRAIN, DEV = "train", "val"
TESTS: dict[str, tuple[str, ...]] = {"test_2016_flickr": SOURCES, "test_2017_flickr": ("de", "fr")}
OFFICIAL_LINES = {TRAIN: 29_000, DEV: 1_014, "test_2016_flickr": 1_000, "test_2017_flickr": 1_000}
"""Lines in the published corpus; others are reported, not refused."""


class CorpusError(DataError):
    """The folder is not the corpus, or its files do not fit together."""


@dataclass(frozen=True)
class Corpus:
    """The files, read."""

    lines: Mapping[str, Mapping[str, tuple[str, ...]]]
    """Split -> language -> lines: as many in every language of a split."""
    sha256: Mapping[str, str]
    """Of each file as it lies there."""

    def blank(self, split: str) -> set[int]:
        """Lines without a letter or digit in one of the split's languages."""
        return {
            place
            for texts in self.lines[split].values()
            for place, text in enumerate(texts)
            if not any(map(str.isalnum, text))
        }

    def leaks(self, split: str, same: Callable[[str], str]) -> dict[str, set[int]]:
        """Training lines that a held-out split has as well, in whatever language: language -> lines.

        Args:
            same: what two sentences that count as one have in common.
        """
        found = {}
        for language, texts in self.lines[split].items():
            held_out = {same(text) for text in texts}
            train = self.lines[TRAIN][language]
            found[language] = {place for place, text in enumerate(train) if same(text) in held_out}
        return found


def read(root: str | Path) -> Corpus:
    """Read train, val and the tests.

    Args:
        root: the repository, or its folder ``data/task1/raw``.

    Raises:
        CorpusError: a file that is missing, damaged or not UTF-8, or languages of a split with other numbers of lines.
    """
    folder = _find(Path(root))
    languages = {TRAIN: SOURCES, DEV: SOURCES, **TESTS}
    lines: dict[str, dict[str, tuple[str, ...]]] = {}
    digests = {}
    for split, sources in languages.items():
        for language in (TARGET, *sources):
            path = folder / f"{split}.{language}.gz"
            content, digests[path.name] = _read(path)
            lines.setdefault(split, {})[language] = content
        counts = {language: len(texts) for language, texts in lines[split].items()}
        if len(set(counts.values())) > 1:
            said = ", ".join(f"{language} {count}" for language, count in counts.items())
            raise CorpusError(f"{folder}: the {split} files differ in length ({said} lines); fetch them again")
    return Corpus(lines, digests)


def _find(root: Path) -> Path:
    for folder in (root, root / FOLDER):
        if (folder / f"{TRAIN}.{TARGET}.gz").is_file():
            return folder
    what = f"has no {FOLDER / TRAIN}.{TARGET}.gz" if root.is_dir() else "is not a directory"
    raise CorpusError(f"{root}: {what}; name the clone of multi30k/dataset, or its folder {FOLDER}")


def _read(path: Path) -> tuple[tuple[str, ...], str]:
    try:
        content = path.read_bytes()
        text = gzip.decompress(content).decode("utf-8")
    except FileNotFoundError:
        raise CorpusError(f"{path}: missing; fetch the whole repository multi30k/dataset") from None
    except UnicodeDecodeError:
        raise CorpusError(f"{path}: not UTF-8") from None
    except (gzip.BadGzipFile, EOFError) as error:
        raise CorpusError(f"{path}: damaged ({error}); fetch it again") from error
    # Not splitlines(): a line may hold U+2028 and the like.
    lines = text.removesuffix("\n").split("\n")
    return tuple(line.strip() for line in lines), hashlib.sha256(content).hexdigest()
