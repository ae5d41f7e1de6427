"""A training stage from its configuration to the finished model in the run directory."""

from __future__ import annotations

import errno
import functools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import PreTrainedModel, set_seed
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import logging as transformers_logging

from comsl.data.manifest import load_manifest
from comsl.errors import ComSLError
from comsl.model import ComSLProcessor, compose, load_model
from comsl.model.lora import add_lora
from comsl.objectives import JointModel, ObjectiveSet
from comsl.objectives.base import Target
from comsl.progress import console
from comsl.training.callbacks import RunLog
from comsl.training.checkpoints import (
    WRITE_ERRORS,
    CheckpointError,
    CheckpointFolder,
    average_checkpoints,
    copy_model_files,
)
from comsl.training.configuration import ComposeConfiguration, TrainConfiguration
from comsl.training.data import ctc_symbols, ctc_texts, longest_clip, stage_data, text_encoder_limit
from comsl.training.development import METRICS, DevelopmentSet, choose_task
from comsl.training.distributed import barrier
from comsl.training.new_parts import named_or_new
from comsl.training.run_directory import RECORD, RunDirectory
from comsl.training.teacher import CachedTeacher, load_teacher
from comsl.training.trainer import JointTrainer


@dataclass(frozen=True)
class TrainResult:
    """How a training ended."""

    output_dir: Path
    """The finished model: ``ComSLForConditionalGeneration.from_pretrained(output_dir)``."""
    steps: int
    metric: str | None
    """Which development metric chose the best checkpoint; None without a development set."""
    best: float | None
    best_step: int | None
    stopped_early: bool
    averaged: list[int]
    """Steps of the checkpoints that the model is made of."""
    already_finished: bool = False
    """The run had been finished before, and nothing was done."""


def train(configuration: TrainConfiguration) -> TrainResult:
    """Run a stage, or go on with one that was interrupted, in ``configuration.output_dir``.

    Under torchrun or accelerate launch every process calls this.

    Raises:
        UsageError: settings that make no sense, or that differ from those of the run in this directory.
        ComSLError: data, model or checkpoints that cannot be used; diverged training; a full disk.
    """
    configuration.validate()
    objectives = ObjectiveSet(configuration.objectives)
    state = PartialState(cpu=configuration.training.use_cpu)
    run = RunDirectory(configuration.output_dir)
    run.check(configuration, state.num_processes)
    if run.finished:
        console.print(f"{run.path}: this run is finished; nothing to do", soft_wrap=True, markup=False)
        return _result(run, already_finished=True)
    barrier()
    if state.is_main_process:
        run.start(configuration, state.num_processes, _device_name(state.device))
    with plain_errors(run.path):
        trainer = build_trainer(configuration, objectives, state.process_index, state.num_processes)
        if state.is_main_process and isinstance(trainer.evaluator, DevelopmentSet):
            run.note(development=trainer.evaluator.facts())
            console.print(str(trainer.evaluator), soft_wrap=True, markup=False)
        if state.is_main_process:
            _note_left_out(run, trainer.train_dataset)
        transformers_logging.disable_progress_bar()  # after loading, whose downloads show theirs; not at every save
        trainer.fit()
        if state.is_main_process:
            _finish(run, trainer, configuration)
    barrier()
    return _result(run)


@contextmanager
def plain_errors(run: Path) -> Iterator[None]:
    """One line for what goes wrong in a loader's process (torch adds that process's traceback) and on a full disk."""
    try:
        yield
    except ComSLError as error:
        lines = str(error).strip().splitlines()
        if len(lines) > 1 and lines[0].startswith("Caught "):
            raise type(error)(lines[-1].partition(": ")[2]) from error
        raise
    except WRITE_ERRORS as error:
        if getattr(error, "errno", None) != errno.ENOSPC and "No space left on device" not in str(error):
            raise
        raise CheckpointError(
            f"{run}: no space left on the disk; the last complete checkpoint is intact: make room and run the same "
            "command to go on from there"
        ) from error


