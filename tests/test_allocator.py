"""Blocks that were freed are used again."""

import platform
import subprocess
import sys

import pytest

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
