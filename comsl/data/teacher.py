"""Cached distributions of a frozen text model: for every target position of every row its k likeliest tokens.

A folder with three arrays, memory-mapped when they are read, and ``teacher.json``. It has its name once all is there:

    offsets.npy        int64 [rows + 1], where each row's positions start
    tokens.npy         int32 [positions, k], likeliest first
    probabilities.npy  float32 [positions, k]

A row's positions are those that the loss scores: its target tokens and the end.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from comsl.files import write_atomically

RECORD = "teacher.json"
OFFSETS, TOKENS, PROBABILITIES = "offsets.npy", "tokens.npy", "probabilities.npy"

Top = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]
"""Tokens and probabilities of a row [N, k]."""


class TeacherCache:
    """Reads a finished folder; rows are numbered as in the manifest that it was written for.

    The files are mapped when a process first reads a row, so that it can be sent to loaders' processes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._arrays: tuple[Any, Any, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_arrays": None}

    @property
    def record(self) -> dict[str, Any]:
        """What ``teacher.json`` says."""
        found: dict[str, Any] = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
        return found

    def __getitem__(self, row: int) -> Top:
        if self._arrays is None:
            offsets, tokens, probabilities = (
                np.load(self.folder / name, mmap_mode="r") for name in (OFFSETS, TOKENS, PROBABILITIES)
            )
            self._arrays = offsets, tokens, probabilities
        offsets, tokens, probabilities = self._arrays
        place = slice(offsets[row], offsets[row + 1])
        return np.array(tokens[place]), np.array(probabilities[place])


class TeacherCacheWriter:
    """Fills a folder; several processes of a run may write different rows of it.

    Args:
        folder: of this run alone, until ``finish`` renames it; made and sized by the process with ``create``; the
            others call this after it.
        positions: of each row.
        top_k: tokens kept.
    """

    def __init__(self, folder: Path, positions: Sequence[int], top_k: int, create: bool) -> None:
        self.folder = folder
        self.offsets = np.concatenate([[0], np.cumsum(np.asarray(positions, dtype=np.int64))])
        shape = (int(self.offsets[-1]), top_k)
        if create:
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / OFFSETS, self.offsets)
            for name, kind in ((TOKENS, np.int32), (PROBABILITIES, np.float32)):
                np.lib.format.open_memmap(folder / name, "w+", kind, shape).flush()
                _reserve(folder / name)
        self._tokens = np.load(folder / TOKENS, mmap_mode="r+")
        self._probabilities = np.load(folder / PROBABILITIES, mmap_mode="r+")

    def write(self, rows: Sequence[int], tokens: npt.NDArray[Any], probabilities: npt.NDArray[Any]) -> None:
        """Of the rows, one behind the other [positions of them all, k]."""
        start = 0
        for row in rows:
            place = slice(self.offsets[row], self.offsets[row + 1])
            stop = start + int(place.stop - place.start)
            self._tokens[place], self._probabilities[place] = tokens[start:stop], probabilities[start:stop]
            start = stop

    def flush(self) -> None:
        """Bring this process's rows to disk."""
        self._tokens.flush()
        self._probabilities.flush()

    def facts(self) -> dict[str, Any]:
        """Positions, bytes on disk, and the share of the probability that the kept tokens hold, on the average."""
        size = self._tokens.nbytes + self._probabilities.nbytes + self.offsets.nbytes
        positions = len(self._tokens)
        kept = float(self._probabilities.sum(dtype=np.float64)) / max(positions, 1)
        return {"positions": positions, "bytes": size, "kept": kept}

    def finish(self, record: dict[str, Any], target: Path) -> None:
        """Write down what was written, which all processes have flushed, and give the folder its name.

        Where another run has written the same meanwhile, which may be read already, that stays.
        """
        write_atomically(self.folder / RECORD, json.dumps(record, indent=2) + "\n")
        if target.is_dir() and not (target / RECORD).exists():  # left half-written, before caches were renamed
            shutil.rmtree(target)
        try:
            self.folder.rename(target)
        except OSError:
            if not (target / RECORD).exists():
                raise


def _reserve(path: Path) -> None:
    """Take the room of a sparse file: writing to a mapped one on a full disk would end the process without a word."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
