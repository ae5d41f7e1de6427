"""transformers' Trainer around the joint model: global normalisation, our batches, complete checkpoints.

What is ours and why:

* One loss for any split of the global batch: every objective is divided by its count over all accumulation steps and
  all ranks (`_get_num_items_in_batch`), so two processes, or two accumulation steps, give the loss and the gradients
  of one process with the same global batch.
* Batches come from our sampler, which shards by rank itself; nothing that is skipped on resuming is decoded.
* A checkpoint is atomic and holds everything that the rest of the run depends on, half-filled averages of the log
  included, so that a killed and resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments

from comsl.errors import ComSLError, UsageError
from comsl.progress import console
from comsl.training.arguments import enable_gradient_checkpointing, training_arguments
from comsl.training.checkpointing import CheckpointingMixin
from comsl.training.checkpoints import STATE, Checkpoint, CheckpointFolder
from comsl.training.configuration import TrainConfiguration
from comsl.training.distributed import all_objects, barrier
from comsl.training.progress import Progress

SPEECH_SECONDS = "speech_seconds"
TOKEN_COUNTS = ("transcript", "translation")

Batch = dict[str, Tensor]


@dataclass
class TrainingData:
    """What the loader needs: rows, which of them form a batch on this rank, and how to collate them.

    ``sampler`` yields lists of row numbers, the same number of lists on every rank and in every epoch.
    """

    dataset: Dataset[Any]
    sampler: Any
    collate: Callable[[list[Any]], Batch]

    def set_epoch(self, epoch: int) -> None:
        for part in (self.dataset, self.sampler):
            if hasattr(part, "set_epoch"):
                part.set_epoch(epoch)

    def loader(self, workers: int, pin_memory: bool = False) -> DataLoader[Any]:
        # A generator of its own: the loader draws a seed from it, which must not move the global one. All randomness of
        # the data comes from (seed, epoch, row), so that neither resuming nor the number of workers changes anything.
        return DataLoader(
            self.dataset,
            batch_sampler=self.sampler,
            collate_fn=self.collate,
            num_workers=workers,
            pin_memory=pin_memory,
            generator=torch.Generator().manual_seed(0),
        )


class Diverged(ComSLError):
    """The loss or the gradient is not a number any more."""


class JointTrainer(CheckpointingMixin, Trainer):
    """Trains a JointModel.

    Args:
        joint: ``forward(batch, counts) -> JointOutput``, ``counts(batch)``, and the transformers model as ``.model``.
        configuration: of the stage.
        processor: saved with every checkpoint; may be None.
        data: training batches of this rank.
        evaluate: ``(trainer) -> metrics`` on the development set, the same on every rank; None: no evaluation.
        metric: the metric that chooses the best checkpoint, and whether more of it is better.
        checkpoints: where checkpoints go.
        callbacks: logging.
    """

    def __init__(
        self,
        joint: Any,
        configuration: TrainConfiguration,
        processor: Any,
        data: TrainingData,
        checkpoints: CheckpointFolder,
        evaluate: Callable[[JointTrainer], dict[str, float]] | None = None,
        metric: tuple[str, bool] = ("loss", False),
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        self.configuration = configuration
        self.data = data
        self.checkpoints = checkpoints
        self.evaluator = evaluate
        self.metric, self.more_is_better = metric
        self.progress = Progress(more_is_better=self.more_is_better)
        joint._no_split_modules = (
            joint.model._no_split_modules
        )  # the classes that FSDP wraps, unless the user names some
        if configuration.training.gradient_checkpointing:
            enable_gradient_checkpointing(joint)
        super().__init__(
            model=joint,
            args=training_arguments(configuration),
            train_dataset=data.dataset,
            data_collator=data.collate,
            processing_class=processor,
            callbacks=[Flow(configuration, evaluate is not None), *(callbacks or [])],
        )
        self.remove_callback(PrinterCallback)
        self.args._n_gpu = min(self.args.n_gpu, 1)  # one process a GPU, by torchrun; never DataParallel
        self.loss_is_scaled_for_ga = True  # the counts already span all accumulation steps
        self.speech_parameters = [
            name for name, parameter in joint.model.speech_encoder.named_parameters() if parameter.requires_grad
        ]
        self.trained_names = [name for name, item in joint.model.named_parameters() if item.requires_grad]
        self.freeze_steps = 0
        self._resume_from: str | None = None

    @property
    def joint(self) -> Any:
        """The JointModel, without what distributed training wraps around it."""
        return self.accelerator.unwrap_model(self.model_wrapped)

    def fit(self) -> None:
        """Train to the end: from the start, or on from the last complete checkpoint.

        Where the last checkpoint is the end already, only what is left to tidy up is done.
        """
        if self.args.should_save:
            self.checkpoints.clean()
        barrier()
        latest = self.checkpoints.latest()
        if latest is None:
            torch.manual_seed(self.args.seed + self.args.process_index)  # dropout differs from rank to rank
            self.train()
        elif self._at_its_end(latest):
            if self.args.should_save:
                self.checkpoints.keep(self._steps_to_keep())
            barrier()
        else:
            if self.is_fsdp_enabled:
                self.load_checkpoint(latest.path)
            if self.args.should_save:
                console.print(f"going on from the checkpoint of step {latest.step}", markup=False)
            self.train(resume_from_checkpoint=str(latest.path))

    def _at_its_end(self, checkpoint: Checkpoint) -> bool:
        self._tr_loss, self._globalstep_last_logged = torch.tensor(0.0), 0
        self._restore_progress(str(checkpoint.path))
        self.state = TrainerState.load_from_json(str(checkpoint.path / STATE))
        return self.progress.stopped or self.state.global_step >= self.state.max_steps

    # ---------------------------------------------------------------------------------------------------- the data

    def get_train_dataloader(self) -> DataLoader[Any]:
        # Not through accelerator.prepare: it would shard our already sharded batches once more.
        return self.data.loader(self.configuration.data.num_workers, pin_memory=self.args.device.type == "cuda")

    def set_initial_training_values(self, args: TrainingArguments, dataloader: DataLoader[Any]) -> Any:
        values = super().set_initial_training_values(args, dataloader)
        max_steps = values[-1]
        self.freeze_steps = math.floor(self.configuration.freeze_speech_encoder * max_steps)
        warmup = self.configuration.optimizer.warmup_steps
        if warmup is None:
            args.warmup_steps = min(5000, max_steps // 10)
        elif warmup >= max_steps:
            raise UsageError(
                f"optimizer.warmup_steps: {warmup} is not less than the {max_steps} steps of this training: "
                "the learning rate would never be reached; choose fewer"
            )
        return values

    def _run_epoch(  # type: ignore[override]
        self, *, epoch: int, resume_from_checkpoint: str | None, **rest: Any
    ) -> None:
        if resume_from_checkpoint is not None and self._resume_from != resume_from_checkpoint:
            self._resume_from = resume_from_checkpoint  # once, before the first epoch
            self._restore_progress(resume_from_checkpoint)
        self.data.set_epoch(epoch)
        super()._run_epoch(epoch=epoch, resume_from_checkpoint=resume_from_checkpoint, **rest)

    # ---------------------------------------------------------------------------------------------------- the loss

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> Any:
        """Counts of the global batch (all accumulation steps, all ranks) by name, on ``device``."""
        if not batch_samples:
            return None
        local: dict[str, float] = {SPEECH_SECONDS: 0.0}
        for batch in batch_samples:
            for name, count in self.joint.counts(batch).items():
                local[name] = local.get(name, 0.0) + float(count)
            if "durations" in batch:
                local[SPEECH_SECONDS] += float(batch["durations"].sum())
        names = sorted(local)
        values = torch.tensor([local[name] for name in names], dtype=torch.float32, device=device)
        if self.args.world_size > 1:
            values = self.accelerator.reduce(values, "sum")
        counts = dict(zip(names, values, strict=True))
        self.progress.add_amounts(counts.pop(SPEECH_SECONDS), [counts[key] for key in TOKEN_COUNTS if key in counts])
        return counts

    def training_step(self, model: nn.Module, inputs: Batch, num_items_in_batch: Any = None) -> Tensor:
        self._freeze_or_thaw(self.state.global_step)
        return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        outputs = model(inputs, counts=num_items_in_batch)
        self.progress.add_terms(outputs.terms)
        # DDP and FSDP average gradients over ranks; each rank holds its share of one sum.
        loss = outputs.loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def _freeze_or_thaw(self, step: int) -> None:
        """The speech encoder learns from ``freeze_steps`` on; before, nothing is differentiated below it.

        DDP was built while everything was trainable and looks for unused parameters, so it takes part of either state.
        """
        learns = step >= self.freeze_steps
        parameters = dict(self.joint.model.speech_encoder.named_parameters())
        for name in self.speech_parameters:
            if parameters[name].requires_grad != learns:
                parameters[name].requires_grad_(learns)

    # ---------------------------------------------------------------------------------------------- the optimiser

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            settings = self.configuration.optimizer
            model = self.model if model is None else model
            # (What the gate of an adapter starts at, zero, is no weight that grew too large.)
            decaying = {name for name in self.get_decay_parameter_names(model) if not name.endswith(".gate")}
            named = [(name, item) for name, item in model.named_parameters() if item.requires_grad]
            groups = [
                {"params": [item for name, item in named if name in decaying], "weight_decay": settings.weight_decay},
                {"params": [item for name, item in named if name not in decaying], "weight_decay": 0.0},
            ]
            self.optimizer = torch.optim.AdamW(
                [group for group in groups if group["params"]],
                lr=settings.learning_rate,
                betas=settings.betas,
                eps=settings.eps,
            )
        return self.optimizer

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            # FSDP wants to find a state for everything that learns: what learned when the checkpoint was written.
            self._freeze_or_thaw(self.state.global_step - 1)
        super()._load_optimizer_and_scheduler(checkpoint)

    # -------------------------------------------------------------------------------------- logging and evaluation

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds what the trainer does not know; the history is in the run's log file, not in every checkpoint."""
        if "loss" in logs:
            logs.update(self.progress.drain(all_objects))
        elif "train_runtime" in logs:
            return
        if self.state.epoch is not None:
            logs["epoch"] = self.state.epoch
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def _maybe_log_save_evaluate(self, tr_loss: Tensor, grad_norm: Any, *args: Any, **kwargs: Any) -> None:
        """Everything that is logged, evaluated or saved passes here: first it is made sure that it is worth it."""
        if self.control.should_log or self.control.should_evaluate or self.control.should_save:
            self._check_for_divergence(float(tr_loss), grad_norm)
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, *args, **kwargs)

    def _check_for_divergence(self, loss: float, grad_norm: Any) -> None:
        """Before good checkpoints make room for one whose weights are not numbers any more.

        The weights are what they were when the loss was computed, and one step of the gradient; so both are looked at,
        on all ranks. In fp16 a gradient that overflows is normal: its step was skipped.
        """
        gradient = 0.0 if grad_norm is None or self.accelerator.optimizer_step_was_skipped else float(grad_norm)
        for name, values in zip(
            ("loss", "gradient's norm"), zip(*all_objects((loss, gradient)), strict=True), strict=True
        ):
            wrong = next((value for value in values if not math.isfinite(value)), None)
            if wrong is not None:
                latest = self.checkpoints.latest()
                kept = f"the checkpoint of step {latest.step} is the last good one; " if latest else ""
                raise Diverged(
                    f"the {name} is {wrong} at step {self.state.global_step}: training has diverged; {kept}lower "
                    "optimizer.learning_rate or optimizer.max_grad_norm, or use more optimizer.warmup_steps"
                )

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        assert self.evaluator is not None
        with self.progress.paused():
            metrics = self.evaluator(self)
        self.log({f"dev_{name}": value for name, value in metrics.items()})
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Notes the score; decides whether to save and whether to stop."""
        better = self.progress.add_score(self.state.global_step, metrics[self.metric], metrics["loss"])
        self.state.best_metric, self.state.best_global_step = self.progress.best_score, self.progress.best_step
        wanted = self.progress.best_steps(self._averaged_by_score())
        if self.state.global_step in wanted:
            self.control.should_save = True
        patience = self.configuration.training.early_stopping_patience
        if patience is not None and self.progress.without_improvement >= patience:
            self.progress.stopped = True
            self.control.should_save = True
            self.control.should_training_stop = True
        return better

    def _averaged_by_score(self) -> int:
        training = self.configuration.training
        return training.average_last if training.average_by == "best" else 1

    @contextmanager
    def full_parameters(self) -> Iterator[None]:
        """Whole parameters on every rank, for generation; a matter of FSDP only."""
        if not self.is_fsdp_enabled:
            yield
            return
        from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel

        if isinstance(self.model_wrapped, FullyShardedDataParallel):
            with FullyShardedDataParallel.summon_full_params(self.model_wrapped, writeback=False):
                yield
            return
        sharded = [module for module in self.model_wrapped.modules() if isinstance(module, FSDPModule)]
        for module in sharded:
            module.unshard()
        try:
            yield
        finally:
            for module in sharded:
                module.reshard()


class Flow(TrainerCallback):
    """When to log, evaluate, save and stop."""

    def __init__(self, configuration: TrainConfiguration, evaluates: bool) -> None:
        self.configuration = configuration
        self.evaluates = evaluates

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> Any:
        training, step = self.configuration.training, state.global_step
        last = step >= state.max_steps
        control.should_log = last or step == 1 or step % training.logging_steps == 0
        control.should_evaluate = self.evaluates and (last or step % training.eval_steps == 0)
        control.should_save = last or step % self.configuration.save_steps == 0
        control.should_training_stop = control.should_training_stop or last
        return control

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> Any:
        # After its epoch loop the Trainer looks at these once more: a step must not be evaluated or saved twice.
        control.should_log = control.should_evaluate = control.should_save = False
        return control

    def on_epoch_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> Any:
        return self.on_save(args, state, control)
