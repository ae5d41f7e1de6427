"""Small Common Voice releases and CoVoST 2 files, with real mp3 clips."""

from __future__ import annotations

import functools
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.data.audio_files import tone, write_av

HEADER = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent"
RELEASE = "cv-corpus-4-2019-12-10"


@functools.cache
def mp3(seconds: float) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_av(Path(folder) / "clip.mp3", tone(seconds, 48_000), 48_000, "libmp3lame").read_bytes()


def write_language(folder: Path, lines: Sequence[str], clips: Mapping[str, bytes]) -> Path:
    """A language of a release: lines "client_id<TAB>path<TAB>sentence", and clips by their file names."""
    (folder / "clips").mkdir(parents=True)
    table = "".join(f"{line}\t2\t0\t\t\t\n" for line in lines)
    (folder / "validated.tsv").write_bytes(f"{HEADER}\n{table}".encode())
    for name, content in clips.items():
        (folder / "clips" / name).write_bytes(content)
    return folder


def write_translations(folder: Path, pair: str, lines: Sequence[str]) -> Path:
    """Lines "path<TAB>translation<TAB>split"."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"covost_v2.{pair}.tsv"
    path.write_bytes("".join(f"{line}\n" for line in ("path\ttranslation\tsplit", *lines)).encode())
    return path


def pack(path: Path, folder: Path, prefix: str = "") -> Path:
    """A tar.gz of what a folder holds, clips first."""
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.add(file, f"{prefix}{file.relative_to(folder)}")
    return path
