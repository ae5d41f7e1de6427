"""A joint model of a few hundred parameters with the interface of the real one, and a run of it in one call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PreTrainedConfig, PreTrainedModel

from comsl.data.sampler import BucketBatchSampler
from comsl.training.callbacks import RunLog
from comsl.training.checkpoints import CheckpointFolder
from comsl.training.configuration import TrainConfiguration, configuration_from
from comsl.training.trainer import JointTrainer, TrainingData

WIDTH, VOCABULARY = 6, 5


class TinyConfig(PreTrainedConfig):
    model_type = "standin"
    dropout: float = 0.0
    width: int = WIDTH


class TinyModel(PreTrainedModel):
    config_class = TinyConfig

    def __init__(self, config: TinyConfig) -> None:
        super().__init__(config)
        self.speech_encoder = nn.Sequential(nn.Linear(WIDTH, config.width), nn.Tanh())
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, VOCABULARY)
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()


@dataclass
class Output:
    loss: Tensor
    terms: dict[str, tuple[Tensor, Tensor]]


class TinyJoint(nn.Module):
    """Two terms with counts of their own: cross-entropy over labelled positions, squares over all true positions."""

    def __init__(self, dropout: float = 0.0, width: int = WIDTH) -> None:
        super().__init__()
        self.model = TinyModel(TinyConfig(dropout=dropout, width=width))

    def counts(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"translation": (batch["translation_labels"] != -100).sum(), "frames": batch["mask"].sum()}

    def forward(self, batch: dict[str, Tensor], counts: dict[str, Tensor] | None = None) -> Output:
        local = self.counts(batch)
        counts = counts or local
        hidden = self.model.norm(self.model.dropout(self.model.speech_encoder(batch["x"])))
        logits = self.model.head(hidden)
        entropy = nn.functional.cross_entropy(
            logits.flatten(0, 1), batch["translation_labels"].flatten(), ignore_index=-100, reduction="sum"
        )
        squares = (logits.square().mean(-1) * batch["mask"]).sum()
        loss = 0.7 * entropy / counts["translation"].clamp_min(1) + 0.3 * squares / counts["frames"]
        terms = {"st": (entropy.detach(), local["translation"]), "erm": (squares.detach(), local["frames"])}
        return Output(loss, terms)


class TinyRows(Dataset[dict[str, Tensor]]):
    """Rows of 1 to 6 positions; noise that changes with the epoch, as augmentation does."""

    def __init__(self, rows: int = 24, noise: float = 0.1) -> None:
        self.lengths = [1 + (7 * row) % 6 for row in range(rows)]
        self.noise = noise
        self.epoch = 0
        self.read: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        self.read.append(row)
        length = self.lengths[row]
        fixed = torch.Generator().manual_seed(row)
        changing = torch.Generator().manual_seed(1000 * self.epoch + row)
        x = torch.randn(length, WIDTH, generator=fixed)
        labels = (x.sum(-1) > 0).long()
        labels[0] = -100
        return {"x": x + self.noise * torch.randn(length, WIDTH, generator=changing), "labels": labels}


def collate(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    pad = nn.utils.rnn.pad_sequence
    return {
        "x": pad([row["x"] for row in rows], batch_first=True),
        "mask": pad([torch.ones(len(row["x"])) for row in rows], batch_first=True),
        "translation_labels": pad([row["labels"] for row in rows], batch_first=True, padding_value=-100),
        "durations": torch.tensor([float(len(row["x"])) for row in rows]),
    }


def configuration(output_dir: Path | str, **changes: Any) -> TrainConfiguration:
    """Twelve steps over three epochs; keyword ``training__max_steps`` sets ``training.max_steps``."""
    tree: dict[str, Any] = {
        "output_dir": str(output_dir),
        "model": "standin",
        "objectives": {"st": {}},
        "data": {"train": "rows", "dev": "rows", "num_workers": 0},
        "optimizer": {"learning_rate": 0.02, "warmup_steps": 2, "schedule": "linear"},
        "training": {"max_steps": 12, "eval_steps": 4, "save_steps": 3, "logging_steps": 2, "use_cpu": True},
    }
    for key, value in changes.items():
        group, _, name = key.partition("__")
        if name:
            tree.setdefault(group, {})[name] = value
        else:
            tree[group] = value
    return configuration_from(tree)


class TextLog(RunLog):
    """Without the picture, which takes longer to draw than these models to train."""

    def draw(self) -> None:
        pass


def trainer(
    settings: TrainConfiguration,
    *,
    dropout: float = 0.0,
    noise: float = 0.1,
    rank: int = 0,
    world_size: int = 1,
    max_batch_size: int = 4,
    evaluate: Any = None,
    more_is_better: bool = False,
    width: int = WIDTH,
    callbacks: list[Any] | None = None,
    rows: int = 24,
    curves: bool = False,
) -> JointTrainer:
    torch.manual_seed(settings.seed)
    joint = TinyJoint(dropout, width)
    dataset = TinyRows(rows, noise)
    sampler = BucketBatchSampler(
        dataset.lengths, 24.0, max_batch_size, seed=settings.seed, rank=rank, world_size=world_size
    )
    output = Path(settings.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    log = [(RunLog if curves else TextLog)(output)] if rank == 0 else []
    return JointTrainer(
        joint,
        settings,
        None,
        TrainingData(dataset, sampler, collate),
        CheckpointFolder(output),
        evaluate=evaluate,
        metric=("loss", more_is_better),
        callbacks=[*log, *(callbacks or [])],
    )


def run(settings: TrainConfiguration, **changes: Any) -> JointTrainer:
    """Train, or go on where the last complete checkpoint stopped."""
    made = trainer(settings, **changes)
    made.fit()
    return made


def dev_loss(made: JointTrainer) -> dict[str, float]:
    """Loss over all rows, without noise."""
    dataset = TinyRows(noise=0.0)
    batch = collate([dataset[row] for row in range(len(dataset))])
    made.joint.eval()
    with torch.no_grad():
        loss = made.joint(batch).loss
    torch.rand(3)  # an evaluation that moves the random numbers of the training must do so in every run alike
    return {"loss": float(loss)}


def weights(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")
