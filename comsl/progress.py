"""Progress on stderr: a bar with a rate and the time left on a terminal, plain lines otherwise."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Item = TypeVar("Item")

console = Console(stderr=True, highlight=False)

LOG_INTERVAL = 10.0
"""Seconds between two plain lines; work that takes less is not reported at all."""


def format_duration(seconds: float) -> str:
    """Seconds as ``0:07``, ``12:34`` or ``1:02:03``."""
    hours, rest = divmod(int(max(seconds, 0.0) + 0.5), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def format_rate(rate: float, unit: str) -> str:
    """Items per second, or seconds per item where that is the larger number: ``12.3 it/s``, ``4.0 s/it``."""
    if rate <= 0:
        return f"- {unit}/s"
    return f"{rate:.1f} {unit}/s" if rate >= 1 else f"{1 / rate:.1f} s/{unit}"


class _RateColumn(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text(format_rate(task.finished_speed or task.speed or 0.0, self.unit))


def track(iterable: Iterable[Item], *, total: int | None = None, description: str, unit: str = "it") -> Iterator[Item]:
    """Yield the items of ``iterable`` and report how far it is, how fast, and how long it will still take.

    Args:
        iterable: what to go through.
        total: number of items, where ``len(iterable)`` does not say it.
        description: what is being done, for the start of the line.
        unit: what an item is called in the rate.

    Only the first process of a distributed run reports.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    if os.environ.get("RANK", "0") != "0":
        yield from iterable
    elif console.is_terminal:
        yield from _bar(iterable, total, description, unit)
    else:
        yield from _lines(iterable, total, description, unit)


def _bar(iterable: Iterable[Item], total: int | None, description: str, unit: str) -> Iterator[Item]:
    known: list[ProgressColumn] = [BarColumn(), MofNCompleteColumn()]
    unknown: list[ProgressColumn] = [SpinnerColumn(), MofNCompleteColumn()]
    with Progress(
        TextColumn("{task.description}"),
        *(unknown if total is None else known),
        _RateColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        # What the work prints has to pass by the bar where both are on a terminal. Anywhere else (a file, a pipe) it
        # must not be led to the bar's own stream.
        redirect_stdout=sys.stdout.isatty(),
    ) as progress:
        yield from progress.track(iterable, total=total, description=description)


def _lines(iterable: Iterable[Item], total: int | None, description: str, unit: str) -> Iterator[Item]:
    started = reported = time.monotonic()
    done = 0
    for item in iterable:
        yield item
        done += 1
        now = time.monotonic()
        if now - reported >= LOG_INTERVAL and done != total:
            reported = now
            _print_line(done, total, description, unit, now - started)
    elapsed = time.monotonic() - started
    if done and elapsed >= LOG_INTERVAL:
        _print_line(done, total, description, unit, elapsed, finished=True)


def _print_line(
    done: int, total: int | None, description: str, unit: str, elapsed: float, finished: bool = False
) -> None:
    rate = done / elapsed if elapsed > 0 else 0.0
    count = f"{done}/{total}" if total is not None else str(done)
    line = f"{description}: {count} {unit}, {format_rate(rate, unit)}, {format_duration(elapsed)} so far"
    if finished:
        line = f"{description}: {count} {unit}, {format_rate(rate, unit)}, done in {format_duration(elapsed)}"
    elif total is not None and rate > 0:
        line += f", {format_duration((total - done) / rate)} left"
    console.print(line, soft_wrap=True, markup=False)
