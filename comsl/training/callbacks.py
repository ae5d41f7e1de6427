"""Where log records go: train_log.jsonl, the console, TensorBoard, and the curves."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from comsl.evaluation.curves import LOG, read_curves
from comsl.files import write_atomically
from comsl.progress import console, format_duration, track
from comsl.training.log_file import truncate_log

CURVES = "curves.png"
SECONDS_BETWEEN_CURVES = 60.0
"""Drawing takes up to a second, which a small model's evaluation should not have to wait for every time."""
LOST = ("_unknown", "_unaligned")
"""Shares of labels that the model cannot learn from; the console shows them where there are any."""
RATES = ("learning_rate", "grad_norm", "seconds", "speech_hours_per_hour", "tokens_per_second")


class RunLog(TrainerCallback):
    """Writes what the Trainer logs; only the first process has one.

    One JSON object a line: ``step``, ``epoch``, ``kind`` ("train" or "dev") and the values. Resuming cuts the file back
    to the checkpoint's step, so nothing appears twice.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.path = run / LOG
        self._board: Any = None
        self._ticks: Iterator[int] | None = None
        self._started = time.monotonic()
        self._first_step = 0
        self._drawn = -math.inf

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        from torch.utils.tensorboard import SummaryWriter

        truncate_log(self.path, state.global_step)
        self._board = SummaryWriter(str(self.run / "tensorboard"), purge_step=state.global_step + 1)
        self._started, self._first_step = time.monotonic(), state.global_step
        if console.is_terminal:
            steps = range(state.max_steps - state.global_step)
            self._ticks = track(steps, description="training", unit="step")
            next(self._ticks, None)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._ticks is not None:
            next(self._ticks, None)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        values = {name: value for name, value in (logs or {}).items() if name != "epoch"}
        is_dev = any(name.startswith("dev_") for name in values)
        record = {"step": state.global_step, "epoch": state.epoch, "kind": "dev" if is_dev else "train", **values}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self._board is not None:
            for name, value in values.items():
                group = "dev/" + name.removeprefix("dev_") if is_dev else f"train/{name}"
                self._board.add_scalar(group, value, state.global_step)
            self._board.flush()
        console.print(self._line(record, state.max_steps), soft_wrap=True, markup=False)
        if is_dev and time.monotonic() - self._drawn > SECONDS_BETWEEN_CURVES:
            self.draw()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._board is not None:
            self._board.close()
        if self._ticks is not None:
            close = getattr(self._ticks, "close", None)
            if close is not None:
                close()
        self.draw()

    def draw(self) -> None:
        """Draw the log so far."""
        curves = read_curves(self.run)
        if curves:
            from comsl.evaluation.plots import curves_png

            write_atomically(self.run / CURVES, curves_png(curves))
        self._drawn = time.monotonic()

    def _line(self, record: dict[str, Any], max_steps: int) -> str:
        step = record["step"]
        if record["kind"] == "dev":
            scores = [f"{name.removeprefix('dev_')} {value:.4g}" for name, value in _plain_values(record)]
            return f"step {step}/{max_steps}  development: {'  '.join(scores)}"
        terms = [
            f"{name} {value:.4g}"
            for name, value in _plain_values(record)
            if name not in (*RATES, "loss") and (value or not name.endswith(LOST))
        ]
        seconds = time.monotonic() - self._started
        left = seconds / max(step - self._first_step, 1) * (max_steps - step)
        return (
            f"step {step}/{max_steps}  loss {record['loss']:.4g} ({', '.join(terms)})"
            f"  |gradient| {record.get('grad_norm', math.nan):.3g}  learning rate {record['learning_rate']:.3g}"
            f"  {record['speech_hours_per_hour']:.1f} h speech/h  {record['tokens_per_second']:.0f} tokens/s"
            f"  {format_duration(left)} left"
        )


def _plain_values(record: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if name not in ("step", "epoch", "kind") and not name.endswith("_count"):
            yield name, value
