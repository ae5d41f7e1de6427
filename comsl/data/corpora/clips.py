"""Are these clips usable? Every clip of a corpus is decoded once, in several processes, and what came out is kept.

The record is a file with one line a clip, written as results come, so that an interrupted run goes on where it was:
whatever was decoded before is known as long as the clip's size and time of change are the same.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from comsl.data.audio import AudioError, Source, load_recording
from comsl.data.constants import SAMPLE_RATE
from comsl.data.errors import CorpusError
from comsl.progress import track

FaultKind = Literal["missing", "zero-length", "undecodable"]

CHUNK = 64
"""Clips that a process decodes before it reports."""


@dataclass(frozen=True, slots=True)
class Clip:
    """What became of a clip when it was decoded."""

    seconds: float | None
    """Length; None for a clip that cannot be used."""
    fault: FaultKind | None = None
    reason: str = ""
    """One line that names the file."""


def check_clip(source: Source) -> Clip:
    """Decode a file, or the bytes of one."""
    name = f"audio of {len(source):,} bytes" if isinstance(source, bytes) else str(source)
    empty = not source if isinstance(source, bytes) else None
    try:
        if empty is None:
            empty = os.stat(source).st_size == 0
        if empty:
            return Clip(None, "zero-length", f"{name}: the file is empty (0 bytes)")
        with load_recording(source) as recording:
            return Clip(round(len(recording) / SAMPLE_RATE, 4))
    except FileNotFoundError:
        return Clip(None, "missing", f"{name}: no such file")
    except AudioError as error:
        kind: FaultKind = "zero-length" if "no audio samples" in str(error) else "undecodable"
        return Clip(None, kind, str(error))


def check_clips(folder: Path, names: Sequence[str], record: Path, workers: int, description: str) -> dict[str, Clip]:
    """Decode the clips of a folder.

    Args:
        folder: where they lie.
        names: file names, each once.
        record: file of results, made and appended to.
        workers: processes.
        description: of the work, for its progress.

    Returns:
        What became of each.

    Raises:
        CorpusError: a process died.
    """
    record.parent.mkdir(parents=True, exist_ok=True)
    found, unknown = _known(folder, names, record)
    chunks = [(folder, unknown[start : start + CHUNK]) for start in range(0, len(unknown), CHUNK)]
    with record.open("a", encoding="utf-8") as file:

        def results() -> Iterator[str]:
            for chunk in in_processes(_check_chunk, chunks, workers):
                lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in chunk if line[1] is not None]
                file.write("".join(lines))
                file.flush()
                for name, _, _, *clip in chunk:
                    found[name] = Clip(*clip)
                    yield name

        for _ in track(results(), total=len(unknown), description=description, unit="clips"):
            pass
    return found


def _known(folder: Path, names: Sequence[str], record: Path) -> tuple[dict[str, Clip], list[str]]:
    """What the record holds of clips that have not changed since, and the names of all others."""
    recorded = {name: tuple(entry) for name, *entry in read_record(record)}
    known: dict[str, Clip] = {}
    unknown = []
    for name in names:
        entry = recorded.get(name)
        if entry is not None and entry[:2] == _size_and_time(folder / name):
            known[name] = Clip(*entry[2:])
        else:
            unknown.append(name)
    return known, unknown


def read_record(record: Path) -> Iterator[list[Any]]:
    """The whole lines of a file of JSON lines; half a line, where a run was killed, is cut off."""
    if not record.exists():
        return
    with record.open("r+b") as file:
        whole = 0
        for line in file:
            if not line.endswith(b"\n"):
                file.truncate(whole)
                return
            whole += len(line)
            yield json.loads(line)


def _size_and_time(path: Path) -> tuple[int | None, int | None]:
    try:
        stat = path.stat()
    except OSError:
        return None, None
    return stat.st_size, stat.st_mtime_ns


def _check_chunk(work: tuple[Path, list[str]]) -> list[tuple[Any, ...]]:
    folder, names = work
    lines = []
    for name in names:
        size, time = _size_and_time(folder / name)  # before it is read: what changes meanwhile is decoded again
        clip = check_clip(folder / name)
        lines.append((name, size, time, clip.seconds, *((clip.fault, clip.reason) if clip.fault else ())))
    return lines


# ---------------------------------------------------------------------------------------------------------- processes


def processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


Work = TypeVar("Work")
Result = TypeVar("Result")


def in_processes(function: Callable[[Work], Result], work: Iterable[Work], workers: int) -> Iterator[Result]:
    """Results in the order of the work, of which few pieces are in memory at a time.

    Raises:
        CorpusError: a process died.
    """
    iterator = iter(work)
    first = list(itertools.islice(iterator, 2))
    if len(first) < 2:
        yield from map(function, first)
        return
    # One process is worth it too: it is what dies of a file that a library crashes on. Not forked: threads of libraries
    # that are loaded here do not survive that.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_follow_parent) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for piece in itertools.chain(first, iterator):
                waiting.append(pool.submit(function, piece))
                if len(waiting) >= 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise CorpusError(
                "a process that decodes clips has died, perhaps for lack of memory; the same command goes on where it"
                " was, with fewer --workers if that helps"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    """Leave an interrupt to the parent, end when it does, however it ends, and keep decoders' own notes to oneself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