def build_trainer(
    configuration: TrainConfiguration, objectives: ObjectiveSet, rank: int = 0, world_size: int = 1
) -> JointTrainer:
    """Model, teacher, data and trainer of a stage; nothing is trained yet."""
    dev = configuration.data.dev
    train_rows, dev_rows = load_manifest(configuration.data.train or []), load_manifest(dev) if dev else None
    model, processor = starting_model(configuration)
    load = functools.partial(load_teacher, configuration, objectives, model, processor)
    teacher, train_cache, dev_cache = None, None, None
    if objectives.needs_teacher and configuration.teacher_cache is not None:
        caches = CachedTeacher(configuration, load, model, processor, PartialState().device)
        train_cache = caches.of(train_rows, "training")
        dev_cache = None if dev_rows is None else caches.of(dev_rows, "development")
        del caches  # and with it the teacher
    else:
        teacher = load()
    if configuration.reinitialize:
        set_seed(configuration.seed)
        model = reinitialized(model, configuration.reinitialize)
    _record_targets(model, objectives, train_rows)
    add_lora_as_asked(configuration, model)
    joint = JointModel(model, objectives, teacher, configuration.reduction, cached_teacher=train_cache is not None)
    text_limit = text_encoder_limit(model, processor)
    longest = longest_clip(model, text_limit)
    reads = objectives.reads
    make = functools.partial(
        stage_data,
        processor=processor,
        fields=objectives.fields,
        configuration=configuration,
        max_duration=longest if reads.encoded_speech else model.max_duration,
        mixed=text_limit if reads.mixed else None,
        rank=rank,
        world_size=world_size,
    )
    evaluate, metric = None, METRICS["loss"]
    if dev_rows is not None:
        task = choose_task(configuration.evaluation.task, list(objectives.active))
        evaluate = DevelopmentSet(
            make(dev_rows, training=False, teacher=dev_cache),
            dev_rows,
            processor,
            configuration.evaluation,
            task,
            longest,
        )
        metric = METRICS[task]
    output = Path(configuration.output_dir)
    return JointTrainer(
        joint,
        configuration,
        processor,
        make(train_rows, training=True, teacher=train_cache),
        CheckpointFolder(output),
        evaluate=evaluate,
        metric=metric,
        callbacks=[RunLog(output)] if rank == 0 else [],
    )


# ----------------------------------------------------------------------------------------------------------- models


def starting_model(configuration: TrainConfiguration) -> tuple[Any, ComSLProcessor]:
    """The model to train, in float32, and its processor: loaded, or composed of two parts."""
    parts = configuration.compose
    if parts is None:
        model, processor = load_model(str(configuration.model), torch.float32)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            speech, text = named_or_new(parts, configuration.data.train, configuration.seed, Path(scratch))
            model, processor = _compose(configuration, parts, speech, text)
    set_dropout(model, configuration.dropout, configuration.adapter_dropout)
    return model, processor


def reinitialized(model: Any, part: bool | str) -> Any:
    """The same architecture with random weights, of everything or of one part ("speech", with its CTC head; "text")."""
    fresh = type(model)(model.config)
    if part is True:
        return fresh
    if part == "speech":
        model.speech_encoder, model.ctc_head = fresh.speech_encoder, fresh.ctc_head
    else:
        model.text_model = fresh.text_model
    return model


def _record_targets(model: Any, objectives: ObjectiveSet, rows: Any) -> None:
    """Which languages the model has been taught to translate into, in its configuration: now, and before."""
    if any(target is Target.TRANSLATION for _, target in objectives.reads.pairs):
        taught = {*(model.config.translation_targets or ()), *rows.unique("target_language")} - {None}
        model.config.translation_targets = sorted(taught)


