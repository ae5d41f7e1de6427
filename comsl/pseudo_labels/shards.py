"""Translations on disk, a file for every ``SHARD_ROWS`` rows, so that what was interrupted goes on where it stopped.

Which rows a shard holds follows from the rows alone, not from the processes: any number of them, killed and started
again at any moment, leave the same files. Processes need no connection: each makes its own share of the shards, and
the first waits for the files of the others.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from comsl.data.corpora.clips import check_clip
from comsl.errors import ComSLError
from comsl.evaluation.records import write_json
from comsl.evaluation.systems import ModelDecoder
from comsl.files import write_atomically
from comsl.progress import console, track
from comsl.training.distributed import rank, world_size

SHARD_ROWS = 512
STATE = "state.json"
PATIENCE = 600.0
"""Seconds that a process waits for the first one to prepare the folder."""
POLL = 0.2

Row = dict[str, Any]


class Shards:
    """Translated rows of one direction.

    Args:
        folder: of this direction's shards.
        settings: everything that the translations depend on, as JSON; what other settings left in the folder is
            deleted by the first process.
        total: number of rows that are to be translated.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], total: int, shard_rows: int = SHARD_ROWS) -> None:
        self.folder, self.shard_rows = folder, shard_rows
        self.number = -(-total // shard_rows)
        settings = json.loads(json.dumps({**settings, "shard_rows": shard_rows}))
        if rank() == 0:
            before = _state(folder)
            if before != settings:
                if before is not None:
                    changed = [key for key in settings if before.get(key) != settings[key]]
                    console.print(f"{folder}: begun anew, other {', '.join(changed)}", soft_wrap=True, markup=False)
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                write_json(folder / STATE, settings)
            return
        started = time.monotonic()
        while _state(folder) != settings:
            if time.monotonic() - started > PATIENCE:
                raise ComSLError(f"{folder}: the first process has not prepared it for {PATIENCE:g} s; start again")
            time.sleep(POLL)

    def path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.jsonl"

    def mine(self) -> list[int]:
        """This process's shards that are still to be made."""
        return [number for number in range(rank(), self.number, world_size()) if not self.path(number).exists()]

    def make(self, rows: Iterable[Row], translate: Callable[[list[Row]], list[Row]], description: str) -> None:
        """Translate this process's share of ``rows``, of which those of finished shards are passed over."""
        todo = set(self.mine())
        iterator = iter(rows)
        parts = (list(itertools.islice(iterator, self.shard_rows)) for _ in range(max(todo, default=-1) + 1))
        chosen = (item for item in enumerate(parts) if item[0] in todo)
        for number, part in track(chosen, total=len(todo), description=description, unit="shard"):
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in translate(part))
            write_atomically(self.path(number), "".join(lines))

    def wait(self) -> None:
        """Until the shards of all processes are there. A process that fails ends all, which is the launcher's part."""
        missing = [number for number in range(self.number) if not self.path(number).exists()]
        if missing:
            console.print(f"waiting for {len(missing)} shards of the other processes", markup=False)
        while missing:
            time.sleep(POLL)
            missing = [number for number in missing if not self.path(number).exists()]

    def rows(self) -> Iterator[Row]:
        """All translated rows, in their order."""
        for number in range(self.number):
            with self.path(number).open(encoding="utf-8") as file:
                for line in file:
                    yield json.loads(line)


def translate(rows: list[Row], decoder: ModelDecoder, target: str) -> list[Row]:
    """The rows with what the filters need to know.

    Returns:
        The rows in their order, with ``duration`` where there is audio, ``target_language`` and either ``left_out``
        (a key of ``filters.REASONS``) and ``detail``, or ``translation``, ``score``, ``truncated``, ``source_tokens``
        and ``target_tokens`` (without language and end).
    """
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(_with_duration, rows))
    longest = int(decoder.model.config.text_config.max_position_embeddings)
    texts: list[Row] = []
    for row in rows:
        row["target_language"] = target
        if "left_out" in row:
            continue
        tokens = len(decoder.processor.source_ids(row["transcript"], row["source_language"]))
        if tokens > longest:
            row.update(left_out="text_too_long", detail=f"{tokens} tokens, the model reads {longest}")
        else:
            texts.append(row | {"source_tokens": tokens - 2})
    hypotheses = decoder.text(
        [row["transcript"] for row in texts],
        [row["source_language"] for row in texts],
        [target] * len(texts),
    )
    made = {
        row["id"]: row
        | {
            "translation": found.text,
            "score": round(found.score, 4),
            "truncated": found.truncated,
            "target_tokens": len(found.tokens),
        }
        for row, found in zip(texts, hypotheses, strict=True)
    }
    return [made.get(row["id"], row) for row in rows]


def _with_duration(row: Row) -> Row:
    if row["audio"] is None or row["duration"] is not None:
        return dict(row)
    # Decoded, not only looked at: a clip that is cut short would stop a training.
    clip = check_clip(row["audio"])
    if clip.seconds is None:
        return row | {"left_out": "unreadable", "detail": " ".join(clip.reason.split())}
    return row | {"duration": clip.seconds}


def digest(rows: Iterable[Row]) -> tuple[str, int]:
    """SHA-256 over the rows, and how many there are."""
    found, count = hashlib.sha256(), 0
    for row in rows:
        found.update(json.dumps(row, sort_keys=True).encode())
        count += 1
    return found.hexdigest(), count


def _state(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
