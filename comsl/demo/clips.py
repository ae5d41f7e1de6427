"""Utterances -> FLAC files whose names are a hash of everything that is said and how; those that exist are kept."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import soundfile

from comsl.files import replacing
from comsl.progress import track

from .speech import SAMPLE_RATE, Utterance, render


def clip_name(utterance: Utterance) -> str:
    """The clip's path inside the folder."""
    return f"audio/{utterance.language}/{utterance.digest[:16]}.flac"


def speak_clip(task: tuple[Path, Utterance]) -> float:
    """Write one clip, 16 kHz mono, unless it is there; its duration in seconds."""
    out, utterance = task
    path = out / clip_name(utterance)
    if path.exists():
        return float(soundfile.info(path).duration)
    waveform = render(utterance)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        soundfile.write(part, waveform, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return len(waveform) / SAMPLE_RATE


def speak_clips(
    out: Path, utterances: Sequence[Utterance], workers: int = 2, description: str = "speaking"
) -> dict[Utterance, float]:
    """Write the clips of all utterances below ``out``; their durations in seconds.

    Args:
        workers: processes that speak; 1, or fewer than 200 clips: this one alone.

    Raises:
        SpeechSynthesisError: espeak-ng is missing, or refuses a voice or a text.
    """
    tasks = [(out, utterance) for utterance in utterances]
    label = {"total": len(tasks), "description": description, "unit": "clip"}
    if workers < 2 or len(tasks) < 200:
        durations = list(track(map(speak_clip, tasks), **label))  # type: ignore[arg-type]
    else:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            durations = list(track(pool.map(speak_clip, tasks, chunksize=32), **label))  # type: ignore[arg-type]
    return dict(zip(utterances, durations, strict=True))
