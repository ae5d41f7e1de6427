"""Learning curves of a run, from its log (``train_log.jsonl``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LOG = "train_log.jsonl"
MAX_POINTS = 400
NOT_DRAWN = ("step", "epoch", "kind", "grad_norm", "seconds", "speech_hours_per_hour", "tokens_per_second")
PANELS = ("loss", "objectives", "development set", "learning rate")

Curves = dict[str, dict[str, list[tuple[float, float]]]]
"""Panel -> name -> points (step, value)."""


def read_log(path: Path) -> list[dict[str, Any]]:
    """All complete records; a line that a killed process left half-written is dropped."""
    records = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(record, dict) and "step" in record:
                records.append(record)
    return records


def read_curves(model: str | Path) -> Curves:
    """Curves from the log in the model's directory or one of the two above it (a checkpoint of a run); {} without one.

    A log has one JSON object a line with ``step``, ``kind`` ("train" or "dev") and numbers; lines that are not, are
    skipped. Every curve is thinned to ``MAX_POINTS``.
    """
    folder = Path(model)
    candidates = [place / LOG for place in (folder, *folder.resolve().parents[:2])]
    log = next((path for path in candidates if path.is_file()), None)
    if not folder.is_dir() or log is None:
        return {}
    panels: Curves = {}
    for entry in read_log(log):
        if isinstance(entry["step"], int):
            for name, value in entry.items():
                panel, label = _place(name, str(entry.get("kind", "train")))
                nothing = entry.get(f"{name}_count") == 0  # an average of nothing is logged as 0
                if panel is not None and isinstance(value, int | float) and not nothing:
                    panels.setdefault(panel, {}).setdefault(label, []).append((entry["step"], value))
    return {
        panel: {name: _thin(points) for name, points in panels[panel].items()} for panel in PANELS if panel in panels
    }


def _place(name: str, kind: str) -> tuple[str | None, str]:
    """Panel and label of one logged value; no panel for what is not drawn."""
    if name in NOT_DRAWN or name.endswith("_count"):
        return None, name
    if name == "learning_rate":
        return "learning rate", "learning rate"
    if kind == "dev":
        label = name.removeprefix("dev_")
        return ("loss", "development set") if label == "loss" else ("development set", label)
    return ("loss", "training") if name == "loss" else ("objectives", name)


def _thin(points: list[Any]) -> list[Any]:
    every = -(-len(points) // MAX_POINTS)
    thinned = points[::every]
    return thinned if thinned[-1] == points[-1] else [*thinned, points[-1]]
