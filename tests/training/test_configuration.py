"""Recipes: what they mean, and what is said about those that make no sense."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from comsl.errors import UsageError
from comsl.training.configuration import TrainConfiguration, configuration_from, load_configuration
from comsl.training.settings_help import describe

RECIPE = """
seed: 3
compose: {speech: openai/whisper-medium, text: facebook/mbart-large-50-many-to-many-mmt, new_languages: {cy: en}}
objectives:
  asr: {weight: 0.35}
  st: null
data:
  train: train.jsonl
  augment: {speed: [0.9, 1.0, 1.1]}
optimizer: {learning_rate: 2e-4}
training: {precision: no}
output_dir: runs/x
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def test_a_recipe_and_its_overrides(recipe: Path) -> None:
    words = ["--optimizer.learning_rate", "3e-4", "--training.max_steps=5", "--objectives.st.weight", "0.4"]
    configuration = load_configuration(recipe, [*words, "--data.dev", "[a.jsonl, b.jsonl]", "--output_dir", "runs/y"])
    assert configuration.seed == 3
    assert configuration.optimizer.learning_rate == 3e-4
    assert configuration.training.max_steps == 5
    assert configuration.training.precision == "no"  # not the boolean that YAML 1.1 reads there
    assert configuration.objectives == {"asr": {"weight": 0.35}, "st": {"weight": 0.4}}
    assert configuration.data.dev == ["a.jsonl", "b.jsonl"]
    assert configuration.data.augment.speed == (0.9, 1.0, 1.1)
    assert configuration.compose is not None
    assert configuration.compose.new_languages == {"cy": "en"}
    assert configuration.output_dir == "runs/y"


def test_a_later_recipe_changes_an_earlier_one_key_by_key(recipe: Path, tmp_path: Path) -> None:
    arm = tmp_path / "arm.yaml"
    arm.write_text("objectives: {asr: null, st: {weight: 1.0}}\ndata: {dev: dev.jsonl}\nreinitialize: speech\n")
    configuration = load_configuration([recipe, arm], ["--seed", "4"])
    assert configuration.objectives == {"asr": None, "st": {"weight": 1.0}}
    assert (configuration.data.train, configuration.data.dev) == ("train.jsonl", "dev.jsonl")
    assert configuration.optimizer.learning_rate == 2e-4
    assert (configuration.seed, configuration.reinitialize) == (4, "speech")
    arm.write_text("optimiser: {}")
    with pytest.raises(UsageError, match=r"arm\.yaml: unknown key `optimiser`"):
        load_configuration([recipe, arm])
    arm.write_text("reinitialize: adapter")
    with pytest.raises(UsageError, match=r"recipe\.yaml \+ .*arm\.yaml: reinitialize"):
        load_configuration([recipe, arm])


def test_the_defaults_are_those_of_the_paper() -> None:
    optimizer = TrainConfiguration().optimizer
    assert (optimizer.learning_rate, optimizer.end_learning_rate, optimizer.power) == (2e-5, 1e-7, 2)
    assert (optimizer.warmup_steps, optimizer.weight_decay, optimizer.eps) == (
        None,
        0.1,
        1e-6,
    )
    assert optimizer.betas == (0.9, 0.98)
    assert optimizer.schedule == "polynomial"


def test_the_saved_configuration_is_the_configuration(recipe: Path) -> None:
    configuration = load_configuration(recipe)
    assert configuration_from(yaml.safe_load(configuration.to_yaml())) == configuration
    recipe.write_text(configuration.to_yaml())
    assert load_configuration(recipe) == configuration


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--optimizer.lerning_rate", "1"],
            r"unknown key `optimizer.lerning_rate`; did you mean `optimizer.learning_rate`",
        ),
        (["--learning_rate", "1"], "unknown key `learning_rate`; did you mean `optimizer.learning_rate`"),
        (["--zzz", "1"], "unknown key `zzz`; known here: output_dir, seed"),
        (["--compose.spech", "x"], "did you mean `compose.speech`"),
        (["--data.augment.spead", "[1.0]"], "did you mean `data.augment.speed`"),
        (["--optimizer.learning_rate", "fast"], "optimizer.learning_rate: expected a value of type float, got fast"),
        (["--optimizer.schedule", "poly"], "optimizer.schedule: expected one of 'polynomial', 'linear'"),
        (["--seed", "1.5"], "seed: expected a value of type int, got 1.5"),
        (["--optimizer", "3"], "optimizer: a group of settings is expected, got 3"),
        (["--training", "null"], "training: a group of settings is expected, it is empty"),
        (["--training.max_steps", "0"], "training.max_steps: must be at least 1, got 0"),
        (["--freeze_speech_encoder", "1.5"], "freeze_speech_encoder: must be between 0 and 1, got 1.5"),
        (["--optimizer.end_learning_rate", "1"], "optimizer.end_learning_rate: must be at least 0 and below"),
        (["--data.augment.speed", "[9]"], "augment.speed: must be factors between"),
        (["--model", "m"], "either `model` .* or `compose`"),
        (["--compose", "null"], "either `model` .* or `compose`"),
        (["--compose.text", "null"], "compose.text: missing"),
        (["--compose.adapter", "ctc"], "compose.adapter: ctc reads pieces of text: set compose.ctc_units to pieces"),
        (["--compose.ctc_units", "pieces"], "compose.ctc_vocabulary: pieces are taken from texts; say auto"),
        (["--objectives", "{st: null}"], "objectives: none is switched on"),
        (["--data.train", "null"], "data.train: missing"),
        (["--output_dir", ""], "output_dir: missing"),
        (["--training.early_stopping_patience", "2"], "early_stopping_patience: needs a development set"),
        (
            ["--training.average_last", "5", "--training.average_by", "best"],
            "training.average_by: without a development set .* average the last ones",
        ),
        (["--seed"], "--seed: a value is missing"),
        (["--seed", "--model"], "--seed: a value is missing"),
        (["seed", "1"], "'seed': expected an override such as"),
        (["--data.temperature", "[1"], "--data.temperature: .* is not a YAML value"),
    ],
)
def test_wrong_settings_are_named(recipe: Path, words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_configuration(recipe, words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\nb: 2", "recipe.yaml, line 2: malformed YAML"),
        ("seed: 1\noptimizer:\n\t- x", "recipe.yaml, line 3: malformed YAML"),
        ("seed: 1\nmodel: x\nseed: 2", "recipe.yaml, line 3: malformed YAML: key 'seed' is given twice"),
        ("- 1", "a recipe is a mapping of keys to values, this file holds list"),
        ("", "a recipe is a mapping"),
        ("sede: 1", "recipe.yaml: unknown key `sede`; did you mean `seed`"),
    ],
)
def test_malformed_recipes_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_configuration(path)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none.yaml: cannot read this recipe: No such file"):
        load_configuration(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="binary.yaml: not a text file"):
        load_configuration(tmp_path / "binary.yaml")


def test_every_setting_is_described() -> None:
    text = describe()
    for key in ("--seed", "--compose.speech", "--data.augment.speed", "--optimizer.betas", "--training.average_by"):
        assert f"  {key} (default: " in text
    entries = re.findall(r"^  --(\S+) \(default: .*\)\n(      .+)?", text, re.MULTILINE)
    assert [name for name, explained in entries if not explained] == []
    assert "no | bf16 | fp16" in text
    assert "  --objectives.ddm.share (default: 0.8)" in text
