"""The benchmarks of scale still run, and the prediction is the arithmetic that it says it is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.batches import made_batch
from benchmarks.flops import Lengths, batch_lengths
from benchmarks.scale.manifests import STAGES, measure, write_rows
from benchmarks.scale.prediction import Assumptions, predict
from benchmarks.scale.recipes import SIZES, stages
from benchmarks.scale.steps import frames_of


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_manifest_goes_through_every_stage(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    write_rows(path, 60)
    measured = measure(path)
    assert measured["total"] == pytest.approx(sum(measured[stage] for stage in STAGES))
    assert measured["peak MB"] >= measured["imports MB"]


def test_made_batches_have_the_lengths_that_they_say() -> None:
    batch = made_batch(frames_of(3), vocabulary=500)
    masked = 2  # of places 1 to 14: 3 and 10
    assert batch_lengths(batch) == [Lengths(frames, 16, 16, masked) for frames in (300, 550, 800)]
    assert batch["input_features"].shape == (3, 80, 800)
    assert max(int(batch[name].max()) for name in batch if name.endswith("ids")) < 500
    assert torch.equal(batch["attention_mask"].sum(1), torch.tensor([300, 550, 800]))


def test_the_prediction_is_operations_over_rate() -> None:
    plain = Assumptions(gpus=1, epochs=1, frozen_epochs=0, checkpointing=False, utilisation=1.0, padding=1.0)
    result = predict(plain)
    assert result["trained parameters"] == pytest.approx(946e6, rel=0.01)  # the paper's 0.95 billion
    operations = plain.utterances * result["TFLOP an utterance"]["all trained"] * 1e12
    assert result["hours"]["arithmetic"] == pytest.approx(operations / plain.peak / 3600)
    assert result["hours"]["all-reduce, not overlapped"] == 0  # nobody to reduce with
    assert predict(replace(plain, gpus=8))["hours"]["arithmetic"] == pytest.approx(result["hours"]["arithmetic"] / 8)


def test_a_frozen_speech_encoder_saves_two_thirds_of_itself() -> None:
    """Its backward pass is gone, and the first layer of the adapter sends nothing back into it."""
    plain = Assumptions(seconds=5.5, gpus=1, epochs=1, checkpointing=False)
    tflop = predict(plain)["TFLOP an utterance"]
    width, frames, bands = 1024, 275, 80
    layers = 24 * (2 * frames * 12 * width**2 + 4 * frames**2 * width) + 2 * frames * 3 * width**2
    first = 2 * 550 * 3 * bands * width  # whose input takes no gradient
    adapter = 2 * frames * 4 * width**2
    assert (tflop["all trained"] - tflop["speech encoder frozen"]) * 1e12 == pytest.approx(2 * layers + first + adapter)


def test_the_stages_are_what_their_recipes_say() -> None:
    """The joint one is the prediction as it stands; the cascade, its pairs but one left out, costs less."""
    rows = {row["recipe"]: row for row in stages(Assumptions())}
    assert list(rows) == list(SIZES)
    joint = predict(Assumptions())
    assert rows["3-joint"]["hours at 30%"] == pytest.approx(joint["total hours"], rel=0.005)
    seconds = 859 * 3600  # 652,586 rows, by tables of the corpus and its paper
    assert Assumptions().seconds * Assumptions().utterances == pytest.approx(seconds)
    assert rows["3-joint"]["steps"] == pytest.approx(15 * seconds * 1.1 / (8 * 2 * 120), abs=1)
    tflop = {name.split()[-1]: row["TFLOP an utterance"] for name, row in rows.items()}
    assert tflop["1-text"] < tflop["2-speech"] < tflop["cascade"] < tflop["3-joint"] == tflop["4-pseudo"]
    assert tflop["3-joint"] < tflop["large"] < tflop["large-v3-nllb"]
