"""Optimiser, schedule, freezing, checkpoints that are kept, and what is logged."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from comsl.errors import UsageError
from comsl.evaluation.curves import read_log
from comsl.training.log_file import truncate_log
from comsl.training.progress import Progress
from comsl.training.trainer import Diverged
from tests.training import standin


def test_biases_and_norms_do_not_decay(tmp_path: Path) -> None:
    made = standin.trainer(standin.configuration(tmp_path, optimizer__weight_decay=0.1))
    optimizer = made.create_optimizer()
    names = {parameter: name for name, parameter in made.joint.named_parameters()}
    decay = {names[p]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name for name, value in decay.items() if value == 0.1} == {
        "model.speech_encoder.0.weight",
        "model.head.weight",
    }
    assert {name for name, value in decay.items() if value == 0.0} == {
        "model.speech_encoder.0.bias",
        "model.norm.weight",
        "model.norm.bias",
        "model.head.bias",
    }
    assert optimizer.defaults["betas"] == (0.9, 0.98)
    assert optimizer.defaults["eps"] == 1e-6


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # Warm-up over 2 of 12 steps to 0.02; the rate of steps 1, 2, 3, 8, 12 (the first step's is 0).
        ("linear", [0, 0.01, 0.02, 0.01, 0.002]),
        ("constant", [0, 0.01, 0.02, 0.02, 0.02]),
        ("polynomial", [0, 0.01, 0.02, 0.005, 0.0002]),
        ("inverse_sqrt", [0, 0.01, 0.02, 0.02 * (2 / 7) ** 0.5, 0.02 * (2 / 11) ** 0.5]),
        ("cosine", [0, 0.01, 0.02, 0.01, 0.02 * 0.5 * (1 + -0.9510565163)]),
    ],
)
def test_schedules(tmp_path: Path, schedule: str, expected: list[float]) -> None:
    standin.run(
        standin.configuration(
            tmp_path, optimizer__schedule=schedule, optimizer__end_learning_rate=0.0, training__logging_steps=1
        )
    )
    rates = {record["step"]: record["learning_rate"] for record in read_log(tmp_path / "train_log.jsonl")}
    assert [rates[step] for step in (1, 2, 3, 8, 12)] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("steps", "expected"), [(12, 1), (60_000, 5000)])
def test_the_warm_up_that_nobody_chose(tmp_path: Path, steps: int, expected: int) -> None:
    settings = standin.configuration(tmp_path, optimizer__warmup_steps=None, training__max_steps=steps)
    trainer = standin.trainer(settings)
    trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())
    assert trainer.args.get_warmup_steps(steps) == expected


def test_a_warm_up_longer_than_the_training_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="optimizer.warmup_steps: 12 is not less than the 12 steps"):
        standin.run(standin.configuration(tmp_path, optimizer__warmup_steps=12))


class Watch(TrainerCallback):
    """The speech encoder's weights and gradients at every step."""

    def __init__(self) -> None:
        self.weights: list[torch.Tensor] = []
        self.has_gradient: list[bool] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        parameter = model.model.speech_encoder[0].weight
        self.weights.append(parameter.detach().clone())
        self.has_gradient.append(parameter.requires_grad and parameter.grad is not None)


def test_the_speech_encoder_thaws_on_time(tmp_path: Path) -> None:
    watch = Watch()
    settings = standin.configuration(tmp_path, freeze_speech_encoder=0.33, optimizer__warmup_steps=1)
    standin.run(settings, callbacks=[watch])
    # A third of twelve steps, rounded down: three.
    assert watch.has_gradient == [False] * 3 + [True] * 9
    changed = [not torch.equal(before, after) for before, after in itertools.pairwise(watch.weights)]
    assert changed == [False] * 3 + [True] * 8


