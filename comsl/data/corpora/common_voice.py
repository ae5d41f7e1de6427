"""Common Voice releases on disk, in whatever layout they were downloaded or unpacked.

For a language (French here) below a folder:

    cv-corpus-4-2019-12-10/fr/validated.tsv, clips/     a release with several languages
    fr/validated.tsv, clips/                            the same without the release's folder
    validated.tsv, clips/                               the folder of the language itself
    fr.tar.gz, cv-corpus-4-2019-12-10-fr.tar.gz, ...    a language's archive as it was downloaded

An archive is read once, from its beginning to its end: the tables and those clips that are asked for are unpacked,
into a folder of the second layout.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from comsl.data.archives import SUFFIXES, read_archive
from comsl.data.errors import CorpusError
from comsl.data.tsv import read_tsv
from comsl.files import replacing, write_atomically
from comsl.languages import get_language
from comsl.progress import track

VALIDATED = "validated.tsv"
CLIPS = "clips"
_MARKER = "unpacked.json"


class Utterance(NamedTuple):
    """A row of a release's table."""

    clip: str
    """File name, as in ``clips/``."""
    sentence: str
    speaker: str


@dataclass(frozen=True)
class Source:
    """Where a language of a release lies."""

    language: str
    path: Path
    """Its folder, or its archive."""

    @property
    def is_archive(self) -> bool:
        return self.path.is_file()

    def folder(self, out: Path) -> Path:
        """Where its table and clips lie, or will when it is unpacked into ``out``."""
        return out / get_language(self.language).common_voice if self.is_archive else self.path

    def stamp(self) -> list[Any]:
        """Changes when the table, the archive, or the list of clips changes."""
        files = [self.path] if self.is_archive else [self.path / VALIDATED, self.path / CLIPS]
        return [stamp(path) for path in files]


def stamp(path: Path) -> list[Any]:
    """Name, size and time of the last change of a file; all but the size of a folder. None for what is not there."""
    try:
        stat = path.stat()
    except OSError:
        return [str(path.absolute()), None, None]
    return [str(path.absolute()), stat.st_size if path.is_file() else None, stat.st_mtime_ns]


def read_utterances(table: Path) -> Iterator[Utterance]:
    """The rows of ``validated.tsv`` or another of a release's tables.

    Raises:
        DataError: no such file, or not such a table.
    """
    try:
        with table.open("rb") as file:
            yield from map(Utterance._make, read_tsv(file, str(table), ("path", "sentence", "client_id")))
    except FileNotFoundError:
        raise CorpusError(f"{table}: no such file; name the folder of a Common Voice release") from None


def check_root(root: Path) -> None:
    """Raise CorpusError for what is no folder at all."""
    if not root.is_dir():
        raise CorpusError(f"{root}: is not a directory; name the folder that Common Voice lies in")


def find(root: Path, language: str) -> Source:
    """Where the release has a language.

    Args:
        root: a folder in one of the layouts above.
        language: code of ``comsl.languages``.

    Raises:
        CorpusError: it has it nowhere, or in two places.
    """
    check_root(root)
    names = sorted({get_language(language).common_voice, language})
    if (root / VALIDATED).is_file():
        return Source(language, root)
    releases = [root, *sorted(path for path in root.glob("cv-corpus-*") if path.is_dir())]
    folders = [folder / name for folder in releases for name in names if (folder / name).is_dir()]
    found = [folder for folder in folders if (folder / VALIDATED).is_file()]
    # A folder goes before the archive that it was unpacked from.
    found = found or [path for folder in releases for path in sorted(folder.iterdir()) if _is_archive_of(path, names)]
    if len(found) == 1:
        return Source(language, found[0])
    name = get_language(language).common_voice
    if found:
        places = " and ".join(str(path) for path in found)
        raise CorpusError(f"{name}: found twice, in {places}; name the folder of one Common Voice release")
    if folders:
        raise CorpusError(f"{folders[0]}: no {VALIDATED} in it; unpack the whole release")
    raise CorpusError(
        f"{root}: no {name}/{VALIDATED}, cv-corpus-*/{name}/{VALIDATED} or archive {name}.tar.gz or"
        f" cv-corpus-*-{name}.tar.gz in it; download {name} of Common Voice, or leave the language out"
    )


