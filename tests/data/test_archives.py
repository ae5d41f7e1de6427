from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from comsl.data.archives import read_archive
from comsl.data.errors import CorpusError

FILES = {"a/one.txt": b"1" * 700, "a/two.txt": b"", "three.txt": b"3" * 5000}


def packed() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        folder = tarfile.TarInfo("a")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in FILES.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def read(path: Path) -> dict[str, bytes]:
    return {member.name: content.read() for member, content in read_archive(path)}


@pytest.mark.parametrize("compressed", [False, True])
def test_files(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(gzip.compress(packed()) if compressed else packed())
    assert read(path) == FILES


@pytest.mark.parametrize("size", [0, 512, 600, 1024, 2000, 2560, 3000, 3584, 8000])
def test_cut_anywhere(tmp_path: Path, size: int) -> None:
    """Between two members too (512, 2048 + 512, ...), in a plain and in a compressed archive."""
    path = tmp_path / "x.tar"
    path.write_bytes(packed()[:size])
    with pytest.raises(CorpusError, match=f"^{path}: the archive is cut short or damaged"):
        read(path)
    path.write_bytes(gzip.compress(packed()[:size]))
    with pytest.raises(CorpusError, match="the archive is cut short or damaged"):
        read(path)


@pytest.mark.parametrize("missing", [1, 8, 20])
def test_cut_at_its_very_end(tmp_path: Path, missing: int) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(packed())[:-missing])
    with pytest.raises(CorpusError, match="Compressed file ended before"):
        read(path)


def test_what_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(b"<html>404</html>" * 100)
    with pytest.raises(CorpusError, match="the archive is cut short or damaged"):
        read(path)
    damaged = bytearray(gzip.compress(packed()))
    damaged[len(damaged) // 2] ^= 0x55
    path.write_bytes(damaged)
    with pytest.raises(CorpusError, match="the archive is cut short or damaged"):
        read(path)
