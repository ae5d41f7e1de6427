"""What translating files and evaluating a manifest have to agree on: what a clip is, how long it may be, how texts are
joined."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from comsl.data.constants import SAMPLE_RATE
from comsl.languages import WITHOUT_SPACES, UnknownLanguage, get_language
from comsl.model import SpeechLengthError

MAX_DURATION = 28.0
"""Seconds of the longest clip that is decoded whole, where the model takes that much; a little under Whisper's 30."""


@dataclass(frozen=True)
class Clip:
    """A clip as it is decoded. How long it is cannot be told from the features: a fixed duration pads them."""

    features: np.ndarray
    """[n_mels, T], [samples] or [T, S * n_mels], as ``processor.features`` makes them."""
    seconds: float
    """Of the audio itself."""
    padded_seconds: float
    """Of what the features cover: the audio, and the silence up to the processor's fixed duration if it has one."""


def prepare_clip(waveform: np.ndarray, processor: Any) -> Clip:
    """Features of one clip [samples] at 16 kHz; FeatureError for what has none."""
    seconds = len(waveform) / SAMPLE_RATE
    fixed = processor.fixed_duration
    return Clip(processor.features(waveform), seconds, seconds if fixed is None else fixed)


def longest_clip(model: Any, processor: Any) -> float:
    """Seconds of the longest clip to decode whole: at most 28, and what both encoders have positions for and a fixed
    duration leaves room for. Longer ones are for ``segment``.

    Raises:
        SpeechLengthError: a fixed duration that the text encoder has no positions for, so that no clip will do.
    """
    limits = [MAX_DURATION]
    if model.max_duration is not None:
        limits.append(model.max_duration)
    if processor.fixed_duration is not None:
        limits.append(processor.fixed_duration)
    if model.config.text_config.model_type == "mbart":  # the others' positions are computed and have no end
        probe = prepare_clip(np.zeros(round(min(8.0, *limits) * SAMPLE_RATE), np.float32), processor)
        mask = processor.pad_features([probe.features])["attention_mask"]
        frames = int(model.adapted_lengths(mask.to(model.device)))
        positions = model.config.text_config.max_position_embeddings
        if processor.fixed_duration is None:
            # Less one position for the language, and one for the rounding of lengths.
            limits.append((positions - 2) * probe.seconds / frames)
        elif frames + 1 > positions:
            raise SpeechLengthError(
                f"the model's fixed duration of {processor.fixed_duration:g} s makes {frames} frames of every clip, "
                f"more than the {positions - 1} that the text encoder has positions for; compose it with a shorter "
                "one, or with larger adapter strides"
            )
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
