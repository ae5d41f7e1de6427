"""Long recordings for the benchmarks: German sentences of several voices with pauses between, made here."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import soundfile

from comsl.data.constants import SAMPLE_RATE
from comsl.files import replacing

SENTENCES = 60


def write_recording(path: Path, minutes: float, pauses: tuple[float, float]) -> None:
    """A recording in the format of the path's suffix, written as it is made.

    Args:
        pauses: shortest and longest silence between two sentences, in seconds.
    """
    from comsl.demo.grammar import held_out
    from comsl.demo.speech import TEST_VARIANTS, Voice, synthesize

    voices = zip(itertools.islice(held_out("de", "test"), SENTENCES), itertools.cycle(TEST_VARIANTS), strict=False)
    spoken = [synthesize(pair.source, Voice("de", voice), silence=(0.1, 0.1)) for pair, voice in voices]
    generator, left = np.random.default_rng(0), round(60 * minutes * SAMPLE_RATE)
    with (
        replacing(path) as new,
        soundfile.SoundFile(new, "w", SAMPLE_RATE, 1, format=path.suffix[1:].upper()) as file,
    ):
        while left > 0:
            pause = np.zeros(round(generator.uniform(*pauses) * SAMPLE_RATE), np.float32)
            part = np.concatenate([spoken[generator.integers(SENTENCES)], pause])[:left]
            file.write(part)
            left -= len(part)
