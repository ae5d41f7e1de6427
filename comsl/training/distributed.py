"""The few things that processes of one training tell each other."""

from __future__ import annotations

import os
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


def disconnect() -> None:
    """The last thing that a process of a finished training does: a connection that Python's exit tears down instead
    may abort the process, and the launcher then reports a training as failed that was not."""
    if _connected():
        barrier()
        dist.destroy_process_group()


def _connected() -> bool:
    return dist.is_available() and dist.is_initialized()
