"""Every recipe that is kept here is one that can be read, and says what it means to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate import DistributedType
from accelerate.commands.config.config_args import load_config_from_file

from benchmarks.models import mbart_config, nllb_config, whisper_config
from comsl.arguments import parse
from comsl.commands.train import overrides_of
from comsl.model.configuration import ComSLConfig
from comsl.model.modeling import ComSLForConditionalGeneration
from comsl.objectives import ObjectiveSet
from comsl.study.plan import load_study
from comsl.training.configuration import TrainConfiguration, load_configuration
from comsl.workflow.markers import outputs_of
from comsl.workflow.plan import load_plan

REPOSITORY = Path(__file__).parents[2]
OTHERS = ("run.yaml", "study.yaml", "fsdp.yaml")
"""Of `comsl run`, `comsl study` and accelerate."""
KEPT = [*REPOSITORY.glob("recipes/*/*.yaml"), *REPOSITORY.glob("comsl/demo/recipes/*.yaml")]
COVOST2 = REPOSITORY / "recipes" / "covost2"
OVERLAYS = [COVOST2 / f"{name}.yaml" for name in ("4-pseudo", "cascade", "large", "large-v3-nllb")]
"""Which say what is otherwise than in stage 3."""
RECIPES = sorted(path for path in KEPT if path.name not in OTHERS and path not in OVERLAYS)


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
    assert {"recipes/covost2", "recipes/mboshi", "comsl/demo/recipes"} <= folders


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_recipe_is_valid(path: Path) -> None:
    assert ObjectiveSet(read(path).objectives).active


def needed(folder: Path) -> list[str]:
    """A value for everything that a workflow needs."""
    needs = yaml.safe_load((folder / "run.yaml").read_text(encoding="utf-8")).get("needs") or {}
    return [f"{name}=somewhere" for name in needs]


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("recipes/*/run.yaml")), ids=lambda path: path.parent.name)
def test_a_workflow_is_valid(path: Path) -> None:
    """Its words are words of the commands, its overrides keys of the recipes, its page an output of a step."""
    plan = load_plan(path.parent, needed(path.parent))
    assert plan.page is not None
    assert {str(plan.page), str(plan.page.parent)} & {*outputs_of(plan.steps[-1]), *outputs_of(plan.steps[-2])}
    for step in plan.steps:
        if step.words[0] == "train":
            arguments = parse(list(step.words))
            assert ObjectiveSet(load_configuration(arguments.recipe, overrides_of(arguments)).objectives).active


RUNS = {
    "multi30k-speech": 9 + 4 + 3 * (3 + 1) + 3 + 3 + 1 + 1,  # of one seed, of three; cascades, modes, bounds
    "mboshi": 3 * 2,  # without a memory and with one
    "mboshi-folds": 2,
}
"""Of a study: how many are evaluated on each of its tests."""


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("recipes/*/study.yaml")), ids=lambda path: path.parent.name)
def test_a_study_is_about_the_arms_of_its_workflow(path: Path) -> None:
    steps = load_plan(path.parent, needed(path.parent)).steps
    written = {Path(output).parts[-3] for step in steps if step.words[0] == "evaluate" for output in outputs_of(step)}
    study = load_study(path)
    assert {arm.arm for arm in study.arms} <= written
    tests = [*study.tests, *study.beside]
    evaluations = [output for step in steps for output in outputs_of(step) if Path(output).name in tests]
    assert len(evaluations) == len(tests) * RUNS[path.parent.name]


@pytest.mark.parametrize(
    ("size", "batch", "rates", "layer", "rank"),
    [
        (None, (120, 2), (2e-5, 1e-5, 2e-5), 4, None),
        ("large", (60, 4), (2e-5, 1e-5, 2e-5), 4, None),
        ("large-v3-nllb", (60, 4), (2e-4, 2e-4, 2e-4), 8, 32),  # LoRA's matrices start at zero in every stage
    ],
)
def test_sizes_of_the_workflow(
    size: str | None, batch: tuple[int, int], rates: tuple[float, ...], layer: int, rank: int | None
) -> None:
    launcher = COVOST2 / "fsdp.yaml"
    settings = ["covost=a", "common_voice=b", f"launch={launcher}", *([f"size={COVOST2 / size}.yaml"] if size else [])]
    steps = {step.name: step for step in load_plan(COVOST2, settings).steps}
    for name, rate in zip(("joint", "again", "cascade"), rates, strict=True):
        assert steps[name].accelerate == str(launcher)
        arguments = parse(list(steps[name].words))
        stage = load_configuration(arguments.recipe, overrides_of(arguments))
        assert (stage.data.max_batch_seconds, stage.training.gradient_accumulation_steps) == batch
        assert stage.optimizer.learning_rate == rate
        assert (stage.lora.rank if stage.lora else None) == rank
        assert stage.teacher == (None if name == "cascade" else "runs/covost2/text")  # never the text part of stage 3
        objectives = ObjectiveSet(stage.objectives).active
        assert (list(objectives) == ["asr"]) == (name == "cascade")
        assert name == "cascade" or objectives["erm"].layer == layer  # type: ignore[attr-defined]


def test_accelerate_knows_the_configuration_of_fsdp() -> None:
    kept = load_config_from_file(str(COVOST2 / "fsdp.yaml"))
    assert kept.distributed_type == DistributedType.FSDP
    assert (kept.fsdp_config["fsdp_version"], kept.fsdp_config["fsdp_state_dict_type"]) == (2, "SHARDED_STATE_DICT")


def covost2(*names: str) -> TrainConfiguration:
    return load_configuration([COVOST2 / f"{name}.yaml" for name in names], ["--output_dir", "runs/x"])


def test_the_stages_before_the_joint_one() -> None:
    text, speech = covost2("1-text"), covost2("2-speech")
    assert (text.optimizer.learning_rate, text.training.epochs, text.dropout) == (2e-5, 5, 0.3)
    assert ObjectiveSet(speech.objectives).reads.ctc
    assert speech.compose.ctc_vocabulary == "auto"  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [[], ["large"], ["large-v3-nllb"]], ids=" ".join)
def test_the_joint_stage_follows_the_paper(size: list[str]) -> None:
    joint = covost2("3-joint", *size)
    optimizer = joint.optimizer
    rates = (2e-4, 1e-6) if joint.lora else (2e-5, 1e-7)  # ours, where LoRA learns
    assert (optimizer.learning_rate, optimizer.end_learning_rate, optimizer.power) == (*rates, 2)
    assert (optimizer.schedule, optimizer.warmup_steps, optimizer.weight_decay) == ("polynomial", 5000, 0.1)
    assert (optimizer.betas, optimizer.eps) == ((0.9, 0.98), 1e-6)
    assert joint.training.epochs * joint.freeze_speech_encoder == pytest.approx(5, abs=0.01)
    # The same step at every size.
    assert joint.data.max_batch_seconds * joint.training.gradient_accumulation_steps == 240
    assert ObjectiveSet(joint.objectives).needs_teacher
    assert joint.teacher == joint.compose.text == "runs/covost2/text"  # type: ignore[union-attr]
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


def test_what_goes_on_from_the_joint_stage() -> None:
    joint, pseudo, cascade = covost2("3-joint"), covost2("3-joint", "4-pseudo"), covost2("3-joint", "cascade")
    assert pseudo.objectives == joint.objectives
    assert pseudo.teacher == joint.teacher
    assert pseudo.data.train == ["data/covost2/*_en/train.jsonl", "data/pseudo/*_en/train.jsonl"]
    assert (pseudo.model, pseudo.compose, pseudo.freeze_speech_encoder) == ("runs/covost2/joint", None, 0)
    assert list(ObjectiveSet(cascade.objectives).active) == ["asr"]
    assert (cascade.compose, cascade.freeze_speech_encoder) == (joint.compose, joint.freeze_speech_encoder)
    warmups = [stage.optimizer.warmup_steps for stage in (joint, pseudo, cascade)]
    assert (warmups, [stage.training.epochs for stage in (joint, pseudo, cascade)]) == ([5000, 500, 1500], [15, 5, 5])


# ------------------------------------------------------------------------------------------------------------- sizes


def parameters_of_whisper(width: int, mels: int) -> int:
    """Of the encoder of Whisper large: 32 layers, keys without a bias."""
    layer = 4 * width * width + 3 * width + 2 * 4 * width * width + 5 * width + 4 * width
    return 3 * mels * width + width + 3 * width * width + width + 1500 * width + 32 * layer + 2 * width


def parameters_of_transformer(layers: int, width: int, inner: int, vocabulary: int, positions: int, norms: int) -> int:
    """Encoder and decoder of so many layers each, output tied to the embedding; ``norms`` of each stack beside them."""
    attention, ffn, norm = 4 * (width * width + width), 2 * width * inner + inner + width, 2 * width
    both = layers * (attention + ffn + 2 * norm) + layers * (2 * attention + ffn + 3 * norm)
    return both + vocabulary * width + 2 * positions * width + 2 * norms * norm


@pytest.mark.parametrize(
    ("speech", "text", "speech_parameters", "text_parameters"),
    [
        # mBART has 1024 + 2 learned positions and a norm behind the embedding; NLLB computes its positions.
        ("large", mbart_config("medium"), parameters_of_whisper(1280, 80), (12, 1024, 4096, 250056, 1026, 2)),
        ("large-v3", nllb_config(), parameters_of_whisper(1280, 128), (24, 1024, 8192, 256207, 0, 1)),
    ],
    ids=["large", "large-v3-nllb"],
)
def test_large_models_have_their_published_size(
    speech: str, text: Any, speech_parameters: int, text_parameters: tuple[int, ...]
) -> None:
    config = ComSLConfig(speech_config=whisper_config(speech), text_config=text)
    with torch.device("meta"):
        model = ComSLForConditionalGeneration(config)

    def count(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert model.speech_encoder.encoder.conv1.in_channels == (128 if speech == "large-v3" else 80)
    assert count(model.speech_encoder) == speech_parameters
    assert count(model.text_model) == parameters_of_transformer(*text_parameters)
    d, e = 1280, 1024
    ffns, convolutions = 8 * d * d + 5 * d + 8 * e * e + 5 * e, 3 * d * 2 * e + 2 * e + 3 * e * 2 * e + 2 * e
    assert count(model.adapter) == ffns + convolutions + 2 * d * 2 + 2 * e * 2 - 2 * (d + e)
    assert count(model) == count(model.speech_encoder) + count(model.text_model) + count(model.adapter)
    billions = {"large": 1.3, "large-v3": 2.0}[speech]  # 1.3: ComSL-Large of the paper
    assert count(model) / 1e9 == pytest.approx(billions, abs=0.06)
