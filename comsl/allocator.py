"""What happens to memory that is freed, and how much is kept on the side. Both are for programs, before their work: a
library's caller may have other plans with the process."""

from __future__ import annotations

import os

KEPT = 1 << 30
"""Bytes at the end of its memory that the process keeps for the next time."""
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's <malloc.h>


def keep_freed_memory() -> None:
    """Reuse freed blocks of any size, for the whole process.

    glibc gives blocks of more than 32 MB back to the kernel at once, and the kernel clears every page of the next one
    again. The states between two layers of a batch of a dozen utterances are that large: a tenth of the encoder's time
    in float32, a quarter in int8. Without effect on other C libraries.
    """
    import ctypes
    import sys

    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)  # the threshold itself cannot be raised beyond 32 MB by a running program
        mallopt(_M_TRIM_THRESHOLD, KEPT)


def limit_kernel_caches() -> None:
    """Keep what oneDNN prepares for 64 shapes of input, not for 1024, unless the environment says otherwise.

    Every number of rows is a shape, and speech has all lengths: an hour of it leaves half a gigabyte behind. A
    step of the decoder needs about ten shapes, again and again. To be called before the first product.
    """
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):  # torch's cache of them, and oneDNN's own
        os.environ.setdefault(name, "64")
