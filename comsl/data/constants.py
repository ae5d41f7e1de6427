"""What the data, the models and the recipes agree on."""

from typing import Literal

SAMPLE_RATE = 16_000
"""Samples a second of every waveform."""

IGNORED_LABEL = -100
"""Label of positions that are not scored; torch's own default."""

TooLong = Literal["error", "leave_out"]
"""What becomes of training rows that are longer than the model reads."""