def _is_archive_of(path: Path, names: Collection[str]) -> bool:
    for suffix in SUFFIXES:
        if path.name.endswith(suffix) and path.is_file():
            stem = path.name.removesuffix(suffix)
            return stem in names or (stem.startswith("cv-corpus-") and any(stem.endswith(f"-{name}") for name in names))
    return False


def unpack(source: Source, clips: Collection[str], out: Path) -> Path:
    """The folder of a language: where it lies, or where it is unpacked to.

    Args:
        source: what ``find`` found.
        clips: file names of the clips that are needed; no others are unpacked.
        out: folder to unpack into, under the language's Common Voice name. What an earlier run has unpacked stays.

    Raises:
        CorpusError: the archive is cut short or damaged, or it holds no ``validated.tsv``.
    """
    if not source.is_archive:
        return source.path
    if is_unpacked(source, clips, out):
        return source.folder(out)
    folder, wanted = source.folder(out), set(clips)
    (folder / CLIPS).mkdir(parents=True, exist_ok=True)
    for member, content in track(read_archive(source.path), description=f"unpacking {source.path.name}", unit="files"):
        target = _target(PurePosixPath(member.name), wanted, folder)
        if target is not None and not _is_there(target, member):
            _write(content, target, member)
    if not (folder / VALIDATED).is_file():
        raise CorpusError(f"{source.path}: no {VALIDATED} in the archive; is it one of Common Voice?")
    write_atomically(folder / _MARKER, json.dumps(_contents(source, wanted)))
    return folder


def is_unpacked(source: Source, clips: Collection[str], out: Path) -> bool:
    """Whether ``unpack`` of the same has nothing to do."""
    if not source.is_archive:
        return True
    return has_table(source, out) and _unpacked(source, out) == _contents(source, clips)


def has_table(source: Source, out: Path) -> bool:
    """Whether the table of the archive as it is now has been unpacked, with whatever clips."""
    return (source.folder(out) / VALIDATED).is_file() and _unpacked(source, out)[:-1] == source.stamp()


def _unpacked(source: Source, out: Path) -> list[Any]:
    """What ``_contents`` was when the archive was last unpacked; empty before."""
    marker = source.folder(out) / _MARKER
    contents: list[Any] = json.loads(marker.read_text(encoding="utf-8")) if marker.is_file() else []
    return contents


def _contents(source: Source, clips: Collection[str]) -> list[Any]:
    """The archive, and a digest of what is taken out of it."""
    return [*source.stamp(), hashlib.sha256("\n".join(sorted(set(clips))).encode()).hexdigest()]


def _target(path: PurePosixPath, wanted: Collection[str], folder: Path) -> Path | None:
    """Where a member goes; None for what is not needed. Only its last name counts, so none goes anywhere else."""
    if path.name.startswith("."):  # what macOS puts beside files
        return None
    if path.suffix == ".tsv":
        return folder / path.name
    if path.parent.name == CLIPS and path.name in wanted:
        return folder / CLIPS / path.name
    return None


def _is_there(target: Path, member: tarfile.TarInfo) -> bool:
    """Whether an earlier run has unpacked just this."""
    if not target.is_file():
        return False
    stat = target.stat()
    return stat.st_size == member.size and int(stat.st_mtime) == int(member.mtime)


def _write(content: IO[bytes], target: Path, member: tarfile.TarInfo) -> None:
    with replacing(target) as temporary:
        with temporary.open("wb") as file:
            shutil.copyfileobj(content, file)
        # The archive's own time: what is made of a table stays valid when the archive is read again for other clips.
        os.utime(temporary, (member.mtime, member.mtime))
