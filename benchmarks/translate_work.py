"""The arithmetic that a batch of clips needs at its true lengths, of which ``benchmarks.translate`` gives the share."""

from __future__ import annotations

from benchmarks.models import MBART, WHISPER
from benchmarks.translate_systems import NEW_TOKENS, Cell, clips
from comsl.data.constants import SAMPLE_RATE


def useful_flops(cell: Cell) -> float:
    """FLOP of ours for the clips of a cell: two for each weight and position, and the attention products.

    Nothing of what is padded is counted, nor a position that is computed twice, nor what beams have in common.
    """
    speech, text = WHISPER[cell.size], MBART[cell.size]
    total = 0.0
    for waveform in clips(cell.clips):
        frames = len(waveform) / SAMPLE_RATE * 50
        memory = frames / 4 + 1
        total += speech["layers"] * _layer(speech["d_model"], frames)
        total += 2 * frames * (3 * 80 * 2 + 3 * speech["d_model"]) * speech["d_model"]  # Whisper's convolutions
        total += _adapter(speech["d_model"], text["d_model"], frames)
        total += text["layers"] * _layer(text["d_model"], memory)
        total += _decoder(text, memory, cell.beam)
    return total


def _layer(width: int, positions: float) -> float:
    """Four projections and two of four times the width; scores and weighted sums over all positions."""
    return 2 * positions * 12 * width**2 + 4 * positions**2 * width


def _adapter(speech_width: int, width: int, frames: float) -> float:
    first = frames * 8 * speech_width**2 + frames / 2 * 3 * speech_width * 2 * width
    second = frames / 2 * 8 * width**2 + frames / 4 * 3 * width * 2 * width
    return 2 * (first + second)


def _decoder(text: dict[str, int], memory: float, beam: int) -> float:
    """Keys and values of the memory once; then every beam at every step, the prompt once."""
    width, layers = text["d_model"], text["layers"]
    total = layers * 2 * memory * 2 * width**2
    positions = 2 + (NEW_TOKENS - 1) * beam
    total += positions * layers * (2 * 14 * width**2 + 4 * (memory + NEW_TOKENS / 2) * width)
    return total + (1 + (NEW_TOKENS - 1) * beam) * 2 * text["vocabulary"] * width
