"""What translating files and evaluating a manifest have to agree on: how long a clip may be, how texts are joined."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np

from comsl.data.audio import SAMPLE_RATE
from comsl.languages import WITHOUT_SPACES, UnknownLanguage, get_language

MAX_DURATION = 28.0
"""Seconds of the longest clip that is decoded whole, where the model takes that much; a little under Whisper's 30."""


def longest_clip(model: Any, processor: Any) -> float:
    """Seconds of the longest clip to decode whole: at most 28, and what both encoders have positions for and a fixed
    duration leaves room for. Longer ones are for ``segment``."""
    limits = [MAX_DURATION]
    if model.max_duration is not None:
        limits.append(model.max_duration)
    if processor.fixed_duration is not None:
        limits.append(processor.fixed_duration)
    if model.config.text_config.model_type == "mbart":  # the others' positions are computed and have no end
        seconds = min(8.0, *limits)
        probe = processor.pad_features([processor.features(np.zeros(round(seconds * SAMPLE_RATE), np.float32))])
        rate = float(model.adapted_lengths(probe["attention_mask"].to(model.device))) / seconds
        # Less one position for the language, and one for the rounding of lengths.
        limits.append((model.config.text_config.max_position_embeddings - 2) / rate)
    return min(limits)


def join_texts(texts: Iterable[str | None], language: str) -> str:
    """The texts of consecutive segments as one: with spaces between, but not in languages that are written without.

    Args:
        texts: in the order spoken; None and "" (nothing said) leave no gap.
        language: code of the language that the texts are in; spaces for one that is not in the table.
    """
    with suppress(UnknownLanguage):
        language = get_language(language).code
    return ("" if language in WITHOUT_SPACES else " ").join(text for text in texts if text)
