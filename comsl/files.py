"""Files named by patterns, and files that are replaced whole: a reader finds the old content or the new one."""

from __future__ import annotations

import glob
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def matching(name: str) -> list[str]:
    """What a name or pattern (``data/*_en/train.jsonl``) means: the sorted paths that it matches, which may be none.

    A path that is there is meant as it is written, and so is a name that is no pattern, there or not.
    """
    return [name] if os.path.exists(name) or not glob.has_magic(name) else sorted(glob.glob(name, recursive=True))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new name beside ``path`` to write to, which takes its place if all goes well; else nothing is left of it.

    Several processes may do so at once: the last one wins.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a small file in one rename, after its content is on disk."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        sync(temporary)
    sync(path.parent)


def sha256_of_files(files: Iterable[Path]) -> str | None:
    """Over the digests of the files' contents, in their order; None where there is none."""
    digests = []
    for file in files:
        with file.open("rb") as content:
            digests.append(hashlib.file_digest(content, "sha256").digest())
    return hashlib.sha256(b"".join(digests)).hexdigest() if digests else None


def sync(path: str | Path) -> None:
    """Force a file, or the names in a folder, to disk."""
    if os.name == "nt":  # where a folder cannot be opened, and a file not for this
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
