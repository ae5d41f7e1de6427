"""The machine's own limit, and what else a figure needs beside it.

Times mean nothing on a shared machine: a benchmark prints ratios of what it measured side by side, and shares of the
rate at which this machine multiplies large matrices in the same process.
"""

from __future__ import annotations

import contextlib
import json
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

from comsl.provenance import git_commit, versions

Name = TypeVar("Name", bound=Hashable)


def median_seconds(function: Callable[[], Any], repeats: int, warm_up: int = 1) -> float:
    """Median wall time of `repeats` calls after `warm_up` that do not count."""
    return medians_in_turns({"": function}, repeats, warm_up)[""]


def medians_in_turns(functions: Mapping[Name, Callable[[], Any]], repeats: int, warm_up: int = 1) -> dict[Name, float]:
    """The same of several that are compared, which take turns: what else the machine does then slows all of them."""
    times: dict[Name, list[float]] = {name: [] for name in functions}
    for turn in range(-warm_up, repeats):
        for name, function in functions.items():
            _wait_for_gpu()
            start = time.perf_counter()
            function()
            _wait_for_gpu()
            if turn >= 0:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matrix_rate(dtype: torch.dtype = torch.float32, device: str = "cpu", size: int = 2048) -> float:
    """Arithmetic operations a second of torch's product of two large square matrices: what a plain program gets."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / median_seconds(lambda: left @ right, repeats=7)


def best_rate(dtype: torch.dtype = torch.float32, device: str = "cpu", size: int = 2048) -> float:
    """The same by the fastest library that torch brings: on a CPU oneDNN as well, with weights laid out for it.

    int8: the kernel that `--precision int8` uses, without the rounding of its inputs.
    """
    if dtype == torch.int8:
        from comsl.inference.precision import QuantizedLinear

        layer = QuantizedLinear(torch.nn.Linear(size, size, bias=False))
        codes = torch.randint(256, (size, size), dtype=torch.uint8)
        return 2 * size**3 / median_seconds(lambda: layer.product(codes), repeats=7)
    rates = [matrix_rate(dtype, device, size)]
    if device == "cpu" and torch.backends.mkldnn.is_available():
        left, right = (torch.randn(size, size).to(dtype) for _ in range(2))
        packed = torch.ops.mkldnn._reorder_linear_weight(right, size)
        seconds = median_seconds(lambda: torch.ops.mkldnn._linear_pointwise(left, packed, None, "none", [], ""), 7)
        rates.append(2 * size**3 / seconds)
    return max(rates)


def kept_by(function: Callable[[], Any]) -> int:
    """Bytes that exist after a call and did not before it: of a forward pass the activations proper.

    What the process takes from the system beyond that depends on the allocator, and on what it does not give back.
    """
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        result = function()
        return torch.cuda.memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        result = function()  # noqa: F841 (it holds what is kept)
    return sum(event.self_cpu_memory_usage for event in profiled.events())


class PeakMemory:
    """Highest resident memory in bytes of this process while the block runs, sampled; exact on a GPU.

    The kernel's own high-water mark would count what came before the block: the initialisation of the weights.
    """

    def __init__(self, on_gpu: bool = False, interval: float = 0.005) -> None:
        self.bytes = 0
        self._on_gpu = on_gpu
        self._interval = interval
        self._stop = threading.Event()

    def __enter__(self) -> PeakMemory:
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._on_gpu:
            self.bytes = torch.cuda.max_memory_allocated()

    def _watch(self) -> None:
        while not self._stop.is_set():
            self.bytes = max(self.bytes, resident_memory())
            time.sleep(self._interval)


def resident_memory() -> int:
    """Bytes of this process in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def peak_memory() -> int:
    """Most bytes that this process has had in memory, since `forget_peak` if that was called."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def forget_peak() -> None:
    """Let the peak start from what is in memory now; Linux only, elsewhere everything before counts too."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def description() -> dict[str, Any]:
    """Machine and versions, for the record beside a figure."""
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "commit": git_commit(__file__),
        "versions": versions(),
    }


def one_line() -> str:
    """Machine and versions for the head of a printed table."""
    facts = description()
    versions_ = ", ".join(f"{name} {facts['versions'][name]}" for name in ("torch", "transformers"))
    where = f"on {facts['gpu']}, " if facts["gpu"] else ""
    return f"{where}{facts['processor']}, {facts['threads']} threads, {versions_}, commit {facts['commit']}"


def run_child(module: str, arguments: Sequence[str]) -> dict[str, Any]:
    """The JSON object that a benchmark's subprocess prints as its last line: each system has its memory to itself."""
    command = [sys.executable, "-m", module, *arguments]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)}: ended with {result.returncode}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in path.read_text().splitlines() if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()
