"""A picture of each table, with the machine's limit where it is time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Rows = Sequence[dict[str, Any]]


def manifests(rows: Rows, path: Path) -> None:
    """Start-up and memory against rows, one line a format and start."""
    figure, (seconds, memory) = _panels(2)
    for suffix in dict.fromkeys(row["format"] for row in rows):
        for start in ("first", "second"):
            chosen = [row for row in rows if (row["format"], row["start"]) == (suffix, start)]
            sizes = [row["rows"] for row in chosen]
            name = f"{suffix[1:]}, {start} start"
            seconds.plot(sizes, [row["total"] for row in chosen], marker="o", label=name)
            memory.plot(sizes, [row["peak MB"] for row in chosen], marker="o", label=name)
    memory.plot(sizes, [row["imports MB"] for row in chosen], color="black", linestyle=":", label="imports alone")
    seconds.set(xscale="log", yscale="log", xlabel="rows", ylabel="seconds to the first batch")
    memory.set(xscale="log", ylim=(0, None), xlabel="rows", ylabel="peak memory, MB")
    _save(figure, (seconds, memory), path)


def steps(rows: Rows, x: str, path: Path) -> None:
    """Time and memory of a step against ``x``, with the time that its products take at the machine's rate."""
    figure, (seconds, memory) = _panels(2)
    positions = range(len(rows)) if isinstance(rows[0][x], str) else [row[x] for row in rows]
    limit = [row["useful GFLOP"] / row["matrix product GFLOP/s"] for row in rows]
    seconds.plot(positions, [row["seconds"] for row in rows], marker="o", label="measured")
    seconds.plot(positions, limit, color="black", linestyle=":", label="useful products at the machine's rate")
    memory.plot(positions, [row["peak MB"] for row in rows], marker="o", label="peak")
    memory.plot(positions, [row["activations MB"] for row in rows], marker="o", label="of it activations")
    for axes, label in ((seconds, "seconds, forward and backward"), (memory, "memory, MB")):
        axes.set(xlabel=x, ylabel=label, ylim=(0, None))
        if isinstance(rows[0][x], str):
            axes.set_xticks(list(positions), [row[x] for row in rows])
    _save(figure, (seconds, memory), path)


def efficiency(result: dict[str, Any], path: Path) -> None:
    """Throughput of one and of two processes."""
    figure, (axes,) = _panels(1)
    one, two = (result[name]["audio seconds"] / result[name]["seconds"] for name in ("one", "two"))
    axes.plot([1, 2], [one, 2 * two], marker="o", label="measured")
    axes.plot([1, 2], [one, 2 * one], color="black", linestyle=":", label="twice that of one")
    axes.set(xlabel="processes of one thread", ylabel="seconds of speech a second", ylim=(0, None), xticks=[1, 2])
    _save(figure, (axes,), path)


def _panels(number: int) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(5.0 * number, 3.5), layout="constrained")
    return figure, [figure.add_subplot(1, number, place) for place in range(1, number + 1)]


def _save(figure: Figure, panels: Sequence[Any], path: Path) -> None:
    for axes in panels:
        axes.grid(alpha=0.3)
        axes.legend(fontsize="x-small", frameon=False)
    FigureCanvasAgg(figure).print_png(path)
