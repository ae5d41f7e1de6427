"""The stage's batches, and the characters of its CTC head, from the manifests that its recipe names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from comsl.data.characters import character_vocabulary
from comsl.data.collate import Collator
from comsl.data.dataset import SpeechTranslationDataset
from comsl.data.sampler import BucketBatchSampler
from comsl.training.trainer import TrainingData

if TYPE_CHECKING:
    from comsl.data.augment import AugmentSettings
    from comsl.training.configuration import TrainConfiguration


def stage_data(
    rows: Any,
    processor: Any,
    fields: Collection[str],
    configuration: TrainConfiguration,
    *,
    max_duration: float | None,
    training: bool,
    rank: int = 0,
    world_size: int = 1,
) -> TrainingData:
    """Batches of one rank: shuffled and augmented for training, neither for the development set."""
    settings = configuration.data
    augment: AugmentSettings | None = settings.augment if training else None
    dataset = SpeechTranslationDataset(rows, processor, augment, configuration.seed, fields, max_duration)
    limit = settings.max_batch_seconds if "speech" in fields else float(settings.max_batch_characters)
    temperature = settings.temperature if training else None
    sampler = BucketBatchSampler(
        dataset.costs(),
        limit,
        settings.max_batch_size,
        shuffle=training,
        seed=configuration.seed,
        rank=rank,
        world_size=world_size,
        languages=dataset.source_languages() if temperature is not None else None,
        temperature=temperature,
        # Every step takes as many batches as every other, and N ranks take what one with N times the accumulation does.
        steps_multiple_of=configuration.training.gradient_accumulation_steps if training else 1,
    )
    return TrainingData(dataset, sampler, Collator(processor, fields, settings.mask_probability))


def ctc_symbols(asked: Sequence[str] | str | None, train: str | Sequence[str] | None) -> list[str] | None:
    """The CTC vocabulary that a recipe means: a list of symbols, a manifest or text, "auto" (the training data)."""
    if asked is None or not isinstance(asked, str):
        return None if asked is None else list(asked)
    sources = [asked] if asked != "auto" else [train] if isinstance(train, str) else list(train or [])
    blank, *characters = character_vocabulary(sources[0])
    for source in sources[1:]:
        characters = sorted({*characters, *character_vocabulary(source)[1:]})
    return [blank, *characters]
