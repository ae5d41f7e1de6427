"""What the pretrained parts of the demo learn from: sentences and synthetic speech, kept in memory.

M mel bands, T frames.
"""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from comsl.data.features import log_mel
from comsl.files import replacing
from comsl.progress import track

from . import grammar
from .grammar import SOURCE_LANGUAGES, generate, held_out_sentences, words_of
from .speech import Utterance, render


def held_out(language: str, split: str) -> list[str]:
    """Sentences of `language` that no part is trained on; for English, translations of such sentences."""
    if language != "en":
        return [pair.source for pair in grammar.held_out(language, split)]
    return list(dict.fromkeys(pair.english for x in SOURCE_LANGUAGES for pair in grammar.held_out(x, split)))


def random_words(language: str, count: int, seed: int) -> list[str]:
    """Sequences of two to seven random words: letters without the help of grammar."""
    rng = np.random.default_rng([seed, 1, *language.encode()])
    words = words_of(language)
    return [" ".join(words[i] for i in rng.integers(0, len(words), rng.integers(2, 8))) for _ in range(count)]


def sentences(language: str, count: int, seed: int) -> list[str]:
    """Training sentences of one language, none of which is held out."""
    excluded = held_out_sentences()
    if language != "en":
        return [pair.source for pair in generate(language, count, seed, excluded)]
    found = [pair.english for x in SOURCE_LANGUAGES for pair in generate(x, count // 2, seed, excluded)]
    return list(dict.fromkeys(found))[:count]


def _one_thread() -> None:
    torch.set_num_threads(1)


def _features(utterance: Utterance) -> np.ndarray:
    return log_mel(render(utterance)).astype(np.float16)


def features(
    utterances: Sequence[Utterance], workers: int = 2, description: str = "speaking", cache: Path | None = None
) -> list[np.ndarray]:
    """float16 [M, T] for each utterance; `cache` names a file that keeps them for the next run that says the same."""
    key = hashlib.sha256("".join(utterance.digest for utterance in utterances).encode()).hexdigest()
    if cache is not None and cache.exists():
        stored = np.load(cache)
        if str(stored["key"]) == key:
            return np.split(stored["mels"], np.cumsum(stored["lengths"])[:-1], axis=1)
    if workers < 2:
        found = [_features(u) for u in track(utterances, description=description, unit="clip")]
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
            rows = pool.map(_features, utterances, chunksize=64)
            found = list(track(rows, total=len(utterances), description=description, unit="clip"))
    if cache is not None:
        with replacing(cache) as part, part.open("wb") as file:  # savez would give a name its own suffix
            np.savez(file, mels=np.concatenate(found, axis=1), lengths=[mel.shape[1] for mel in found], key=key)
    return found