class Stop(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def test_a_resumed_run_thaws_on_time(tmp_path: Path) -> None:
    whole = Watch()
    standin.run(standin.configuration(tmp_path / "whole", freeze_speech_encoder=0.5), callbacks=[whole])
    parts = []
    settings = standin.configuration(tmp_path / "parts", freeze_speech_encoder=0.5)
    for stop_at in (3, 9, 99):
        watch = Watch()
        with contextlib.suppress(KeyboardInterrupt):
            standin.run(settings, callbacks=[Stop(stop_at), watch])
        parts.append(watch)
    assert [flag for watch in parts for flag in watch.has_gradient] == [False] * 6 + [True] * 6
    last = standin.weights(tmp_path / "parts/checkpoints/step-000012")
    for name, tensor in standin.weights(tmp_path / "whole/checkpoints/step-000012").items():
        assert torch.equal(last[name], tensor), name


def test_which_checkpoints_are_kept(tmp_path: Path) -> None:
    scores = {2: 5.0, 4: 1.0, 6: 3.0, 8: 2.0, 10: 4.0, 12: 6.0}
    base = {"training__eval_steps": 2, "training__save_steps": 2, "training__average_last": 3}

    def kept(name: str, **changes: Any) -> list[int]:
        settings = standin.configuration(tmp_path / name, **base, **changes)
        made = standin.run(settings, evaluate=lambda trainer: {"loss": scores[trainer.state.global_step]})
        return [checkpoint.step for checkpoint in made.checkpoints.complete()]

    assert kept("last") == [4, 8, 10, 12]
    assert kept("best", training__average_by="best") == [4, 6, 8, 12]


def test_a_new_best_is_saved_between_two_regular_checkpoints(tmp_path: Path) -> None:
    settings = standin.configuration(tmp_path, training__eval_steps=5, training__save_steps=12)
    made = standin.run(settings, evaluate=lambda trainer: {"loss": float(trainer.state.global_step)})
    assert [checkpoint.step for checkpoint in made.checkpoints.complete()] == [5, 12]
    assert made.progress.best_step == 5


def test_equal_scores_are_told_apart_by_the_loss() -> None:
    progress = Progress(more_is_better=True)
    for step, (bleu, loss) in enumerate([(0.0, 5.0), (0.0, 4.0), (0.0, 4.5), (float("nan"), 1.0)]):
        progress.add_score(step, bleu, loss)
    assert progress.best_steps(3) == [1, 2, 0]
    assert progress.without_improvement == 2


def test_divergence_is_an_error(tmp_path: Path) -> None:
    class Poison(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            if state.global_step == 3:
                model.model.head.weight.data.fill_(float("nan"))

    with pytest.raises(Diverged, match="the loss is nan at step 4"):
        standin.run(standin.configuration(tmp_path), callbacks=[Poison()])


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_divergence_between_two_log_lines_costs_no_checkpoint(tmp_path: Path, what: str) -> None:
    """Weights that are not numbers must not take the place of the last good ones."""

    class Poison(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            if what == "loss" and state.global_step == 4:
                model.model.head.weight.data[0, 0] = float("inf")

    settings = standin.configuration(tmp_path, training__save_steps=2, training__logging_steps=100, data__dev=None)
    made = standin.trainer(settings, callbacks=[Poison()])
    if what == "gradient":  # of the step before the checkpoint: its loss is still a number
        made.joint.model.head.weight.register_hook(
            lambda gradient: gradient * float("nan") if made.state.global_step == 5 else gradient
        )
    with pytest.raises(Diverged, match=rf"the {what}.* is nan at step 6: .*step 4 is the last good one; lower"):
        made.fit()
    assert [(item.step, item.resumable) for item in made.checkpoints.complete()] == [(4, True)]
    last = standin.weights(tmp_path / "checkpoints/step-000004")
    assert all(torch.isfinite(tensor).all() for tensor in last.values())


def test_what_is_logged(tmp_path: Path) -> None:
    standin.run(standin.configuration(tmp_path), evaluate=standin.dev_loss, curves=True)
    records = read_log(tmp_path / "train_log.jsonl")
    train = next(record for record in records if record["kind"] == "train")
    assert train.keys() == {
        "step", "epoch", "kind", "loss", "grad_norm", "learning_rate", "st", "st_count", "erm", "erm_count",
        "seconds", "speech_hours_per_hour", "tokens_per_second",
    }  # fmt: skip
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_truncating_a_log(tmp_path: Path) -> None:
    log = tmp_path / "train_log.jsonl"
    log.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    truncate_log(log, 2)
    assert log.read_text() == '{"step": 1}\n{"step": 2}\n'
