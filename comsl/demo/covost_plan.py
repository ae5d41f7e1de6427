"""Which clips the CoVoST 2 miniature has: sentences, voices, splits and names, before anything is written.

Sizes follow the original's number of training clips per language, compressed: its largest language has 167 times as
many as its smallest, the miniature's 4.6 times, so that the smallest still has something to learn from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from comsl.data.corpora.covost2.published import published_size
from comsl.languages import COVOST_TARGETS

from .phrases import Sentence, load_phrases
from .speech import DEV_VARIANTS, TEST_VARIANTS, TRAIN_VARIANTS, Utterance, speak

COMPRESSION, CLIPS = 0.3, 13.0
"""A language has CLIPS x (training clips of the original) ** COMPRESSION training clips."""
SMALLEST_TRAIN = 40
"""At whatever scale: room for every fault, and rows enough to see what the usual duration is."""
TEST_SIZE, DEV_SIZE = 25, 10
UNTRANSLATED = 0.3
"""Validated clips that CoVoST does not translate, as a share of the training clips."""

_SEED = 4
_VARIANTS = {"train": TRAIN_VARIANTS, "dev": DEV_VARIANTS, "test": TEST_VARIANTS, None: TRAIN_VARIANTS}
_SHARES = {"test": 0.1, "dev": 0.05}
_PAIRS = 2 / 3
"""Share of sentences with two phrases; the others have three."""


@dataclass(frozen=True)
class Clip:
    """A clip and everything that is said about it.

    Attributes:
        language: code of the source language.
        sentence: transcript.
        translations: by target language; empty where CoVoST does not translate the clip.
        split: "train", "train_covost" (CoVoST's extension of it), "dev" or "test"; None without translation.
        said: what is spoken, by whom.
        fault: kind of fault planted in it (`covost_faults`).
    """

    language: str
    sentence: str
    translations: Mapping[str, str]
    split: str | None
    said: Utterance
    fault: str | None = None

    @property
    def client_id(self) -> str:
        """128 hexadecimal digits, as Common Voice anonymises its speakers."""
        return hashlib.sha512(f"{self.language} {self.said.voice.identifier}".encode()).hexdigest()

    @property
    def number(self) -> int:
        """Eight digits that depend on everything the file holds."""
        digest = hashlib.sha256(f"{self.said.digest} {self.fault}".encode()).hexdigest()
        return 10_000_000 + int(digest[:12], 16) % 90_000_000


def targets_of(language: str, languages: Sequence[str]) -> tuple[str, ...]:
    """English for the 21 languages; for English those of CoVoST's 15 that are among `languages`."""
    return ("en",) if language != "en" else tuple(code for code in COVOST_TARGETS if code in languages)


def sizes(language: str, scale: float = 1.0) -> dict[str | None, int]:
    """Clips by split; None: without translation."""
    original = published_size(language, "de" if language == "en" else "en", "train").rows
    train = max(SMALLEST_TRAIN, round(scale * CLIPS * original**COMPRESSION))
    held_out = min(1.0, scale)
    return {
        "train": train,
        "dev": max(6, round(held_out * DEV_SIZE)),
        "test": max(6, round(held_out * TEST_SIZE)),
        None: max(4, round(UNTRANSLATED * train)),
    }


def plan(language: str, languages: Sequence[str], scale: float = 1.0) -> list[Clip]:
    """All clips of a language, without faults.

    Args:
        language: code of the source language.
        languages: all of the miniature's.
        scale: of the number of clips; test and dev sets only get smaller.
    """
    counts = sizes(language, scale)
    rng = np.random.default_rng([_SEED, *language.encode()])
    book, targets = load_phrases(), targets_of(language, languages)
    clips: list[Clip] = []
    for split, sentences in _choose(language, counts).items():
        readings = [(language, book.reading(sentence, language)) for sentence in sentences]
        noisy = 0.3 if split in ("train", None) else 0.0
        seed = int(rng.integers(1 << 30))
        for sentence, said in zip(sentences, speak(readings, seed, _VARIANTS[split], noisy), strict=True):
            extended = split == "train" and rng.random() < 0.5
            clips.append(
                Clip(
                    language,
                    book.text(sentence, language),
                    {target: book.text(sentence, target) for target in targets} if split else {},
                    "train_covost" if extended else split,
                    said,
                )
            )
    return clips


def _choose(language: str, counts: Mapping[str | None, int]) -> dict[str | None, list[Sentence]]:
    """Different sentences for every split; those of test and dev are in no language's training set."""
    rng = np.random.default_rng([_SEED, 1, *language.encode()])
    chosen: dict[str | None, list[Sentence]] = {}
    pools = _pools()
    for split in ("dev", "test"):
        chosen[split] = list(_draw(pools[split], counts[split], rng))
    training = list(_draw(pools["train"], counts["train"] + counts[None], rng))
    chosen["train"], chosen[None] = training[: counts["train"]], training[counts["train"] :]
    return chosen


@lru_cache(maxsize=1)
def _pools() -> dict[str, list[Sentence]]:
    """Sentences that may stand in a split of any language."""
    everything = load_phrases().sentences()
    order = np.random.default_rng(_SEED).permutation(len(everything))
    pools, start = {}, 0
    for split, share in _SHARES.items():
        end = start + round(share * len(everything))
        pools[split] = [everything[i] for i in order[start:end]]
        start = end
    return pools | {"train": [everything[i] for i in order[start:]]}


def _draw(pool: Sequence[Sentence], count: int, rng: np.random.Generator) -> Iterator[Sentence]:
    """Without repetition; a `count` beyond the pool is an error of numpy's that says so."""
    lengths = np.array([len(sentence) for sentence in pool])
    weights = np.where(lengths == 2, _PAIRS / (lengths == 2).sum(), (1 - _PAIRS) / (lengths == 3).sum())
    for index in rng.choice(len(pool), count, replace=False, p=weights / weights.sum()):
        yield pool[index]
