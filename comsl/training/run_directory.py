"""A run's directory: what was asked, with what it was done, and whether it is finished.

config.yaml       the resolved configuration
run.json          seed, versions, git commit, processes, device, rows and signature of the development score, training
                  rows that were left out; at the end the result
train_log.jsonl   losses, rates and development scores
curves.png        the same as a picture
tensorboard/      the same for TensorBoard
checkpoints/      complete ones only
config.json, model.safetensors, ...   the finished model: ComSLForConditionalGeneration.from_pretrained(directory)
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from comsl.errors import ComSLError, UsageError
from comsl.evaluation.curves import LOG
from comsl.files import matching, sha256_of_files, write_atomically
from comsl.provenance import git_commit, versions
from comsl.training.checkpoints import FOLDER
from comsl.training.configuration import TrainConfiguration
from comsl.training.recipe import flatten

CONFIGURATION = "config.yaml"
RECORD = "run.json"
FINAL = ".final"

HARMLESS = ("output_dir", "data.num_workers", "teacher_cache.folder", "training.wandb")
"""Keys that may change between two starts of one run: they do not change what it computes."""

SOURCES = ("model", "teacher", "compose.speech", "compose.text", "data.train", "data.dev")
"""Keys that name what a run starts from."""


class RunError(ComSLError):
    """The run directory and the command do not go together."""


def fingerprints(configuration: TrainConfiguration) -> dict[str, str]:
    """SHA-256 of what a run starts from, by key: weights and manifests on disk, whose paths alone say little.

    What is not on disk (a hub id, a model that was deleted since) is left out.
    """
    settings = flatten(configuration.to_dict())
    found = {}
    for key in SOURCES:
        values = settings.get(key)
        names = [value for value in (values if isinstance(values, list) else [values]) if isinstance(value, str)]
        paths = [Path(path) for name in names for path in matching(name)]
        files = [file for path in paths for file in (sorted(path.glob("*.safetensors")) if path.is_dir() else [path])]
        digest = sha256_of_files(file for file in files if file.is_file())
        if digest is not None:
            found[key] = digest
    return found


class RunDirectory:
    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def record(self) -> dict[str, Any]:
        """Content of run.json; empty before the first start."""
        try:
            return json.loads((self.path / RECORD).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except json.JSONDecodeError as error:
            raise RunError(f"{self.path / RECORD}: damaged ({error}); delete it to go on with this run") from error

    @property
    def finished(self) -> bool:
        return bool(self.record.get("finished"))

    @property
    def begun(self) -> bool:
        """Whether there is anything that a run with other settings would spoil: a step that was logged or saved."""
        log, checkpoints = self.path / LOG, self.path / FOLDER
        return self.finished or (log.is_file() and log.stat().st_size > 0) or any(checkpoints.glob("*"))

    def check(self, configuration: TrainConfiguration, processes: int) -> None:
        """Whether ``configuration`` may start, or go on with, a run here. Changes nothing.

        Raises:
            UsageError: the directory holds something else, or a run with other settings (the keys are named).
        """
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"output_dir: {self.path} is a file")
        kept = self.path / CONFIGURATION
        if not kept.is_file() or not self.begun:
            if (self.path / "config.json").exists():
                raise UsageError(f"output_dir: {self.path} holds a model that no run made; choose another directory")
            return
        try:
            before = flatten(yaml.safe_load(kept.read_text(encoding="utf-8")))
        except (yaml.YAMLError, AttributeError) as error:
            raise RunError(f"{kept}: damaged ({error}); choose another output_dir") from error
        now = flatten(configuration.to_dict())
        # A key that is younger than the run: what there was no key for was done as its default says.
        before = {key: value for key, value in flatten(TrainConfiguration().to_dict()).items() if key in now} | before
        differing = [
            f"{key} (was {before.get(key)!r}, is {now.get(key)!r})"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and key not in HARMLESS
        ]
        if differing:
            raise UsageError(
                f"{self.path} holds a run with other settings: {'; '.join(differing)}; "
                "use the same settings to go on with it, or another output_dir"
            )
        sources = self.record.get("sources", {})
        found = fingerprints(configuration) if sources else {}
        changed = [key for key, digest in found.items() if sources.get(key, digest) != digest]
        if changed:
            raise UsageError(
                f"{self.path} holds a run that started from another {' and another '.join(changed)} (same path, other "
                "content); choose another output_dir, or delete this one"
            )
        processes_before = self.record.get("processes", processes)
        if processes_before != processes and not self.finished:
            raise UsageError(
                f"{self.path} holds a run of {processes_before} processes and this is one of {processes}: its batches "
                "would be others; use as many, or another output_dir"
            )

    def start(self, configuration: TrainConfiguration, processes: int, device: str) -> None:
        """Write down the configuration and what it runs with (on the first start; later ones add to the history)."""
        self.path.mkdir(parents=True, exist_ok=True)
        begun = self.begun
        if not begun:
            write_atomically(self.path / CONFIGURATION, configuration.to_yaml())
        record = self.record if begun else {}
        start = {"versions": versions(), "platform": platform.platform(), "commit": git_commit(), "device": device}
        starts = [*record.get("starts", []), start]
        record |= {"seed": configuration.seed, "processes": processes, "starts": starts, "finished": False}
        if "sources" not in record:  # hashing gigabytes: once, on the first start
            record["sources"] = fingerprints(configuration)
        self._write(record)

    def note(self, **facts: Any) -> None:
        """Add facts to the record, such as what the development score is computed on."""
        self._write({**self.record, **facts})

    def finish(self, build: Callable[[Path], None], result: dict[str, Any]) -> None:
        """Put the model that ``build(folder)`` writes into the directory, then say that the run is finished.

        A kill before the last line leaves an unfinished run, which does this again.
        """
        folder = self.path / FINAL
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        build(folder)
        for entry in sorted(folder.iterdir()):
            os.replace(entry, self.path / entry.name)
        folder.rmdir()
        self._write({**self.record, "finished": True, "result": result})

    def _write(self, record: dict[str, Any]) -> None:
        write_atomically(self.path / RECORD, json.dumps(record, indent=2) + "\n")
