"""Whatever kills a run and whenever, the same command finishes it as if nothing had happened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from comsl.evaluation.curves import read_log
from comsl.training.callbacks import RunLog
from comsl.training.checkpoints import CheckpointError, CheckpointFolder
from comsl.training.trainer import JointTrainer
from tests.training import standin
from tests.training.processes import in_child, kill_self, together

RATES = ("seconds", "speech_hours_per_hour", "tokens_per_second")


class KillAtStep(TrainerCallback):
    def __init__(self, step: int, event: str) -> None:
        self.step = step
        setattr(self, event, self._kill)

    def _kill(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            kill_self()


def train(output: str, kill: tuple[str, int] | None, workers: int = 0) -> None:
    """One start of the command, killed at ``kill`` = (moment, step)."""
    settings = standin.configuration(output, data__num_workers=workers, training__early_stopping_patience=5)
    callbacks = []
    if kill is not None:
        moment, step = kill
        if moment.startswith("on_"):
            callbacks.append(KillAtStep(step, moment))
        else:
            _kill_when_saving(moment, step)
    standin.run(settings, dropout=0.3, evaluate=standin.dev_loss, callbacks=callbacks)


def _kill_when_saving(moment: str, step: int) -> None:
    owner, name, after = {
        "weights written": (JointTrainer, "save_model", True),
        "optimizer written": (JointTrainer, "_save_optimizer_and_scheduler", True),
        "before the rename": (CheckpointFolder, "commit", False),
        "after the rename": (CheckpointFolder, "commit", True),
        "while deleting old ones": (CheckpointFolder, "delete", False),
        "half a log line": (RunLog, "on_log", False),
    }[moment]
    original = getattr(owner, name)

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        now = args[1].global_step if name == "on_log" else None
        if after:
            original(self, *args, **kwargs)
        if name == "commit":
            now = args[0]
        elif name == "delete":
            now = self.complete()[-1].step
            if now == step:
                os.rename(args[0].path, self.path / ".unfinished-in-the-middle")
        elif now is None:
            now = self.state.global_step
        if now == step:
            if name == "on_log":
                with open(self.path, "a") as file:
                    file.write('{"step": 5, "lo')
            kill_self()
        return None if after else original(self, *args, **kwargs)

    setattr(owner, name, wrapped)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("uninterrupted")
    assert in_child(train, str(path), None) == 0
    return path


def records(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k not in RATES} for record in read_log(run / "train_log.jsonl")]


def check_same(run: Path, reference: Path) -> None:
    assert records(run) == records(reference)
    ours, theirs = CheckpointFolder(run), CheckpointFolder(reference)
    assert [item.step for item in ours.complete()] == [item.step for item in theirs.complete()]
    for checkpoint in ours.complete():
        other = theirs.at(checkpoint.step)
        assert other is not None
        for name, tensor in standin.weights(other.path).items():
            assert torch.equal(standin.weights(checkpoint.path)[name], tensor), name


def test_the_reference_is_a_full_run(uninterrupted: Path) -> None:
    log = records(uninterrupted)
    assert [record["step"] for record in log if record["kind"] == "train"] == [1, 2, 4, 6, 8, 10, 12]
    assert [record["step"] for record in log if record["kind"] == "dev"] == [4, 8, 12]
    assert log[-1]["dev_loss"] < log[3]["dev_loss"]


@pytest.mark.parametrize(
    "kills",
    [
        # Checkpoints are written at 3, 4 (a best one), 6, 8, 9, 12; an epoch has six steps; logs come every second.
        pytest.param([("on_step_begin", 2)], id="before the first checkpoint"),
        pytest.param([("on_step_begin", 5), ("on_step_end", 11)], id="in the middle of an epoch, twice"),
        pytest.param([("on_step_begin", 6)], id="between two epochs"),
        pytest.param([("weights written", 3), ("optimizer written", 6), ("before the rename", 9)], id="while saving"),
        pytest.param([("after the rename", 4), ("while deleting old ones", 8)], id="just after saving"),
        pytest.param([("half a log line", 6)], id="while logging"),
        pytest.param([("before the rename", 12), ("after the rename", 12)], id="at the very end"),
    ],
)
def test_killed_runs_end_as_uninterrupted_ones(
    tmp_path: Path, uninterrupted: Path, kills: list[tuple[str, int]]
) -> None:
    for kill in kills:
        assert in_child(train, str(tmp_path), kill) == -9
    assert in_child(train, str(tmp_path), None) == 0
    check_same(tmp_path, uninterrupted)
    assert not [path.name for path in (tmp_path / "checkpoints").iterdir() if path.name.startswith(".")]


def test_workers_change_nothing(tmp_path: Path, uninterrupted: Path) -> None:
    assert in_child(train, str(tmp_path), ("on_step_begin", 5), 2) == -9
    assert in_child(train, str(tmp_path), None, 2) == 0
    check_same(tmp_path, uninterrupted)


def train_together(rank: int, world_size: int, output: str, kill_at: int | None) -> None:
    settings = standin.configuration(output, training__max_steps=6, training__save_steps=2)
    callbacks = [] if kill_at is None else [KillAtStep(kill_at, "on_step_begin")]
    standin.run(settings, dropout=0.3, rank=rank, world_size=world_size, max_batch_size=2, callbacks=callbacks)


def test_two_processes_resume(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert together(train_together, 2, str(whole), None) == [0, 0]
    assert together(train_together, 2, str(killed), 3) == [-9, -9]
    assert together(train_together, 2, str(killed), None) == [0, 0]
    check_same(killed, whole)


def test_what_was_trained_on_is_not_read_again(tmp_path: Path) -> None:
    assert in_child(train, str(tmp_path), ("on_step_begin", 9)) == -9
    settings = standin.configuration(tmp_path, training__early_stopping_patience=5)
    made = standin.run(settings, dropout=0.3, evaluate=standin.dev_loss)
    # Killed after step 9 of 12: three batches of four rows are left.
    assert len(made.data.dataset.read) == 12


def test_a_checkpoint_of_another_model_is_named(tmp_path: Path) -> None:
    assert in_child(train, str(tmp_path), ("on_step_begin", 5)) == -9
    with pytest.raises(CheckpointError, match=r"step-000004: a checkpoint of another model: .*(head|norm|speech)"):
        standin.run(standin.configuration(tmp_path), width=8, evaluate=standin.dev_loss)


def test_a_checkpoint_with_a_tensor_missing_is_named(tmp_path: Path) -> None:
    """It must not be filled up with random values."""
    assert in_child(train, str(tmp_path), ("on_step_begin", 5)) == -9
    file = tmp_path / "checkpoints/step-000004/model.safetensors"
    tensors = load_file(file)
    del tensors["norm.bias"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(
        CheckpointError, match=r"step-000004: 1 weights are missing .*: norm.bias; .*another output_dir"
    ):
        standin.run(standin.configuration(tmp_path), evaluate=standin.dev_loss)


def fail_writing(owner: Any, name: str, error: Exception, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    original = getattr(owner, name)

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == step:
            Path(args[0]).joinpath("half").write_text("half a file")
            raise error
        return original(self, *args, **kwargs)

    monkeypatch.setattr(owner, name, wrapped)


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("_save_optimizer_and_scheduler", OSError(28, "No space left on device")),
        ("_save_rng_state", RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")),
    ],
)
def test_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, error: Exception) -> None:
    with monkeypatch.context() as patch:
        fail_writing(JointTrainer, method, error, patch, step=6)
        with pytest.raises(CheckpointError) as caught:
            standin.run(standin.configuration(tmp_path))
    message = str(caught.value)
    assert "cannot write the checkpoint of step 6" in message
    assert "step 3 is intact" in message
    assert str(error.args[-1]) in message
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000003"]
    made = standin.run(standin.configuration(tmp_path))
    assert made.state.global_step == 12


def test_disk_really_full(tmp_path: Path) -> None:
    """/dev/full refuses every byte, as a full disk does."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    folder = CheckpointFolder(tmp_path)
    made = standin.trainer(standin.configuration(tmp_path))
    original = folder.begin

    def begin(step: int) -> Path:
        path = original(step)
        (path / "optimizer.pt").symlink_to("/dev/full")
        return path

    made.checkpoints.begin = begin  # type: ignore[method-assign]
    with pytest.raises(CheckpointError, match="cannot write the checkpoint of step 3"):
        made.train()
    assert folder.complete() == []


