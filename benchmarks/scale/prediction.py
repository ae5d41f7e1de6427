"""What 8 GPUs would need for CoVoST 2: predicted from counted operations, stated data and stated assumptions.

Nothing here is measured. ``Assumptions`` has every number that is not counted, with where it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from benchmarks.flops import Lengths, step_flops
from benchmarks.models import mbart_config, whisper_config
from comsl.data.corpora.covost2.published import published_size
from comsl.data.corpora.covost2.splits import DIRECTIONS
from comsl.model.configuration import ComSLConfig
from comsl.model.modeling import ComSLForConditionalGeneration
from comsl.objectives import ObjectiveSet

OBJECTIVES = dict.fromkeys(("asr", "st", "mt", "ddm", "mtp", "stm", "erm"), True)

TRAIN = [published_size(source, target, "train") for source, target in DIRECTIONS["xx-en"]]


@dataclass(frozen=True)
class Assumptions:
    gpus: int = 8
    utterances: int = sum(size.rows for size in TRAIN)
    """Training rows of the 21 languages into English, as published: 652,586."""
    seconds: float = 3600 * sum(size.hours for size in TRAIN) / sum(size.rows for size in TRAIN)
    """Of a clip on average, from the published hours of the same: 4.74."""
    tokens: int = 16
    """Of each text, language and end included; that of the benchmarks here."""
    epochs: int = 15
    frozen_epochs: int = 5
    """With the speech encoder frozen, as in the paper."""
    batch_seconds: float = 120.0
    accumulation: int = 2
    """Per GPU, both from recipes/covost2/3-joint.yaml."""
    checkpointing: bool = True
    """Gradient checkpointing, from the same recipe: the layers' forward pass is computed once more."""
    peak: float = 989e12
    """Dense bfloat16 operations a second of an H100 SXM, by its data sheet."""
    utilisation: float = 0.3
    """Share of the peak that useful operations reach. A careful guess: the KempnerForge benchmarks report 54% for a
    dense 7B model on 4 H200 in one machine, in rows of 4096 positions; ours are narrower and shorter."""
    padding: float = 1.1
    """Computed over useful positions."""
    bandwidth: float = 300e9
    """Bytes a second that an all-reduce moves per GPU within one machine; the data sheet has 450e9 a direction."""
    memory_bandwidth: float = 3.35e12
    """Bytes a second of the GPU's memory, by its data sheet, for the optimizer."""


def medium() -> ComSLConfig:
    return ComSLConfig(speech_config=whisper_config("medium"), text_config=mbart_config("medium"))


def predict(
    given: Assumptions, config: ComSLConfig | None = None, objectives: Mapping[str, Any] = OBJECTIVES
) -> dict[str, Any]:
    """Seconds by kind of work, hours of the whole training, and the utterances a second that a GPU takes.

    Args:
        config: of the model, by default Medium.
        objectives: as a recipe has them.
    """
    config = config or medium()
    full, frozen = (_operations(config, given, objectives, frozen_speech) for frozen_speech in (False, True))
    thawed_epochs = given.epochs - given.frozen_epochs
    arithmetic = given.utterances * (given.frozen_epochs * frozen + thawed_epochs * full)
    rate = given.peak * given.utilisation
    per_step = given.gpus * given.accumulation * given.batch_seconds / given.seconds / given.padding
    steps_per_epoch = given.utterances / per_step
    trained, speech = _parameters(config)
    both = [(given.frozen_epochs, trained - speech), (thawed_epochs, trained)]
    all_reduce = sum(epochs * _all_reduce(parameters, given) for epochs, parameters in both) * steps_per_epoch
    # AdamW reads weight, gradient and two averages, and writes all but the gradient: seven float32 numbers.
    optimizer = sum(epochs * parameters * 7 * 4 / given.memory_bandwidth for epochs, parameters in both)
    seconds = {
        "arithmetic": arithmetic * given.padding / rate / given.gpus,
        "all-reduce, not overlapped": all_reduce,
        "optimizer": optimizer * steps_per_epoch,
    }
    return {
        "assumptions": asdict(given),
        "TFLOP an utterance": {"all trained": full / 1e12, "speech encoder frozen": frozen / 1e12},
        "trained parameters": trained,
        "optimizer steps": steps_per_epoch * given.epochs,
        "hours": {name: value / 3600 for name, value in seconds.items()},
        "total hours": sum(seconds.values()) / 3600,
        "utterances/s a GPU takes": {
            "all trained": rate / full / given.padding,
            "speech encoder frozen": rate / frozen / given.padding,
        },
    }


def _operations(config: ComSLConfig, given: Assumptions, objectives: Mapping[str, Any], frozen_speech: bool) -> float:
    """Of an utterance, with what checkpointing computes again: a third of forward and backward of what is trained."""
    lengths = Lengths(round(100 * given.seconds), given.tokens, given.tokens, masked=2)
    parts = step_flops(config, [lengths], ObjectiveSet(objectives), frozen_speech)
    if not given.checkpointing:
        return sum(parts.values())
    layers = ["text encoder", "decoder"] + ([] if frozen_speech else ["speech encoder"])
    return sum(parts.values()) + sum(parts[part] for part in layers) / 3


def _all_reduce(parameters: int, given: Assumptions) -> float:
    """Seconds of a ring over float32 gradients."""
    return 2 * (given.gpus - 1) / given.gpus * 4 * parameters / given.bandwidth


def _parameters(config: ComSLConfig) -> tuple[int, int]:
    """(all that is trained, what of it is the speech encoder)."""
    with torch.device("meta"):
        model = ComSLForConditionalGeneration(config)

    def trained(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)

    return trained(model), trained(model.speech_encoder)
