"""Which steps are finished: a marker a step, which holds what the step was made of.

A step is finished if its marker is there and says what would be said now: the same words and processes, recipes of the
same content, the same inputs; and if its outputs are still where it left them. Inputs are the paths that exist among
the words, in the recipes that the words name and in what the step ``reads``, but for its own outputs. Of a file its
size and time of change count; of a folder those of the files directly in it, which for a model, a run or a folder of
manifests is what matters (what changes deeper in raw material goes unnoticed: ``--again``). A model that is calibrated
afterwards stays the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comsl.files import matching, write_atomically
from comsl.inference.confidence import CALIBRATION
from comsl.training.recipe import flatten, read_yaml
from comsl.workflow.plan import PlanError, Step

OUTPUTS = ("--out", "--output_dir", "--output")
RECIPES = (".yaml", ".yml")

Facts = dict[str, Any]


def facts_of(step: Step) -> Facts:
    """What a step is made of at this moment; plain values, as JSON holds them."""
    outputs = {os.path.normpath(path) for path in outputs_of(step)}
    recipes = [*_recipes(step.words), *([step.accelerate] if step.accelerate else [])]
    named = [*_values(step.words), *(text for path in recipes for text in _texts(path)), *step.reads]
    inputs = sorted({path for text in named for path in _existing(text)} - outputs - set(recipes))
    return {
        "words": list(step.words),
        "processes": step.processes,
        "recipes": {path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in recipes},
        "inputs": {path: _stamp(path) for path in inputs},
    }


def outputs_of(step: Step) -> list[str]:
    """Paths that a step writes."""
    pairs = zip(step.words, step.words[1:], strict=False)
    joined = (word.partition("=") for word in step.words)
    return [
        *(value for option, value in pairs if option in OUTPUTS),
        *(value for option, equals, value in joined if option in OUTPUTS and equals),
        *step.writes,
    ]


@dataclass(frozen=True)
class Markers:
    """The markers in a workflow's folder of records."""

    records: Path

    def path(self, step: Step) -> Path:
        return self.records / f"{step.name}.json"

    def log(self, step: Step) -> Path:
        """What the step has printed."""
        return self.records / f"{step.name}.log"

    def why_not_finished(self, step: Step) -> str | None:
        """None if the step is finished."""
        try:
            kept = json.loads(self.path(step).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return "not done yet"
        except (OSError, ValueError):
            return "its marker is damaged"
        for path in outputs_of(step):
            if not os.path.exists(path):
                return f"{path} is gone"
        return _difference(kept, facts_of(step))

    def set(self, step: Step, facts: Facts, seconds: float) -> None:
        """The step is finished; ``facts`` are those it started from."""
        content = json.dumps({**facts, "seconds": round(seconds, 1)}, indent=2, ensure_ascii=False)
        write_atomically(self.path(step), content + "\n")

    def clear(self, step: Step) -> None:
        self.path(step).unlink(missing_ok=True)


def _difference(before: Facts, now: Facts) -> str | None:
    for key in ("words", "processes"):
        if before.get(key) != now[key]:
            return f"its {key} have changed"
    for key in ("recipes", "inputs"):
        kept = before.get(key, {})
        for path in sorted(kept.keys() | now[key].keys()):
            if kept.get(path) != now[key].get(path):
                return f"{path} has changed"
    return None


def _values(words: tuple[str, ...]) -> Iterator[str]:
    """Words that may be paths: all but the command and the names of options; the items of a list, one by one."""
    for word in words[1:]:
        value = word.partition("=")[2] if word.startswith("--") else word
        if value.startswith("[") and value.endswith("]"):
            yield from (item.strip(" '\"") for item in value[1:-1].split(","))
        elif value:
            yield value


def _recipes(words: tuple[str, ...]) -> list[str]:
    return sorted(
        {os.path.normpath(word) for word in _values(words) if word.endswith(RECIPES) and os.path.isfile(word)}
    )


def _texts(recipe: str) -> Iterator[str]:
    for value in flatten(read_yaml(recipe, PlanError)).values():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str):
                yield item


def _existing(text: str) -> list[str]:
    """Paths that a text names: itself, or what it matches as a glob."""
    return [os.path.normpath(path) for path in matching(text) if os.path.exists(path)]


def _stamp(path: str) -> list[Any]:
    """Size and time of change of a file; of a folder, of the files directly in it."""
    if not os.path.isdir(path):
        status = os.stat(path)
        return [status.st_size, status.st_mtime_ns]
    with os.scandir(path) as entries:
        files = [(entry.name, entry.stat()) for entry in entries if entry.is_file() and entry.name != CALIBRATION]
    digest = hashlib.sha256()
    for name, status in sorted(files, key=lambda item: item[0]):
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return [len(files), digest.hexdigest()]
