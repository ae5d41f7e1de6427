"""curves.png: how loss, objectives, development scores and learning rate went."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from comsl.training.log_file import read_log

Record = dict[str, Any]

NOT_TERMS = (
    "step",
    "epoch",
    "kind",
    "loss",
    "learning_rate",
    "grad_norm",
    "speech_hours_per_hour",
    "tokens_per_second",
)
LABELS = {"loss": "training", "dev_loss": "development"}


def draw_curves(log: Path, out: Path) -> None:
    """Draw a run's log file (train_log.jsonl) into a PNG; nothing is drawn for an empty one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    records = read_log(log)
    train = [record for record in records if record["kind"] == "train"]
    dev = [record for record in records if record["kind"] == "dev"]
    if not records:
        return
    panels: list[tuple[str, list[Record], Callable[[str], bool]]] = [
        ("loss", train + dev, lambda name: name in ("loss", "dev_loss")),
        ("objectives", train, lambda name: name not in NOT_TERMS and not name.endswith("_count")),
        ("development", dev, lambda name: name.startswith("dev_") and name != "dev_loss"),
        ("learning rate", train, lambda name: name == "learning_rate"),
    ]
    figure = Figure(figsize=(11, 7))
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.08, top=0.95, wspace=0.16, hspace=0.28)
    for axes, (title, rows, wanted) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        for name in sorted({name for row in rows for name in row if wanted(name)}):
            points = [(row["step"], row[name]) for row in rows if name in row]
            axes.plot(
                *zip(*points, strict=True),
                label=LABELS.get(name, name.removeprefix("dev_")),
                marker="." if len(points) < 40 else "",
            )
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if axes.lines and title != "learning rate":
            axes.legend(fontsize="small")
    temporary = out.with_name(f".{out.name}")
    figure.savefig(temporary, dpi=110, format="png")
    os.replace(temporary, out)
