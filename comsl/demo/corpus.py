"""What the pretrained parts of the demo learn from: sentences and synthetic speech, kept in memory.

M mel bands, T frames.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from comsl.data.features import log_mel
from comsl.progress import track

from .grammar import HELD_OUT, HELD_OUT_SEED, SOURCE_LANGUAGES, generate, held_out_sources, words_of
from .speech import Utterance, render


def held_out(language: str, count: int = HELD_OUT) -> list[str]:
    """Sentences of `language` that no part is trained on; for English, translations of such sentences."""
    if language == "en":
        return list(dict.fromkeys(p.english for s in SOURCE_LANGUAGES for p in generate(s, count, HELD_OUT_SEED)))[
            :count
        ]
    return held_out_sources(language)[:count]


def random_words(language: str, count: int, seed: int) -> list[str]:
    """Sequences of two to seven random words: letters without the help of grammar."""
    rng = np.random.default_rng([seed, 1, *language.encode()])
    words = words_of(language)
    return [" ".join(words[i] for i in rng.integers(0, len(words), rng.integers(2, 8))) for _ in range(count)]


def sentences(language: str, count: int, seed: int) -> list[str]:
    """Training sentences of one language, none of which is held out."""
    if language != "en":
        return [pair.source for pair in generate(language, count, seed, exclude=held_out(language))]
    excluded, found = set(held_out("en")), []
    for source in SOURCE_LANGUAGES:
        found += [pair.english for pair in generate(source, count // 2, seed, exclude=held_out(source))]
    return [text for text in dict.fromkeys(found) if text not in excluded][:count]


def _features(utterance: Utterance) -> np.ndarray:
    torch.set_num_threads(1)
    return log_mel(render(utterance)).astype(np.float16)


def features(
    utterances: Sequence[Utterance], workers: int = 2, description: str = "speaking", cache: Path | None = None
) -> list[np.ndarray]:
    """float16 [M, T] for each utterance; `cache` names a file that keeps them for the next run."""
    if cache is not None and cache.exists():
        stored = np.load(cache)
        if len(stored["lengths"]) == len(utterances):
            return np.split(stored["mels"], np.cumsum(stored["lengths"])[:-1], axis=1)
    if workers < 2:
        found = [_features(u) for u in track(utterances, description=description, unit="clip")]
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            rows = pool.map(_features, utterances, chunksize=64)
            found = list(track(rows, total=len(utterances), description=description, unit="clip"))
    if cache is not None:
        np.savez(cache, mels=np.concatenate(found, axis=1), lengths=[mel.shape[1] for mel in found])
    return found
