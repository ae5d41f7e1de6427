"""Checkpoints that are either complete or not there, and their average.

A checkpoint is written into a folder whose name says that it is unfinished, forced to disk, and only then renamed to
``step-000123``. Whatever happens before the rename - SIGKILL, a full disk, a power cut - leaves the earlier checkpoint
as it was, and the unfinished folder is never looked at again but to delete it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from comsl.errors import ComSLError
from comsl.files import sync

FOLDER = "checkpoints"
UNFINISHED = ".unfinished-"
STATE = "trainer_state.json"
OPTIMIZER = "optimizer.pt"
WEIGHTS = "model.safetensors"
TRAINED = "trained.pt"
"""With LoRA: what has learnt, unmerged, which the merged weights do not tell any more."""
INDEX = "model.safetensors.index.json"
OPTIMIZERS = (OPTIMIZER, "optimizer.bin", "optimizer_0")
"""Of one process or DDP, and FSDP's two formats."""
RESUME_ONLY = (*OPTIMIZERS, TRAINED)
"""What only resuming needs: dropped from checkpoints that are kept for their weights."""

WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)
"""What writing raises when the disk is full: torch and safetensors wrap the system's own error."""


class CheckpointError(ComSLError):
    """A checkpoint cannot be written, read, or belongs to another model."""


@dataclass(frozen=True, order=True)
class Checkpoint:
    """A complete checkpoint of a run; its folder also loads as a model."""

    step: int
    path: Path

    @property
    def resumable(self) -> bool:
        """Whether the optimiser's state is still there."""
        return any((self.path / name).exists() for name in OPTIMIZERS)

    def drop_resume_state(self) -> None:
        """Keep the weights, give the disk back the rest (about two thirds)."""
        for name in RESUME_ONLY:
            remove(self.path / name)
        sync(self.path)


class CheckpointFolder:
    """The checkpoints of one run directory."""

    def __init__(self, run: str | Path) -> None:
        self.path = Path(run) / FOLDER

    def complete(self) -> list[Checkpoint]:
        """All complete ones, oldest first."""
        if not self.path.is_dir():
            return []
        found = ((re.fullmatch(r"step-(\d+)", entry.name), entry) for entry in self.path.iterdir())
        return sorted(Checkpoint(int(match[1]), entry) for match, entry in found if match and (entry / STATE).is_file())

    def latest(self) -> Checkpoint | None:
        """The one to resume from."""
        return max((item for item in self.complete() if item.resumable), default=None)

    def at(self, step: int) -> Checkpoint | None:
        return next((item for item in self.complete() if item.step == step), None)

    def begin(self, step: int) -> Path:
        """A new, empty folder to write the checkpoint of ``step`` into."""
        folder = self.unfinished(step)
        remove(folder)
        folder.mkdir(parents=True)
        return folder

    def unfinished(self, step: int) -> Path:
        return self.path / f"{UNFINISHED}{step:06d}"

    def commit(self, step: int) -> Checkpoint:
        """Force the written files to disk and make the folder a checkpoint, in one rename."""
        folder, final = self.unfinished(step), self.path / f"step-{step:06d}"
        sync_tree(folder)
        remove(final)
        os.rename(folder, final)
        sync(self.path)
        return Checkpoint(step, final)

    def clean(self) -> None:
        """Delete what a killed process left unfinished."""
        if self.path.is_dir():
            for entry in self.path.iterdir():
                if entry.name.startswith(UNFINISHED):
                    remove(entry)

    def keep(self, steps: set[int]) -> None:
        """Delete all other complete checkpoints; of the kept ones, only the latest stays resumable."""
        complete = self.complete()
        for checkpoint in complete:
            if checkpoint.step not in steps:
                self.delete(checkpoint)
            elif checkpoint is not complete[-1] and checkpoint.resumable:
                checkpoint.drop_resume_state()

    def delete(self, checkpoint: Checkpoint) -> None:
        # Renamed first: a kill in the middle must not leave half a checkpoint under a complete one's name.
        doomed = self.path / f"{UNFINISHED}{checkpoint.path.name}"
        os.rename(checkpoint.path, doomed)
        remove(doomed)

    def write_error(self, step: int, reason: BaseException) -> CheckpointError:
        """What to tell the user when the checkpoint of ``step`` could not be written."""
        self.clean()
        latest = self.latest()
        intact = f"the checkpoint of step {latest.step} is intact" if latest else "there is no earlier checkpoint"
        try:
            free = f" ({shutil.disk_usage(self.path).free / 1e9:.1f} GB free now)"
        except OSError:
            free = ""
        return CheckpointError(
            f"{self.path}: cannot write the checkpoint of step {step}: {reason}{free}; {intact}: "
            "make room and run the same command to go on from there"
        )


# ------------------------------------------------------------------------------------------------------------- disk


def sync_tree(folder: Path) -> None:
    """fsync every file and folder below ``folder``, and itself."""
    for root, _, files in os.walk(folder):
        for name in files:
            sync(os.path.join(root, name))
        sync(root)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------------------------- weights


def weight_files(folder: Path) -> dict[str, Path]:
    """Tensor name -> the safetensors file that holds it. Raises CheckpointError if there are no weights."""
    folder = Path(folder)
    try:
        if (folder / INDEX).is_file():
            names = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
            return {name: folder / file for name, file in names.items()}
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            return dict.fromkeys(file.keys(), folder / WEIGHTS)
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder}: no model weights ({WEIGHTS}) in this directory") from error
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder}: damaged model weights: {error}") from error


def average_checkpoints(folders: Sequence[str | Path], out: str | Path) -> Path:
    """Uniform average of the weights of several checkpoints of one model.

    Sums are taken in float64 and rounded once, to the type of the last checkpoint; tensors that are not floating point
    and all other files (configuration, tokenizer) are the last checkpoint's.

    Raises:
        CheckpointError: no folders, or folders that do not hold the same tensors.
    """
    paths = [Path(folder) for folder in folders]
    if not paths:
        raise CheckpointError("nothing to average: name at least one checkpoint")
    locations = [weight_files(path) for path in paths]
    for path, names in zip(paths[1:], locations[1:], strict=True):
        odd = names.keys() ^ locations[0].keys()
        if odd:
            raise CheckpointError(f"{path}: not a checkpoint of the same model as {paths[0]}: {sorted(odd)[0]} differs")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: _average(name, [location[name] for location in locations]) for name in locations[-1]}
    save_file(tensors, out / WEIGHTS, metadata={"format": "pt"})
    copy_model_files(paths[-1], out, weights=False)
    return out


def _average(name: str, files: list[Path]) -> torch.Tensor:
    total: torch.Tensor | None = None
    last = torch.empty(0)
    for path in files:
        with safe_open(path, framework="pt") as file:
            last = file.get_tensor(name)
        if total is not None and total.shape != last.shape:
            raise CheckpointError(f"{path}: {name} has shape {list(last.shape)}, elsewhere {list(total.shape)}")
        total = last.double() if total is None else total + last.double()
    assert total is not None
    return (total / len(files)).to(last.dtype) if last.is_floating_point() else last


def copy_model_files(source: Path, target: Path, weights: bool = True) -> None:
    """Copy what makes a checkpoint a model, and nothing of what resuming needs."""
    for entry in sorted(source.iterdir()):
        is_weights = entry.name.endswith(".safetensors") or entry.name == INDEX
        if entry.suffix in (".pt", ".pth", ".bin") or entry.name == STATE or (is_weights and not weights):
            continue
        if entry.is_file():
            shutil.copyfile(entry, target / entry.name)
