"""A translation memory that is searched by ear: sentences with translations by people, for what has been said before.

Transcripts that are drawn from the CTC head's probabilities find the sentences that share most of their rarer spellings
(``comsl.inference.lookup``); the CTC head then says how likely each of these is to be what was said. The best by both
are candidates of minimum Bayes risk (``comsl.inference.mbr``): none may be what was said, and a
translation that several of them nearly share is safer than the first one's.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from comsl.data.characters import normalize_characters
from comsl.errors import UsageError
from comsl.inference import MEMORY_GAP
from comsl.inference.ctc import greedy_transcript, log_likelihoods, sampled_transcripts
from comsl.inference.lookup import Lookup
from comsl.inference.options import Hypothesis
from comsl.languages import get_language
from comsl.progress import console


@dataclass(frozen=True)
class Rule:
    """How a memory chooses.

    Likeness, sharpness and hearings were chosen on Mboshi's validation set (``benchmarks/memory.py``). There likeness
    does nearly all; likelihood is meant for what is said again word for word, of which that set has nothing.
    """

    candidates: int = 100
    """Sentences that the CTC head is asked about."""
    voices: int = 16
    """Most translations that are candidates: comparing them takes the square of their number."""
    hearings: int = 64
    """Transcripts that are drawn of a clip; 0: the likeliest path's alone."""
    likeness: float = 10.0
    """A sentence whose cosine is greater by 0.1 weighs more by e to a tenth of this."""
    sharpness: float = 1.0
    """A sentence that CTC finds twice as far from what it heard as the likeliest one weighs less by e to this. A ratio,
    because what a nat is worth is a matter of the model."""
    trust: float = 5.0
    """Where the best sentence is twice as far from what was heard as the memory's gap, the mode "pooled" trusts the
    memory less by e to this."""
    nearest: float = 0.05
    """Nats a character: a gap no larger than this is none."""
    negligible: float = 1e-3
    """Of the best one's weight: what weighs less is no candidate."""


MemoryRow = tuple[str, str, str, str]
"""Source language, target language, transcript, translation."""


@dataclass(frozen=True)
class Recalled:
    """A sentence of the memory, for a clip."""

    translation: str
    transcript: str
    gap: float
    """By how many nats a character the CTC head finds it less likely than what it heard itself; a character of both on
    average, so that neither short sentences nor long ones gain."""
    likeness: float
    """Cosine with the transcripts that were drawn, 0 to 1."""
    score: float
    """The greater the better; the logarithm of its weight, by both."""


class _Direction:
    """The sentences of one direction: each transcript once, with the translation that it has most often."""

    def __init__(self) -> None:
        self._translations: dict[str, Counter[str]] = {}

    def add(self, transcript: str, translation: str) -> None:
        self._translations.setdefault(normalize_characters(transcript), Counter())[translation] += 1

    @cached_property
    def transcripts(self) -> list[str]:
        return list(self._translations)

    @cached_property
    def lookup(self) -> Lookup:
        best = [translations.most_common(1)[0][0] for translations in self._translations.values()]
        return Lookup(self.transcripts, best)

    def has(self, transcript: str, translation: str) -> bool:
        return translation in self._translations.get(normalize_characters(transcript), ())


