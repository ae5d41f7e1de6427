"""Tar archives, compressed by gzip or not, read once from beginning to end."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from comsl.data.errors import CorpusError

SUFFIXES = (".tar.gz", ".tgz", ".tar")
_BUFFER = 1 << 20


def read_archive(path: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """Each file of an archive, to be read before the next one is asked for.

    ``tarfile`` takes an archive that ends between two members for a whole one; here that is an error too.

    Raises:
        CorpusError: cut short, damaged, or no archive; in the worst case only after the last member, and while a
            member is read too.
    """
    with path.open("rb") as file:
        stream = _WholeStream(path, file)
        try:
            with tarfile.open(fileobj=stream, mode="r|", bufsize=_BUFFER) as archive:
                for member in archive:
                    content = archive.extractfile(member)
                    if content is not None:
                        yield member, content
        except tarfile.TarError as error:
            raise _damaged(path, error) from None
        while stream.read(_BUFFER):  # up to the checksum
            pass


class _WholeStream(io.RawIOBase):
    """The decompressed archive; reading fails where it ends without an archive's end, which is blocks of zeros."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path = path
        is_gzip = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        self.file: IO[bytes] | gzip.GzipFile = gzip.open(file) if is_gzip else file  # noqa: SIM115 - ends with file
        self.last = b""

    def read(self, size: int = -1, /) -> bytes:
        try:
            data = self.file.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _damaged(self.path, error) from None
        if data:
            self.last = (self.last + data[-tarfile.BLOCKSIZE :])[-tarfile.BLOCKSIZE :]
        elif len(self.last) < tarfile.BLOCKSIZE or self.last.strip(b"\0"):
            raise _damaged(self.path, "it ends without an end-of-archive mark")
        return data


def _damaged(path: Path, reason: object) -> CorpusError:
    return CorpusError(f"{path}: the archive is cut short or damaged ({reason}); download it again")
