"""FSDP2 as recipes/covost2/fsdp.yaml configures it, launched for real: two processes, here on CPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from comsl.model import load_model
from comsl.training.checkpoints import CheckpointFolder
from comsl.training.run import train
from tests.tiny import tiny_mbart50
from tests.training.test_run import logged
from tests.training.world import build_world, stage

REPOSITORY = Path(__file__).parents[2]
CONFIGURATION = REPOSITORY / "recipes" / "covost2" / "fsdp.yaml"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without dropout, which differs from process to process."""
    root = build_world(tmp_path_factory.mktemp("world"))
    tiny_mbart50(root / "text", dropout=0.0)
    return root


def a_stage(world: Path, output: Path, processes: int, **changes: Any) -> Any:
    """All objectives with their teacher, half of it with the speech encoder frozen; two batches a step."""
    return stage(
        world,
        output,
        **{
            "training__max_steps": 4,
            "training__eval_steps": 2,
            "training__gradient_accumulation_steps": 2 // processes,
            "freeze_speech_encoder": 0.5,
            **changes,
        },
    )


def launch(recipe: Path, output: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    words = ["--config_file", str(CONFIGURATION), "--num_processes", "2", "--main_process_port", "0"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *words, "-m", "tests.training.fsdp_on_cpus"]
    return subprocess.run(
        [*command, "train", str(recipe), "--output_dir", str(output)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 8.0}], ids=["whole", "lora"])
def test_two_shards_train_what_one_process_does(world: Path, tmp_path: Path, lora: Any) -> None:
    """Killed in the third of four steps and resumed from shards; the result is a plain directory."""
    one, two, recipe = tmp_path / "one", tmp_path / "two", tmp_path / "recipe.yaml"
    train(a_stage(world, one, 1, lora=lora))
    recipe.write_text(a_stage(world, two, 2, lora=lora).to_yaml())
    killed = launch(recipe, two, KILL_AT="3")
    assert killed.returncode != 0
    latest = CheckpointFolder(two).latest()
    assert latest is not None, killed.stderr
    assert latest.step == 2
    shards = {path.name for path in (latest.path / "optimizer_0").glob("*.distcp")}
    assert shards == {"__0_0.distcp", "__1_0.distcp"}
    assert (latest.path / "trained.pt").exists() == (lora is not None)
    done = launch(recipe, two)
    assert done.returncode == 0, done.stderr
    for ours, theirs in zip(logged(two), logged(one), strict=True):
        assert ours.pop("kind") == theirs.pop("kind")
        assert ours == pytest.approx(theirs, abs=1e-4)
    load_model(two)
    kinds = {path.suffix for path in two.iterdir() if path.is_file()}
    assert kinds == {".json", ".safetensors", ".yaml", ".png", ".jsonl"}
    ours, theirs = load_file(two / "model.safetensors"), load_file(one / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], atol=2e-4, rtol=1e-3)
