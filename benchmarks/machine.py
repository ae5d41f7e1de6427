"""The machine's own limit: the fastest large matrix product that torch offers in each precision, in FLOP/s."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

ROWS, INNER, COLUMNS = 1024, 1024, 4096
REPETITIONS = 5


def matrix_limit(precision: str) -> float:
    """FLOP/s of [1024 x 1024] x [1024 x 4096] by the best of torch's routines for float32, bfloat16 or int8 weights."""
    return max(_rate(product) for product in _products(precision))


def describe() -> str:
    """One line: processor, threads, torch."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as lines:
            name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _products(precision: str) -> list[Callable[[], Any]]:
    if precision == "int8":
        layer = torch.nn.Sequential(torch.nn.Linear(INNER, COLUMNS, bias=False))
        quantised = torch.ao.quantization.quantize_dynamic(layer, {torch.nn.Linear}, dtype=torch.qint8)
        rows = torch.randn(ROWS, INNER)
        return [lambda: quantised(rows)]
    dtype = getattr(torch, precision)
    rows, weight = torch.randn(ROWS, INNER, dtype=dtype), torch.randn(COLUMNS, INNER, dtype=dtype)
    products: list[Callable[[], Any]] = [lambda: torch.nn.functional.linear(rows, weight)]
    if torch.backends.mkldnn.is_available():
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
        products.append(lambda: torch.ops.mkldnn._linear_pointwise(rows, packed, None, "none", [], ""))
    return products


def _rate(product: Callable[[], Any]) -> float:
    times = []
    with torch.inference_mode():
        product()
        for _ in range(REPETITIONS):
            start = time.perf_counter()
            product()
            times.append(time.perf_counter() - start)
    return 2 * ROWS * INNER * COLUMNS / statistics.median(times)
