"""Seconds and peak memory against the length of a file: ``python -m benchmarks.long_files``.

The shipped model translates recordings of the demo's sentences with pauses between, made here. Each length is a process
of its own; its peak memory holds Python, torch and the model too, which the shortest file shows.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.machine import peak_memory
from benchmarks.recordings import write_recording

PAUSES = (0.3, 2.5)
"""Seconds between two sentences."""


def measure(path: Path, beam: int) -> dict[str, float]:
    """Seconds of cutting and of all, peak bytes; in a process of its own."""
    from comsl.allocator import keep_freed_memory, limit_kernel_caches
    from comsl.data.audio import load_recording
    from comsl.inference.inputs import FileError
    from comsl.inference.segment import segment
    from comsl.inference.translate import Translator

    keep_freed_memory()  # both as comsl translate does
    limit_kernel_caches()
    start = time.perf_counter()
    with load_recording(path) as recording:
        loading = time.perf_counter() - start
        segment(recording)
    cutting = time.perf_counter() - start
    translator = Translator.from_pretrained(device="cpu")
    start = time.perf_counter()
    (result,) = translator.translate(path, "de", beam=beam)
    if isinstance(result, FileError):
        raise SystemExit(result.message)
    whole = time.perf_counter() - start
    facts = {"loading": loading, "cutting": cutting, "whole": whole, "segments": len(result.segments)}
    return {**facts, "peak": peak_memory()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_files", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 60])
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--format", default="flac", help="of the files, a suffix that libsndfile knows (default flac)")
    arguments = parser.parse_args()
    fresh: dict[str, Any] = {"mp_context": multiprocessing.get_context("spawn"), "max_tasks_per_child": 1}
    print(f"shipped model, beam {arguments.beam}, batch 8, {arguments.format}")
    print("minutes  segments  seconds  of these loading  and cutting  seconds a minute  peak memory")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, **fresh) as pool:
        for minutes in arguments.minutes:
            path = Path(folder) / f"{minutes:g}.{arguments.format}"
            pool.submit(write_recording, path, minutes, PAUSES).result()
            row = pool.submit(measure, path, arguments.beam).result()
            print(
                f"{minutes:7g}  {row['segments']:8.0f}  {row['whole']:7.1f}  {row['loading']:16.1f}  "
                f"{row['cutting'] - row['loading']:11.1f}  {row['whole'] / minutes:16.2f}  {row['peak'] / 1e6:8.0f} MB",
                flush=True,
            )
            path.unlink()


if __name__ == "__main__":
    main()
