"""What transformers' Trainer has to be told about a stage."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainingArguments

from comsl.errors import UsageError
from comsl.training.configuration import TrainConfiguration


def training_arguments(configuration: TrainConfiguration) -> TrainingArguments:
    """What the Trainer itself has to know; logging, evaluating, saving and optimising are decided elsewhere."""
    training, optimizer = configuration.training, configuration.optimizer
    _check_device(configuration)
    schedule, details = _schedule(configuration)
    return TrainingArguments(
        output_dir=configuration.output_dir,
        seed=configuration.seed,
        max_steps=training.max_steps or -1,
        num_train_epochs=training.epochs,
        learning_rate=optimizer.learning_rate,
        lr_scheduler_type=schedule,
        lr_scheduler_kwargs=details,
        warmup_steps=optimizer.warmup_steps or 0,
        max_grad_norm=optimizer.max_grad_norm,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        bf16=training.precision == "bf16",
        fp16=training.precision == "fp16",
        # Told, where there is nothing else: the Trainer takes bf16 for a GPU's otherwise, and refuses.
        use_cpu=training.use_cpu or not torch.accelerator.is_available(),
        ddp_find_unused_parameters=True,
        logging_strategy="no",
        eval_strategy="no",
        save_strategy="no",
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to=["wandb"] if training.wandb else [],
        remove_unused_columns=False,
        log_level="error",
        log_level_replica="error",
    )


def _schedule(configuration: TrainConfiguration) -> tuple[str, dict[str, float]]:
    optimizer = configuration.optimizer
    match optimizer.schedule:
        case "polynomial":
            return "polynomial", {"lr_end": optimizer.end_learning_rate, "power": optimizer.power}
        case "cosine":
            return "cosine_with_min_lr", {"min_lr": optimizer.end_learning_rate}
        case "constant":
            return "constant_with_warmup", {}
        case name:
            return name, {}


def _check_device(configuration: TrainConfiguration) -> None:
    on_gpu = torch.cuda.is_available() and not configuration.training.use_cpu
    if configuration.training.precision == "fp16" and not on_gpu:
        raise UsageError("training.precision: fp16 needs a GPU; use bf16 or no")
    if configuration.training.wandb:
        try:
            import wandb  # noqa: F401
        except ImportError as error:
            raise UsageError("training.wandb: the package is missing; pip install wandb, or set it to false") from error


def enable_gradient_checkpointing(joint: Any) -> None:
    """Every layer of the speech encoder and of the text model recomputes its activations in the backward pass.

    Not re-entrant, so that it works below a frozen part, with unused parameters in DDP, and with FSDP.
    """
    joint.model.activation_checkpointing_enable({"use_reentrant": False})
