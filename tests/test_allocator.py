"""Blocks that were freed are used again."""

import os
import platform
import subprocess
import sys

import pytest

from comsl.allocator import limit_kernel_caches

COUNT = """
import resource
import torch

if {keep}:
    from comsl.allocator import keep_freed_memory

    keep_freed_memory()
inputs = torch.ones(12 << 20)  # 48 MiB
faults = []
for _ in range(12):
    hidden = torch.nn.functional.gelu(2 * inputs)
    hidden = hidden + inputs
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[5])
"""


def faults(keep: bool) -> int:
    """Pages that six passes of a layer had to be given."""
    command = [sys.executable, "-c", COUNT.format(keep=keep)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_large_blocks_cost_their_pages_once() -> None:
    assert faults(keep=True) < 0.2 * faults(keep=False)


SHAPES = """
import torch

if {limited}:
    from comsl.allocator import limit_kernel_caches

    limit_kernel_caches()
from comsl.inference.precision import PackedLinear


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])


packed = PackedLinear(torch.nn.Linear(128, 512).requires_grad_(False))
for rows in range(1, 100):
    packed(torch.ones(rows, 128))
before = resident()
for rows in range(100, 700):
    packed(torch.ones(rows, 128))
print(resident() - before)
"""


def pages_of_shapes(limited: bool) -> int:
    """Pages that 600 numbers of rows leave behind."""
    command = [sys.executable, "-c", SHAPES.format(limited=limited)]
    # Commands that other tests run in this process leave their setting behind.
    names = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_shapes_seen_once_leave_no_memory_behind() -> None:
    assert pages_of_shapes(limited=True) < 0.3 * pages_of_shapes(limited=False)


def test_the_users_own_setting_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    limit_kernel_caches()
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
    assert os.environ.pop("ONEDNN_PRIMITIVE_CACHE_CAPACITY") == "64"
