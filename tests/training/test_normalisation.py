"""The global batch decides the loss and the gradients, not how it is split over processes and accumulation steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from comsl.data.sampler import BucketBatchSampler
from comsl.evaluation.curves import read_log
from tests.training import standin
from tests.training.processes import in_child, together

STEPS = 5


class Joined:
    """Every ``parts`` batches of a sampler as one."""

    def __init__(self, sampler: BucketBatchSampler, parts: int) -> None:
        self.sampler, self.parts = sampler, parts

    def set_epoch(self, epoch: int) -> None:
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.sampler) // self.parts

    def __iter__(self) -> Iterator[list[int]]:
        batches = list(self.sampler)
        for start in range(0, len(batches), self.parts):
            yield [row for batch in batches[start : start + self.parts] for row in batch]


def train(rank: int, world_size: int, output: str, joined: int, accumulated: int, freeze: float) -> None:
    settings = standin.configuration(
        output,
        freeze_speech_encoder=freeze,
        optimizer__max_grad_norm=0.5,
        training__max_steps=STEPS,
        training__logging_steps=1,
        training__save_steps=STEPS,
        training__gradient_accumulation_steps=accumulated,
    )
    made = standin.trainer(settings, rank=rank, world_size=world_size, max_batch_size=2)
    if joined > 1:
        made.data.sampler = Joined(made.data.sampler, joined)
    made.fit()


def outcome(output: Path) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    log = read_log(output / "train_log.jsonl")
    keys = ("step", "loss", "grad_norm", "learning_rate", "st", "st_count", "erm", "erm_count")
    return [{key: record[key] for key in keys} for record in log], standin.weights(
        output / f"checkpoints/step-{STEPS:06d}"
    )


@pytest.mark.parametrize("freeze", [0.0, 0.4])
def test_any_split_of_the_global_batch_trains_alike(tmp_path: Path, freeze: float) -> None:
    assert in_child(train, 0, 1, str(tmp_path / "joined"), 4, 1, freeze) == 0
    assert in_child(train, 0, 1, str(tmp_path / "accumulated"), 1, 4, freeze) == 0
    assert together(train, 2, str(tmp_path / "two"), 2, 1, freeze) == [0, 0]
    assert together(train, 2, str(tmp_path / "both"), 1, 2, freeze) == [0, 0]
    log, weights = outcome(tmp_path / "joined")
    assert len(log) == STEPS
    # Rank r of two takes every second batch, so two ranks with two joined batches see the same four, in another order.
    for name in ("accumulated", "two", "both"):
        other_log, other_weights = outcome(tmp_path / name)
        for record, other in zip(log, other_log, strict=True):
            assert other == pytest.approx(record, abs=1e-5), name
        for key, tensor in weights.items():
            torch.testing.assert_close(other_weights[key], tensor, atol=1e-5, rtol=1e-5)


def test_a_logged_loss_is_the_loss_of_the_global_batch(tmp_path: Path) -> None:
    settings = standin.configuration(
        tmp_path, training__max_steps=1, training__gradient_accumulation_steps=3, optimizer__warmup_steps=0
    )
    made = standin.trainer(settings, noise=0.0, max_batch_size=3)
    rows = [row for batch in list(made.data.sampler)[:3] for row in batch]
    batch = standin.collate([made.data.dataset[row] for row in rows])
    output = made.joint(batch)
    made.fit()
    (record,) = read_log(tmp_path / "train_log.jsonl")
    assert record["loss"] == pytest.approx(output.loss.item(), abs=1e-6)
    for name, (total, count) in output.terms.items():
        assert record[name] == pytest.approx((total / count).item(), abs=1e-6)
        assert record[f"{name}_count"] == count.item()
