"""The Trainer's saving and loading, made complete and atomic."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from comsl.model import loading
from comsl.model.lora import merged_weights
from comsl.training.checkpoints import (
    STATE,
    TRAINED,
    WRITE_ERRORS,
    CheckpointError,
    CheckpointFolder,
    remove,
)
from comsl.training.distributed import all_objects

if TYPE_CHECKING:
    from comsl.training.configuration import TrainConfiguration
    from comsl.training.progress import Progress

MODEL = "model."
FSDP_WEIGHTS = ("pytorch_model_fsdp.bin", "pytorch_model_fsdp_0")


class CheckpointingMixin:
    """Saves `joint.model` in its own format (a checkpoint loads as a model), and beside it all that resuming needs."""

    args: Any
    state: Any
    accelerator: Any
    model: Any
    model_wrapped: Any
    processing_class: Any
    is_fsdp_enabled: bool
    joint: Any
    progress: Progress
    checkpoints: CheckpointFolder
    configuration: TrainConfiguration
    trained_names: list[str]
    _tr_loss: Tensor
    _globalstep_last_logged: int

    # ------------------------------------------------------------------------------------------------------ saving

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Every rank writes its part; the first one then makes it a checkpoint."""
        step = self.state.global_step
        if self.checkpoints.at(step) is not None:
            return
        with self.progress.paused():
            self._together(step, self._begin_checkpoint)
            self._together(step, self._write_checkpoint)
            self._together(step, self._commit_checkpoint)

    def _together(self, step: int, part: Any) -> None:
        """Runs ``part(step)`` on all ranks; where it cannot write on one, all of them stop with the same error."""
        failure: str | None = None
        try:
            part(step)
        except WRITE_ERRORS as error:
            failure = str(getattr(error, "strerror", None) or error)
        failures = [text for text in all_objects(failure) if text]
        if failures:
            self.accelerator.wait_for_everyone()
            raise self.checkpoints.write_error(step, RuntimeError(failures[0]))

    def _begin_checkpoint(self, step: int) -> None:
        if self.args.should_save:
            self.checkpoints.begin(step)

    def _write_checkpoint(self, step: int) -> None:
        folder = str(self.checkpoints.unfinished(step))
        self.save_model(folder, _internal_call=True)
        self._save_optimizer_and_scheduler(folder)
        self._save_scaler(folder)  # type: ignore[attr-defined]
        self._save_rng_state(folder)  # type: ignore[attr-defined]
        torch.save(self._progress_state(), self._progress_file(Path(folder)))
        if self.args.should_save:
            self.state.save_to_json(str(Path(folder) / STATE))

    def _commit_checkpoint(self, step: int) -> None:
        if not self.args.should_save:
            return
        self.checkpoints.commit(step)
        self.checkpoints.keep(self._steps_to_keep())

    def _steps_to_keep(self) -> set[int]:
        """The latest (to resume from), the best, and those that the final average is made of."""
        training = self.configuration.training
        steps = [checkpoint.step for checkpoint in self.checkpoints.complete()]
        kept = {steps[-1], *self.progress.best_steps(1)}
        if training.average_by == "best" and self.progress.scores:
            return kept | set(self.progress.best_steps(training.average_last))
        return kept | set(steps[-training.average_last :])

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The model in transformers' format, and the processor; written by the first rank."""
        folder = Path(output_dir or self.args.output_dir)
        state = self.accelerator.get_state_dict(self.model_wrapped) if self.is_fsdp_enabled else None
        if not self.args.should_save:
            return
        model, lora = self.joint.model, self.configuration.lora
        if state is None:
            weights = model.state_dict()
        else:
            # Tied weights come back as tensors of their own; a plain model's file has them once.
            own = {name[len(MODEL) :]: tensor for name, tensor in state.items() if name.startswith(MODEL)}
            weights = {name: tensor for name, tensor in own.items() if name not in model.all_tied_weights_keys}
        if lora is not None:
            torch.save({name: weights[name] for name in self.trained_names}, folder / TRAINED)
            weights = merged_weights(weights, lora.alpha / lora.rank)
        model.save_pretrained(folder, state_dict=weights)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)

    # ----------------------------------------------------------------------------------------------------- loading

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """The Trainer calls this before it wraps the model, but with FSDP after it, when whole tensors fit nowhere:
        there :meth:`load_checkpoint` has been called already."""
        if not self.is_fsdp_enabled:
            self.load_checkpoint(Path(resume_from_checkpoint))

    def load_checkpoint(self, folder: Path) -> None:
        """Weights of a checkpoint into the joint model, which is not wrapped yet."""
        if self.configuration.lora is None:
            load_weights(self.joint.model, folder)
        else:
            load_trained(self.joint.model, folder / TRAINED, self.trained_names)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)  # type: ignore[misc]
        if self.is_fsdp_enabled and self.args.should_save:
            # The weights in FSDP's own format, beside the ones in transformers' format that are loaded.
            for name in FSDP_WEIGHTS:
                remove(Path(output_dir) / name)

    def _progress_file(self, folder: Path) -> Path:
        return folder / f"progress_{self.args.process_index}.pt"

    def _progress_state(self) -> dict[str, Any]:
        return {
            "progress": self.progress.state(),
            "loss_since_log": float(self._tr_loss),
            "last_logged_step": self._globalstep_last_logged,
        }

    def _restore_progress(self, resume_from_checkpoint: str) -> None:
        """The averages that were under way, so that the next log line is the one it would have been."""
        state = torch.load(self._progress_file(Path(resume_from_checkpoint)), weights_only=True)
        self.progress.load(state["progress"])
        self._tr_loss = torch.tensor(state["loss_since_log"], device=self.args.device)
        self._globalstep_last_logged = state["last_logged_step"]


def load_weights(model: Any, folder: Path) -> None:
    """Loads a checkpoint's weights into ``model`` in place, through transformers' own loading.

    Raises:
        CheckpointError: the checkpoint is incomplete, damaged, or of another model.
    """
    try:
        loaded = loading.load_weights(type(model).from_pretrained, folder)
    except loading.ModelLoadError as error:
        raise CheckpointError(f"{error}; the run cannot go on from this checkpoint: use another output_dir") from error
    ours, theirs = model.state_dict(), loaded.state_dict()
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in theirs or name not in ours:
            side = "misses" if name not in theirs else "has in addition"
            raise CheckpointError(f"{folder}: a checkpoint of another model: it {side} {name}; use another output_dir")
        if ours[name].shape != theirs[name].shape:
            shapes = f"{list(theirs[name].shape)} instead of {list(ours[name].shape)}"
            raise CheckpointError(
                f"{folder}: a checkpoint of another model: {name} is {shapes}; use another output_dir"
            )
    model.load_state_dict(theirs)


def load_trained(model: Any, file: Path, names: list[str]) -> None:
    """With LoRA: what has learnt into ``model``, whose frozen weights are where they started.

    Raises:
        CheckpointError: the file is damaged, or of other matrices.
    """
    try:
        trained = torch.load(file, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{file}: cannot be read: {error}; use another output_dir") from error
    odd = sorted(trained.keys() ^ set(names))
    if odd:
        raise CheckpointError(f"{file}: a checkpoint of another model: {odd[0]} differs; use another output_dir")
    model.load_state_dict(trained, strict=False)
