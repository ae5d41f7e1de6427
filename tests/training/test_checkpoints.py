"""Averaging, and what counts as a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from comsl.training.checkpoints import CheckpointError, CheckpointFolder, average_checkpoints


def write(folder: Path, **tensors: torch.Tensor) -> Path:
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(folder.name)
    (folder / "optimizer.pt").write_text("large")
    return folder


def test_the_average_is_taken_in_float64(tmp_path: Path) -> None:
    values = [1.0, 2**-24, 2**-24]  # in float32 the small ones vanish beside the 1
    folders = [
        write(tmp_path / str(i), w=torch.tensor([value]), half=torch.tensor([value]).half(), n=torch.tensor([i]))
        for i, value in enumerate(values)
    ]
    out = average_checkpoints(folders, tmp_path / "out")
    averaged = load_file(out / "model.safetensors")
    assert averaged["w"].item() == torch.tensor(sum(values) / 3).item()
    assert averaged["half"].dtype == torch.float16
    assert averaged["half"].item() == pytest.approx(1 / 3, abs=1e-3)
    assert averaged["n"].item() == 2  # not a floating point number: the last one's
    assert (out / "config.json").read_text() == "2"
    assert not (out / "optimizer.pt").exists()


def test_one_checkpoint_averages_to_itself(tmp_path: Path) -> None:
    tensor = torch.randn(100)
    out = average_checkpoints([write(tmp_path / "a", w=tensor)], tmp_path / "out")
    assert torch.equal(load_file(out / "model.safetensors")["w"], tensor)


def test_sharded_weights(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", a=torch.tensor([1.0]), b=torch.tensor([2.0]))
    parts = tmp_path / "parts"
    parts.mkdir()
    save_file({"a": torch.tensor([3.0])}, parts / "model-1.safetensors")
    save_file({"b": torch.tensor([6.0])}, parts / "model-2.safetensors")
    index = '{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
    (parts / "model.safetensors.index.json").write_text(index)
    averaged = load_file(average_checkpoints([whole, parts], tmp_path / "out") / "model.safetensors")
    assert averaged["a"].item() == 2.0
    assert averaged["b"].item() == 4.0
    assert not (tmp_path / "out" / "model.safetensors.index.json").exists()


def test_what_cannot_be_averaged_is_named(tmp_path: Path) -> None:
    first = write(tmp_path / "a", w=torch.zeros(2))
    with pytest.raises(CheckpointError, match="nothing to average"):
        average_checkpoints([], tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"none: no model weights"):
        average_checkpoints([first, tmp_path / "none"], tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"b: not a checkpoint of the same model as .*a: v differs"):
        average_checkpoints([first, write(tmp_path / "b", v=torch.zeros(2))], tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"c.*: w has shape \[3\], elsewhere \[2\]"):
        average_checkpoints([first, write(tmp_path / "c", w=torch.zeros(3))], tmp_path / "out")
    broken = write(tmp_path / "d", w=torch.zeros(2))
    (broken / "model.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match="d: damaged model weights"):
        average_checkpoints([broken], tmp_path / "out")


def make(folder: CheckpointFolder, step: int) -> None:
    path = folder.begin(step)
    (path / "trainer_state.json").write_text("{}")
    (path / "optimizer.pt").write_text("state")
    folder.commit(step)


def test_only_complete_checkpoints_count(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    assert folder.latest() is None
    for step in (5, 1_000_000, 20):
        make(folder, step)
    folder.begin(2_000_000)
    (folder.path / "step-3000000").mkdir()  # no state in it
    (folder.path / "notes").mkdir()
    assert [item.step for item in folder.complete()] == [5, 20, 1_000_000]
    latest = folder.latest()
    assert latest is not None
    assert latest.step == 1_000_000
    folder.keep({5, 1_000_000})
    assert [(item.step, item.resumable) for item in folder.complete()] == [(5, False), (1_000_000, True)]
