"""Every recipe that is kept here is one that can be read, and says what it means to."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from comsl.objectives import ObjectiveSet
from comsl.training.configuration import TrainConfiguration, load_configuration

REPOSITORY = Path(__file__).parents[2]
OTHERS = ("run.yaml", "fsdp.yaml")
"""Of `comsl run` and of accelerate."""
KEPT = [*REPOSITORY.glob("recipes/*/*.yaml"), *REPOSITORY.glob("comsl/demo/recipes/*.yaml")]
RECIPES = sorted(path for path in KEPT if path.name not in OTHERS)


def read(path: Path) -> TrainConfiguration:
    """With what is left to the command line."""
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    words = ["--output_dir", "runs/x"]
    if "model" not in given and "compose" not in given:
        words += ["--model", "parts"]
    if "train" not in given["data"]:
        words += ["--data.train", "train.jsonl"]
    return load_configuration(path, words)


def test_recipes_are_found() -> None:
    folders = {path.parent.relative_to(REPOSITORY).as_posix() for path in RECIPES}
    assert {"recipes/medium", "recipes/mboshi", "comsl/demo/recipes"} <= folders


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_recipe_is_valid(path: Path) -> None:
    assert ObjectiveSet(read(path).objectives).active


def test_the_reference_pair_follows_the_paper() -> None:
    text, speech, joint = (
        read(REPOSITORY / f"recipes/medium/{name}.yaml") for name in ("1-text", "2-speech", "3-joint")
    )
    assert (text.optimizer.learning_rate, text.training.epochs, text.dropout) == (2e-5, 5, 0.3)
    assert speech.optimizer.learning_rate == 5e-8
    optimizer = joint.optimizer
    assert (optimizer.learning_rate, optimizer.end_learning_rate, optimizer.power) == (2e-5, 1e-7, 2)
    assert (optimizer.schedule, optimizer.warmup_steps, optimizer.weight_decay) == ("polynomial", 5000, 0.1)
    assert (optimizer.betas, optimizer.eps) == ((0.9, 0.98), 1e-6)
    assert joint.training.epochs * joint.freeze_speech_encoder == pytest.approx(5, abs=0.01)
    assert ObjectiveSet(joint.objectives).needs_teacher
    assert joint.teacher == joint.compose.text == "runs/medium/1-text"  # type: ignore[union-attr]
    weights = {name: settings.get("weight") for name, settings in joint.objectives.items()}
    third = pytest.approx(0.1 / 3, rel=2e-3)
    assert weights == {
        "asr": 0.35,
        "st": 0.35,
        "mt": 0.2,
        "ddm": None,
        "mtp": third,
        "stm": third,
        "erm": pytest.approx(0.1 * 0.2),
    }