def set_dropout(model: Any, text: float | None, adapter: float | None) -> None:
    """Dropout of the text model and of the adapter, in configuration and modules alike; None: as it is.

    The modules took it from the configuration when they were built. What transformers' attention modules call
    ``dropout`` is the attention's own (``attention_dropout``), which stays.
    """
    if text is not None:
        model.config.text_config.dropout = text
        for module in model.text_model.modules():
            if isinstance(module, PreTrainedModel):
                module.config.dropout = text
            if isinstance(module, (PreTrainedModel, GradientCheckpointingLayer)) and hasattr(module, "dropout"):
                setattr(module, "dropout", text)  # noqa: B010
    if adapter is not None:
        model.config.adapter_dropout = adapter
        for module in model.adapter.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = adapter


def _compose(
    configuration: TrainConfiguration, parts: ComposeConfiguration, speech: str, text: str
) -> tuple[Any, ComSLProcessor]:
    set_seed(configuration.seed)
    asked = parts.ctc_vocabulary, configuration.data.train
    pieces = parts.ctc_units == "pieces"
    return compose(
        speech,
        text,
        new_languages=parts.new_languages,
        languages=parts.languages,
        ctc_vocabulary=None if pieces else ctc_symbols(*asked),
        ctc_texts=ctc_texts(str(parts.ctc_vocabulary), configuration.data.train) if pieces else None,
        adapter=parts.adapter,
        adapter_strides=parts.adapter_strides,
        fixed_duration=parts.fixed_duration,
        dtype=torch.float32,
        seed=configuration.seed,  # the adapter starts at random
    )


def add_lora_as_asked(configuration: TrainConfiguration, model: Any) -> None:
    """The same matrices on every rank and in every start of a run."""
    lora = configuration.lora
    if lora is not None:
        add_lora(model, lora.parts, lora.layers, lora.rank, lora.alpha, lora.dropout, configuration.seed)


# ------------------------------------------------------------------------------------------------------ the outcome


def _note_left_out(run: RunDirectory, dataset: Any) -> None:
    ids = dataset.left_out
    if ids:
        run.note(left_out=ids)
        first = f"{', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''}"
        counted = f"{len(ids)} of {len(ids) + len(dataset)} training rows, longer than the model reads"
        console.print(f"left out: {counted} ({first}; all in {run.path / RECORD})", soft_wrap=True, markup=False)


def _finish(run: RunDirectory, trainer: JointTrainer, configuration: TrainConfiguration) -> None:
    """The best checkpoint, or the average of several, becomes the model of the run directory."""
    progress, folder = trainer.progress, trainer.checkpoints
    steps = final_steps(progress.best_steps(configuration.training.average_last), folder, configuration)
    paths = [checkpoint.path for checkpoint in folder.complete() if checkpoint.step in steps]

    def build(target: Path) -> None:
        if len(paths) == 1:
            copy_model_files(paths[0], target)
        else:
            average_checkpoints(paths, target)

    result = {
        "steps": max(checkpoint.step for checkpoint in folder.complete()),
        "metric": trainer.metric if progress.scores else None,
        "best": progress.best_score,
        "best_step": progress.best_step,
        "stopped_early": progress.stopped,
        "averaged": steps,
    }
    run.finish(build, result)
    made_of = f"checkpoint of step {steps[0]}" if len(steps) == 1 else f"average of the checkpoints of steps {steps}"
    scored = f", best {result['metric']} {result['best']:.4g} at step {result['best_step']}" if progress.scores else ""
    console.print(f"{run.path}: finished{scored}; the model is the {made_of}", soft_wrap=True, markup=False)


def final_steps(best: Sequence[int], folder: CheckpointFolder, configuration: TrainConfiguration) -> list[int]:
    """Steps of the checkpoints that make the final model."""
    training = configuration.training
    steps = [checkpoint.step for checkpoint in folder.complete()]
    if training.average_last == 1 or training.average_by == "best":
        return sorted(set(best) & set(steps)) or steps[-1:]
    # The best one may be kept beside the last ones without being one of them.
    return steps[-training.average_last :]


def _result(run: RunDirectory, already_finished: bool = False) -> TrainResult:
    return TrainResult(output_dir=run.path, already_finished=already_finished, **run.record["result"])


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
