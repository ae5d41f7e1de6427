"""Translating at equal model size, ours beside what people use: ``python -m benchmarks.translate``.

Clips of 3 to 8 s (mean 5.5) become 20 tokens each, by random weights in the exact shapes of Whisper's encoder and
mBART-50 (ours) and of Whisper (the peers, which pad each clip to 30 s). And one recording of ten minutes, against
faster-whisper's batched mode, where padding is not the difference. Every system at every setting has a process of its
own, for its own peak memory; the systems that are compared take turns, repetition by repetition, and medians are
compared. Beside it stands the machine's limit, the fastest large matrix product of that precision that torch offers.

    python -m benchmarks.translate --reduced          # about 5 minutes on 2 cores
    python -m benchmarks.translate                    # everything: hours on 2 cores
    python -m benchmarks.translate --batch 4 --beam 5 --precision int8 --peers ctranslate2 --json out.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from benchmarks.flops import translation_flops
from benchmarks.models import MBART
from benchmarks.translate_checkpoints import comsl_config
from benchmarks.translate_systems import (
    LONGEST,
    NEW_TOKENS,
    SHORTEST,
    Cell,
    checkpoint,
    clips,
    long_file,
    missing_package,
    unsupported,
)
from comsl.data.constants import SAMPLE_RATE
from comsl.model.speech import MEL_FRAMES_PER_SECOND

INSTALL = "pip install --no-deps -r benchmarks/requirements.txt"
PEERS = ("transformers", "ctranslate2")
PRECISIONS = ("float32", "bfloat16", "int8")
REPETITIONS = 3
FILE_MINUTES = 10.0


@dataclass(frozen=True)
class Measured:
    """What one system took for one cell."""

    cell: Cell
    seconds: list[float]
    tokens: int
    peak: float
    peak_loading: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


class Worker:
    """A system in a process of its own."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        command = [sys.executable, "-m", "benchmarks.translate_worker", json.dumps(asdict(cell))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()
        self.seconds: list[float] = []
        self.tokens: list[int] = []

    def run(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        answer = self._answer()
        self.seconds.append(answer["seconds"])
        self.tokens = answer["tokens"]

    def finish(self) -> Measured:
        assert self.process.stdin is not None
        self.process.stdin.close()
        answer = self._answer()
        self.process.wait()
        if self.cell.file is None and self.tokens != [NEW_TOKENS] * self.cell.clips:
            raise RuntimeError(f"{self.cell.system} generated {self.tokens} tokens, not {NEW_TOKENS} for each clip")
        peaks = [float(answer[name] or "nan") / 1e9 for name in ("peak", "peak_loading")]
        return Measured(self.cell, self.seconds, sum(self.tokens), *peaks)

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self.cell.system} died with exit code {self.process.wait()}")
        return json.loads(line)


def measure(cells: Sequence[Cell], repetitions: int) -> list[Measured]:
    """The cells of one comparison, in turns."""
    for cell in cells:
        checkpoint(cell)
    workers = [Worker(cell) for cell in cells]
    for _ in range(repetitions):
        for worker in workers:
            worker.run()
    return [worker.finish() for worker in workers]


def comparisons(arguments: argparse.Namespace, file: str | None) -> Iterator[Cell]:
    """Our side of each comparison."""
    for precision, batch, beam in product(arguments.precision, arguments.batch, arguments.beam):
        cell = Cell("comsl", arguments.size, precision, batch, beam, arguments.clips, str(arguments.folder))
        yield cell if file is None else replace(cell, file=file)


def peers_of(cell: Cell, peers: Sequence[str]) -> list[Cell]:
    """The peers that can do the same; what cannot be compared is said."""
    cells = []
    for system in peers:
        if cell.file is not None and system == "transformers":
            continue  # it has nothing that batches the chunks of one file
        reason = unsupported(system, cell.precision)
        if reason is not None:
            print(f"  {reason}: not compared", flush=True)
        else:
            cells.append(replace(cell, system=system))
    return cells


def useful_flops(cell: Cell) -> float:
    """Of all clips of a cell, at their true lengths."""
    frames = [len(waveform) * MEL_FRAMES_PER_SECOND // SAMPLE_RATE for waveform in clips(cell.clips)]
    return translation_flops(comsl_config(cell.size), frames, NEW_TOKENS, cell.beam)


def report(measured: Sequence[Measured], limit: float, minutes: float) -> None:
    """One line a system: seconds, rate, how many times slower than ours, memory, tokens."""
    ours = measured[0]
    unit, amount = ("clips/s", ours.cell.clips) if ours.cell.file is None else ("x real time", 60 * minutes)
    for entry in measured:
        line = f"  {entry.cell.system:13}{entry.median:8.2f} s {amount / entry.median:8.2f} {unit}"
        line += f"  {entry.peak:5.2f} GB ({entry.peak_loading:.2f} to load)  {entry.tokens} tokens"
        if entry is ours:
            if ours.cell.file is None:
                share = useful_flops(ours.cell) / ours.median / limit
                line += f"  {share:.0%} of the limit"
        else:
            line += f"  ours is {entry.median / ours.median:.2f} x as fast"
        print(line, flush=True)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.translate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", choices=tuple(MBART))
    parser.add_argument(
        "--reduced", action="store_true", help="small models, few settings and clips: about 5 minutes on 2 cores"
    )
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS)
    parser.add_argument("--batch", nargs="+", type=int)
    parser.add_argument("--beam", nargs="+", type=int)
    parser.add_argument("--clips", type=int, help="clips a repetition; 0: none")
    parser.add_argument("--minutes", type=float, help="length of the long recording; 0: none")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "comsl-benchmarks")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    arguments = parser.parse_args(argv)
    full = {"precision": list(PRECISIONS), "batch": [1, 4, 16], "beam": [1, 5], "clips": 16}
    full |= {"size": "medium", "minutes": FILE_MINUTES}
    reduced = {"precision": ["float32", "int8"], "batch": [4], "beam": [1, 5], "clips": 4}
    reduced |= {"size": "small", "minutes": 0.0}
    for name, value in (reduced if arguments.reduced else full).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    peers = []
    for system in arguments.peers:
        package = missing_package(system)
        if package is None:
            peers.append(system)
        else:
            print(f"{system} is left out: {package} is not installed; {INSTALL}")
    print(machine.one_line())
    limits = {precision: machine.best_rate(getattr(torch, precision)) for precision in arguments.precision}
    print("large matrix product: " + ", ".join(f"{name} {limit / 1e9:.0f} GFLOP/s" for name, limit in limits.items()))
    files: list[str | None] = [None] if arguments.clips else []
    if arguments.minutes:
        files.append(str(long_file(arguments.folder, arguments.minutes)))
    rows: list[dict[str, Any]] = []
    for file in files:
        what = f"{arguments.clips} clips of {SHORTEST:g} to {LONGEST:g} s, {NEW_TOKENS} tokens each"
        print(what if file is None else f"one recording of {arguments.minutes:g} minutes")
        for cell in comparisons(arguments, file):
            print(f" {cell.size}, {cell.precision}, batch {cell.batch}, beam {cell.beam}", flush=True)
            measured = measure([cell, *peers_of(cell, peers)], arguments.repetitions)
            report(measured, limits[cell.precision], arguments.minutes)
            rows += [asdict(entry) for entry in measured]
            if arguments.json is not None:
                document = {"machine": machine.description(), "limits": limits, "measured": rows}
                arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