def test_an_unfinished_checkpoint_is_never_chosen(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    (folder.begin(7) / "trainer_state.json").write_text("{}")
    assert folder.complete() == []
    folder.clean()
    assert list(folder.path.iterdir()) == []


SCORES = {2: 3.0, 4: 1.0, 6: 2.0, 8: 2.5, 10: 0.5, 12: 0.4}


def train_until_it_gets_worse(output: str, kill: tuple[str, int] | None) -> None:
    settings = standin.configuration(
        output, training__eval_steps=2, training__save_steps=3, training__early_stopping_patience=2
    )
    callbacks = []
    if kill is not None and kill[0].startswith("on_"):
        callbacks.append(KillAtStep(kill[1], kill[0]))
    elif kill is not None:
        _kill_when_saving(*kill)
    standin.run(
        settings, evaluate=lambda made: {"loss": SCORES[made.state.global_step]}, callbacks=callbacks, dropout=0.3
    )


def test_early_stopping_survives_kills(tmp_path: Path) -> None:
    """The evaluations before a kill count, and a run that had stopped stays where it stopped."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert in_child(train_until_it_gets_worse, str(whole), None) == 0
    for kill in (("on_step_begin", 7), ("after the rename", 8)):
        assert in_child(train_until_it_gets_worse, str(killed), kill) == -9
    assert in_child(train_until_it_gets_worse, str(killed), None) == 0
    kept = {item.step: item.resumable for item in CheckpointFolder(killed).complete()}
    assert kept == {4: False, 8: True}  # the best one; two evaluations later the end
    assert [record["dev_loss"] for record in records(killed) if record["kind"] == "dev"] == [3.0, 1.0, 2.0, 2.5]
    check_same(killed, whole)


def train_accumulating(output: str, kill: tuple[str, int] | None) -> None:
    settings = standin.configuration(output, training__gradient_accumulation_steps=2, training__max_steps=8)
    callbacks = [] if kill is None else [KillAtStep(kill[1], kill[0])]
    standin.run(settings, dropout=0.3, callbacks=callbacks)


def test_resuming_with_accumulation(tmp_path: Path) -> None:
    """An epoch has three steps of two batches; killed in the middle of a step and of an epoch."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert in_child(train_accumulating, str(whole), None) == 0
    assert in_child(train_accumulating, str(killed), ("on_substep_end", 4)) == -9
    assert in_child(train_accumulating, str(killed), ("on_step_begin", 7)) == -9
    assert in_child(train_accumulating, str(killed), None) == 0
    assert records(whole)[-1]["step"] == 8
    check_same(killed, whole)
