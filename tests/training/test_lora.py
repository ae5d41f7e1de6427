"""Whole stages with LoRA: what changes, what is saved, killed and resumed, the teacher, two processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from comsl.model import compose, load_model
from comsl.objectives import ObjectiveSet
from comsl.training.checkpoints import CheckpointError, CheckpointFolder
from comsl.training.configuration import ConfigurationError
from comsl.training.run import build_trainer, train
from comsl.training.trainer import JointTrainer
from tests.training.processes import in_child, kill_self, together
from tests.training.test_run import final, logged
from tests.training.world import build_world, stage

LORA = {"rank": 2, "alpha": 8.0, "dropout": 0.1}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_world(tmp_path_factory.mktemp("world"))


def lora_stage(world: Path, output: Path, **changes: Any) -> Any:
    settings = {"training__max_steps": 4, "training__eval_steps": 2, "freeze_speech_encoder": 0.5, "lora": LORA}
    return stage(world, output, **{**settings, **changes})


@pytest.fixture(scope="module")
def lora_run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "lora"
    assert train(lora_stage(world, output)).steps == 4
    return output


def test_the_finished_model_is_a_plain_one(world: Path, lora_run: Path) -> None:
    """Only linear layers of the parts and the adapter differ from what was composed; nothing of LoRA is left."""
    start, _ = compose(world / "speech", world / "text", {"cy": "en"}, seed=0)
    model, _ = load_model(lora_run)
    before, after = start.state_dict(), model.state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    layers = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
    expected = {
        name
        for name in before
        if name.startswith("adapter.") or (name.endswith(".weight") and name.split(".")[-2] in layers)
    }
    assert changed == expected
    assert not list(lora_run.glob("trained*"))
    for name in ("k_proj", "fc2"):
        layer = f"text_model.model.encoder.layers.0.{'self_attn.' if name == 'k_proj' else ''}{name}.weight"
        assert torch.linalg.matrix_rank(after[layer] - before[layer], tol=1e-5) == LORA["rank"]


def resume(world: str, output: str, kill_at: int | None) -> None:
    original = JointTrainer.training_step

    def training_step(self: JointTrainer, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == kill_at:
            kill_self()
        return original(self, *args, **kwargs)

    JointTrainer.training_step = training_step  # type: ignore[method-assign]
    train(lora_stage(Path(world), Path(output)))


def test_killed_and_resumed(world: Path, lora_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "killed"
    assert in_child(resume, str(world), str(output), 3) == -9
    latest = CheckpointFolder(output).latest()
    assert latest is not None
    assert latest.step == 2
    load_model(latest.path)  # a checkpoint is a model, here too
    assert in_child(resume, str(world), str(output), None) == 0
    assert logged(output) == logged(lora_run)
    for name, tensor in final(output).items():
        assert torch.equal(tensor, final(lora_run)[name]), name


def test_the_teacher_is_the_model_without_its_matrices(world: Path, tmp_path: Path) -> None:
    """It costs no memory, and gives the losses of a teacher of its own."""
    start, processor = compose(world / "speech", world / "text", {"cy": "en"}, seed=0)
    start.save_pretrained(tmp_path / "start")
    processor.save_pretrained(tmp_path / "start")
    shared = lora_stage(world, tmp_path / "shared", data__dev=None)
    settings = lora_stage(world, tmp_path / "own", data__dev=None, teacher=str(tmp_path / "start"))
    joint = build_trainer(shared, ObjectiveSet(shared.objectives)).joint
    theirs = {item.data_ptr() for item in joint.teacher.parameters()}
    assert theirs <= {item.data_ptr() for item in joint.model.parameters()}
    assert not any(item.requires_grad for item in joint.teacher.parameters())
    train(shared)
    train(settings)
    assert logged(tmp_path / "shared") == logged(tmp_path / "own")


def test_a_checkpoint_of_other_matrices(world: Path, lora_run: Path, tmp_path: Path) -> None:
    settings = lora_stage(world, tmp_path, lora={**LORA, "layers": ["q_proj"]})
    trainer = build_trainer(settings, ObjectiveSet(settings.objectives))
    latest = CheckpointFolder(lora_run).latest()
    assert latest is not None
    with pytest.raises(CheckpointError, match="trained.pt: a checkpoint of another model: .* differs"):
        trainer.load_checkpoint(latest.path)
    (tmp_path / "trained.pt").write_bytes(b"PK nothing")
    with pytest.raises(CheckpointError, match="trained.pt: cannot be read"):
        trainer.load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora": {"rank": 0}}, "lora.rank: must be at least 1, got 0"),
        ({"lora": {"alpha": 0}}, "lora.alpha: must be above 0"),
        ({"lora": {"parts": []}}, "lora.parts: empty"),
        ({"lora": {"parts": ["adapter"]}}, "lora"),
        ({"lora": {"ranks": 2}}, "unknown key `lora.ranks`; did you mean `lora.rank`"),
        ({"lora": {}, "reinitialize": True}, "lora: keeps weights that `reinitialize` makes random"),
    ],
)
def test_wrong_settings(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        stage(tmp_path, tmp_path, **changes)


def train_rank(rank: int, world_size: int, world: str, output: str) -> None:
    train(lora_stage(Path(world), Path(output), lora={**LORA, "dropout": 0.0}, data__max_batch_seconds=1.0))


def test_two_processes(world: Path, tmp_path: Path) -> None:
    assert together(train_rank, 2, str(world), str(tmp_path)) == [0, 0]
    start, _ = compose(world / "speech", world / "text", {"cy": "en"}, seed=0)
    tensors = load_file(tmp_path / "model.safetensors")
    assert tensors.keys() <= start.state_dict().keys()
