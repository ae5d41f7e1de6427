"""What the stages of recipes/covost2 would cost on GPUs: each recipe's own settings through ``prediction``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.models import mbart_config, nllb_config, whisper_config
from benchmarks.scale.prediction import Assumptions, predict
from comsl.model.configuration import ComSLConfig
from comsl.training.configuration import load_configuration

FOLDER = Path(__file__).parents[2] / "recipes" / "covost2"
DOLLARS = 2.5
"""Of an hour of one H100: an assumption, to be replaced by what yours costs."""
CAREFUL = 0.15
"""A second, lower share of the peak, for a range."""
CTC_SYMBOLS = 5000
"""Characters of 21 languages, Chinese and Japanese among them: a guess."""

CHARACTERS = 60
"""Of the longer of transcript and translation: a guess."""

SIZES = {
    "1-text": "medium",
    "2-speech": "medium",
    "3-joint": "medium",
    "3-joint 4-pseudo": "medium",
    "3-joint cascade": "medium",
    "3-joint large": "large",
    "3-joint large-v3-nllb": "large-v3",
}
"""Recipes of a training, in order -> size of the speech part."""


def stages(given: Assumptions) -> list[dict[str, Any]]:
    """A row a recipe: hours on ``given.gpus`` GPUs at two shares of their peak, GPU hours and dollars.

    Everything is counted as if it were trained: with LoRA, which sends gradients through frozen layers but makes none
    for them, the arithmetic of large-v3-nllb is up to a third less. 4-pseudo is counted over CoVoST's own rows alone.
    """
    return [_row(name, size, given) for name, size in SIZES.items()]


def _row(name: str, size: str, given: Assumptions) -> dict[str, Any]:
    recipe = load_configuration([FOLDER / f"{part}.yaml" for part in name.split()], ["--output_dir", "runs/x"])
    batch = recipe.data.max_batch_seconds
    if set(recipe.objectives) == {"mt"}:  # without speech: as many utterances as the batch has sentences
        batch = given.seconds * recipe.data.max_batch_characters / CHARACTERS
    settings = replace(
        given,
        epochs=recipe.training.epochs,
        frozen_epochs=recipe.training.epochs * recipe.freeze_speech_encoder,
        batch_seconds=batch,
        accumulation=recipe.training.gradient_accumulation_steps,
        checkpointing=recipe.training.gradient_checkpointing,
    )
    text = nllb_config() if size == "large-v3" else mbart_config("medium")
    symbols = [str(number) for number in range(CTC_SYMBOLS)] if "ctc" in recipe.objectives else None
    config = ComSLConfig(speech_config=whisper_config(size), text_config=text, ctc_vocabulary=symbols)
    likely, careful = (
        predict(replace(settings, utilisation=share), config, recipe.objectives)
        for share in (given.utilisation, CAREFUL)
    )
    low, high = (result["total hours"] * given.gpus for result in (likely, careful))
    return {
        "recipe": name,
        "steps": round(likely["optimizer steps"]),
        "TFLOP an utterance": likely["TFLOP an utterance"]["all trained"],
        f"hours at {given.utilisation:.0%}": likely["total hours"],
        f"hours at {CAREFUL:.0%}": careful["total hours"],
        "GPU hours": f"{low:.1f} - {high:.1f}",
        "dollars": f"{low * DOLLARS:.0f} - {high * DOLLARS:.0f}",
    }
