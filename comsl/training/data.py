"""The stage's batches, and the characters of its CTC head, from the manifests that its recipe names."""

from __future__ import annotations

import bisect
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch

from comsl.data.characters import BLANK, character_vocabulary, read_texts
from comsl.data.collate import Collator
from comsl.data.constants import SAMPLE_RATE
from comsl.data.dataset import MixedLimit, SpeechTranslationDataset
from comsl.data.sampler import BucketBatchSampler
from comsl.errors import UsageError
from comsl.training.trainer import TrainingData

if TYPE_CHECKING:
    from comsl.data.augment import AugmentSettings
    from comsl.data.teacher import TeacherCache
    from comsl.training.configuration import TrainConfiguration


def stage_data(
    rows: Any,
    processor: Any,
    fields: Collection[str],
    configuration: TrainConfiguration,
    *,
    max_duration: float | None,
    mixed: MixedLimit | None,
    training: bool,
    teacher: TeacherCache | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> TrainingData:
    """Batches of one rank: shuffled and augmented for training, neither for the development set."""
    settings = configuration.data
    augment: AugmentSettings | None = settings.augment if training else None
    dataset = SpeechTranslationDataset(
        rows,
        processor,
        augment,
        configuration.seed,
        fields,
        max_duration,
        mixed,
        teacher,
        settings.too_long if training else "error",  # scores are of all rows
    )
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


def text_encoder_limit(model: Any, processor: Any) -> MixedLimit | None:
    """How long a clip the text encoder has positions for, alone and behind a transcript; None: there is no end of them.

    Every convolution between the samples and the text encoder divides lengths by its stride and rounds down, and so
    does the whole of them: each further position is worth the same number of samples.
    """

    def longest(positions: int) -> int:
        """Samples of the longest clip that takes so many positions."""

        def taken(samples: int) -> int:
            return int(model.speech_positions(torch.tensor([processor.feature_extractor.steps(samples)])))

        beyond = SAMPLE_RATE
        while taken(beyond) <= positions:
            beyond *= 2
        return bisect.bisect_right(range(beyond), positions, key=taken) - 1

    if model.max_positions is None:
        return None
    alone = longest(model.max_positions)
    per_token = alone - longest(model.max_positions - 1)
    return MixedLimit(alone / SAMPLE_RATE, per_token / SAMPLE_RATE)


def longest_clip(model: Any, text_limit: MixedLimit | None) -> float | None:
    """Seconds of the longest clip that both encoders have positions for."""
    limits = [model.max_duration, None if text_limit is None else text_limit.alone]
    return min((seconds for seconds in limits if seconds is not None), default=None)


def ctc_symbols(asked: Sequence[str] | str | None, train: str | Sequence[str] | None) -> list[str] | None:
    """The CTC vocabulary that a recipe means: a list of symbols, a manifest or text, "auto" (the training data)."""
    if asked is None or not isinstance(asked, str):
        return None if asked is None else list(asked)
    characters = {symbol for source in _sources(asked, train) for symbol in character_vocabulary(source)[1:]}
    return [BLANK, *sorted(characters)]


def ctc_texts(asked: str, train: str | Sequence[str] | None) -> list[str]:
    """The texts whose pieces a recipe means to be heard: of a manifest or text, or "auto" (the training data)."""
    return [text for source in _sources(asked, train) for text in read_texts(source)]


def _sources(asked: str, train: str | Sequence[str] | None) -> list[str]:
    if asked != "auto":
        return [asked]
    if not train:
        raise UsageError("compose.ctc_vocabulary: auto takes it from data.train, which is missing")
    return [train] if isinstance(train, str) else list(train)
