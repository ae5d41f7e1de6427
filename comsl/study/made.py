"""How an arm's numbers were made, as its runs and evaluations themselves say: what a page must state beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from comsl.evaluation import LOOKUP
from comsl.inference.decode import DecodingOptions, recalls
from comsl.training.recipe import read_yaml
from comsl.training.run_directory import CONFIGURATION, RunDirectory, RunError

COMMIT_LETTERS = 7
SHOWN = ("beam", "mbr", "transcript")
"""Options of decoding that are always named; others where they are not the default."""
HIDDEN = ("device", "batch_size", "batch_seconds", "scores")
"""They change no hypothesis, or stand elsewhere."""


@dataclass(frozen=True)
class Made:
    """Each a list of what was found, without repetition: one item where all seeds and tests were made alike."""

    updates: tuple[str, ...] = ()
    precision: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()
    """Commits that training was started or continued at."""
    evaluated: tuple[str, ...] = ()
    """Commits."""
    decoding: tuple[str, ...] = ()


def read_made(system: str, scores: Sequence[dict[str, Any]], runs: Sequence[Path]) -> Made:
    """Of a system's finished evaluations, and of those of its models that a run made."""
    evaluated = _different(_short(each.get("git_commit")) for each in scores)
    if system == LOOKUP:
        return Made(evaluated=evaluated)
    records = [record for run in runs if (record := RunDirectory(run).record)]
    recipes = [read_yaml(run / CONFIGURATION, RunError) for run in runs if (run / CONFIGURATION).is_file()]
    return Made(
        _different(str(record["result"]["steps"]) for record in records if record.get("finished")),
        _different(str(recipe["training"]["precision"]) for recipe in recipes),
        _different(_short(start["commit"]) for record in records for start in record["starts"]),
        evaluated,
        _different(_decoding(system, each) for each in scores if each["decoding"]),
    )


def _different(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _short(commit: str | None) -> str:
    """With the ``+`` of a checkout that had changes."""
    return commit[:COMMIT_LETTERS] + "+" * commit.endswith("+") if commit else "unknown"


def _decoding(system: str, scores: dict[str, Any]) -> str:
    usual = {**asdict(DecodingOptions()), "precision": None}
    options = {name: value for name, value in scores["decoding"].items() if name not in HIDDEN}
    named = [f"{name} {value}" for name, value in options.items() if name in SHOWN or value != usual.get(name)]
    if "memory" in scores and recalls([system]):
        named.append(f"memory gap {scores['memory']['settings']['gap']}")
    return ", ".join(named)