class TranslationMemory:
    """Sentences with their translations.

    The index of a direction is made when it is first asked for: some 3 kB a sentence, and 10 kB while it is made.

    Args:
        rows: languages in any of CoVoST's, Whisper's, mBART-50's ... codes.
        gap: nats a character: where CTC finds the best sentence by this much less likely than its own transcript, the
            mode "pooled" trusts the memory as much as all its other ways together.
        name: for messages.
    """

    def __init__(
        self, rows: Iterable[MemoryRow], gap: float = MEMORY_GAP, name: str = "the memory", rule: Rule | None = None
    ) -> None:
        if not 0 <= gap <= 100:
            raise UsageError(f"--memory-gap {gap}: a number of nats from 0 to 100 is wanted")
        self.gap, self.name, self.rule = gap, name, rule or Rule()
        self._directions: dict[tuple[str, str], _Direction] = {}
        for source, target, transcript, translation in rows:
            self._directions.setdefault(_direction(source, target), _Direction()).add(transcript, translation)
        self._missed: set[tuple[str, str]] = set()

    @property
    def settings(self) -> dict[str, float]:
        """What its answers depend on beside its sentences."""
        return {"gap": self.gap, **asdict(self.rule)}

    def has(self, row: MemoryRow) -> bool:
        """Whether this very sentence is in it, with this translation."""
        direction = self._directions.get(_direction(*row[:2]))
        return direction is not None and direction.has(*row[2:])

    def recall(self, log_probs: Tensor, processor: Any, source: str, target: str) -> list[Recalled]:
        """Sentences of that direction, the best first; none where nothing was heard, or nothing spelled like any.

        Where the head is in doubt there is nearly always something; its gap tells how little that may mean.

        Args:
            log_probs: [F, C] of the CTC head.
        """
        heard = greedy_transcript(log_probs, processor.ctc_vocabulary)
        said = normalize_characters(heard.text)
        direction = self._direction(source, target)
        if direction is None or not said:
            return []
        drawn = sampled_transcripts(log_probs, processor.ctc_vocabulary, self.rule.hearings) or [heard.text]
        likenesses = direction.lookup.similarities(*map(normalize_characters, drawn))
        nearest = np.argsort(-likenesses, kind="stable")[: self.rule.candidates]
        places = [int(place) for place in nearest if likenesses[place] > 0]
        # What the head cannot spell in that many frames, or cannot spell at all, was not said.
        spelled = {place: processor.ctc_ids(direction.transcripts[place]) for place in places}
        places = [place for place in places if 0 < len(spelled[place][0]) <= len(log_probs) and not spelled[place][1]]
        own, *scores = log_likelihoods(log_probs, [heard.tokens, *(spelled[place][0] for place in places)])
        lengths = [len(said) + len(direction.transcripts[place]) for place in places]
        gaps = {
            place: 2 * (own - score) / length
            for place, score, length in zip(places, scores, lengths, strict=True)
            if math.isfinite(score)
        }
        smallest = self._at_least(min(gaps.values(), default=0.0))
        found = [
            Recalled(
                direction.lookup.translations[place],
                direction.transcripts[place],
                gap,
                float(likenesses[place]),
                self.rule.likeness * float(likenesses[place]) - self.rule.sharpness * self._at_least(gap) / smallest,
            )
            for place, gap in gaps.items()
        ]
        return sorted(found, key=lambda each: -each.score)

    def voices(self, recalled: Sequence[Recalled]) -> list[tuple[Hypothesis, float]]:
        """Translations of what was recalled, the best first, with weights of sum 1; their scores are NaN."""
        scores: dict[str, float] = {}
        for each in recalled:  # of sentences that are translated alike the best
            scores.setdefault(each.translation, each.score)
        highest = recalled[0].score if recalled else 0.0
        shares = {text: math.exp(score - highest) for text, score in list(scores.items())[: self.rule.voices]}
        shares = {text: share for text, share in shares.items() if share > self.rule.negligible}
        return [(Hypothesis(text, math.nan), share / sum(shares.values())) for text, share in shares.items()]

    def trust(self, best: Recalled) -> float:
        """1 where the best sentence is as far from what was heard as ``gap`` says, more where it is nearer."""
        return math.exp(self.rule.trust * (1 - self._at_least(best.gap) / self._at_least(self.gap)))

    def _at_least(self, gap: float) -> float:
        return max(gap, self.rule.nearest)

    def _direction(self, source: str, target: str) -> _Direction | None:
        wanted = _direction(source, target)
        if wanted not in self._directions and wanted not in self._missed:
            self._missed.add(wanted)
            there = ", ".join("-".join(each) for each in self._directions)
            console.print(f"{self.name}: nothing of {'-'.join(wanted)} in it, only of {there}", markup=False)
        return self._directions.get(wanted)


def _direction(source: str, target: str) -> tuple[str, str]:
    return get_language(source).code, get_language(target).code


def read_memory(manifests: Sequence[str | Path], gap: float = MEMORY_GAP) -> TranslationMemory:
    """The rows of manifests that have both texts.

    Raises:
        UsageError: there are none, or no such gap.
        ManifestError: a manifest that cannot be used.
    """
    from comsl.data.manifest import load_manifest  # heavy, and only needed with a memory

    names = ("source_language", "target_language", "transcript", "translation")
    rows: list[MemoryRow] = []
    for manifest in manifests:
        table = load_manifest(Path(manifest)).data
        for row in zip(*(table.column(name).to_pylist() for name in names), strict=True):
            if row[1] is not None and (row[2] or "").strip() and (row[3] or "").strip():
                rows.append(row)
    name = f"--memory {', '.join(map(str, manifests))}"
    if not rows:
        raise UsageError(f"{name}: no row has both a transcript and a translation")
    return TranslationMemory(rows, gap, name)
