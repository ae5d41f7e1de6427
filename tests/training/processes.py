"""Children that are killed, and children that train together."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
# Imported once, by the server that the children are forked from.
CONTEXT.set_forkserver_preload(["torch.utils.tensorboard", "tests.training.standin", "comsl.training.run"])


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(function: Callable[..., None], *args: Any, timeout: float = 120) -> int:
    """Runs ``function`` in a process of its own; its exit code (-9: killed)."""
    process = CONTEXT.Process(target=_alone, args=(function, *args))
    process.start()
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{function.__name__} took more than {timeout} s")
    return process.exitcode


def together(function: Callable[..., None], world_size: int, *args: Any, timeout: float = 180) -> list[int]:
    """Runs ``function(rank, world_size, *args)`` in connected processes, as torchrun does; their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        CONTEXT.Process(target=_as_rank, args=(function, rank, world_size, port, *args)) for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return [-1 if code is None else code for code in codes]


def _alone(function: Callable[..., None], *args: Any) -> None:
    # As in a process of a command line. Loader workers of the fork server would not notice that this process was
    # killed: they watch their parent, and would outlive the tests.
    multiprocessing.set_start_method("fork", force=True)
    function(*args)


def _as_rank(function: Callable[..., None], rank: int, world_size: int, port: int, *args: Any) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size),
        LOCAL_WORLD_SIZE=str(world_size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    function(rank, world_size, *args)
