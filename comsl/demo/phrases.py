"""The phrase book of the CoVoST 2 miniature: short texts that say the same in English and 21 other languages.

Four slots (an opening, a moment, an action, a remark), 10 to 12 phrases each. A sentence is two or three of the slots,
one phrase each, so that any choice is correct in every language and thousands of them differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from comsl.languages import WITHOUT_SPACES

BOOK = Path(__file__).parent / "phrases.yaml"
READING = "ja_reading"

Sentence = tuple[tuple[str, int], ...]
"""(slot, number of the phrase) for each slot that is said."""


@dataclass(frozen=True)
class PhraseBook:
    """Language -> slot -> phrases."""

    phrases: Mapping[str, Mapping[str, list[str]]]

    def text(self, sentence: Sentence, language: str) -> str:
        """The sentence as it is written."""
        joint = "" if language in WITHOUT_SPACES else " "
        return joint.join(self.phrases[language][slot][number] for slot, number in sentence)

    def reading(self, sentence: Sentence, language: str) -> str:
        """The sentence as the synthesiser has to be given it: Japanese in kana, with pauses between the phrases."""
        phrases = self.phrases[READING if language == "ja" else language]
        return " ".join(phrases[slot][number] for slot, number in sentence)

    def sentences(self) -> list[Sentence]:
        """All sentences of two and of three slots."""
        book = self.phrases["en"]
        choices = [slots for count in (2, 3) for slots in itertools.combinations(book, count)]
        return [
            tuple(zip(slots, numbers, strict=True))
            for slots in choices
            for numbers in itertools.product(*(range(len(book[slot])) for slot in slots))
        ]


@lru_cache(maxsize=1)
def load_phrases() -> PhraseBook:
    """The book that ships."""
    return PhraseBook(yaml.safe_load(BOOK.read_text(encoding="utf-8")))
