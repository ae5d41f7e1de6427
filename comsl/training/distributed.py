"""The few things that processes of one training tell each other."""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any

import torch.distributed as dist


def rank() -> int:
    """This process's number; the environment of torchrun tells it even before the processes are connected."""
    return dist.get_rank() if _connected() else int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return dist.get_world_size() if _connected() else int(os.environ.get("WORLD_SIZE", "1"))


def all_objects(value: Any) -> list[Any]:
    """``value`` of every rank, in order of rank, on every rank."""
    if not _connected() or dist.get_world_size() == 1:
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def fsdp_is_asked_for() -> bool:
    """Whether accelerate launch will divide the weights among the processes."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false") == "true"


def barrier() -> None:
    all_objects(None)


def leave() -> None:
    """Ends a process of a finished training of several; alone, it does nothing.

    Threads of the connection that are still there when Python takes everything down abort the process now and then
    (seen with FSDP on a busy machine, after the groups were destroyed), and the launcher reports a training as failed
    that was not. So what is registered for the exit is done, and nothing is taken down.
    """
    if _connected():
        barrier()
        dist.destroy_process_group()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _connected() -> bool:
    return dist.is_available() and dist.is_initialized()
