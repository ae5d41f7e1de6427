"""What a sentence of the demo world says, before any language says it."""

from __future__ import annotations

from dataclasses import dataclass

from .lexicon import Adjective, Noun, Time, Verb

PRONOUNS = ("i", "you", "he", "she", "we")
POSSESSIVES = ("my", "your", "our")


@dataclass(frozen=True)
class Phrase:
    """A noun phrase or a pronoun.

    Attributes:
        noun: None for a pronoun.
        determiner: "the", "a", "my", "your", "our", "" (names), or a number from 2 to 10.
        plural: of the noun; always true for a number.
        adjective: or None.
        pronoun: one of `PRONOUNS`, or None.
    """

    noun: Noun | None = None
    determiner: str | int = "the"
    plural: bool = False
    adjective: Adjective | None = None
    pronoun: str | None = None

    @property
    def person(self) -> str:
        """i, you, he (any third person singular), we or they: what the verb agrees with."""
        if self.pronoun is not None:
            return "he" if self.pronoun == "she" else self.pronoun
        return "they" if self.plural else "he"

    @property
    def head(self) -> Noun:
        """The noun; an error for a pronoun."""
        if self.noun is None:
            raise ValueError("a pronoun has no noun")
        return self.noun

    @property
    def indefinite(self) -> bool:
        return self.determiner == "a"


@dataclass(frozen=True)
class Clause:
    """One sentence.

    Attributes:
        kind: action (with a verb), state (X is red), compare (X is bigger than Y), place (X is in Y), exist (there is
            an X in Y), who_subject (who sees X?), who_object (whom does X see?), where (where is X?).
        tense: present, perfect, future, can, want or must.
        time, hour, half: adverb of time, clock time from 1 to 12, half past it.
        place: (preposition key, phrase).
        reason: a clause introduced by "because".
        fronted: the source language may put the time (or, in German, the object) first; English never does.
    """

    kind: str
    subject: Phrase
    verb: Verb | None = None
    object: Phrase | None = None
    recipient: Phrase | None = None
    adjective: Adjective | None = None
    tense: str = "present"
    negated: bool = False
    question: bool = False
    time: Time | None = None
    hour: int | None = None
    half: bool = False
    place: tuple[str, Phrase] | None = None
    reason: Clause | None = None
    fronted: bool = False

    def forms(self, language: str) -> tuple[str, ...]:
        """The verb's forms in `language`."""
        if self.verb is None:
            raise ValueError(f"a clause of kind {self.kind} has no verb")
        return self.verb.forms[language]


def sentence(words: list[str], end: str = ".") -> str:
    """Join words, no space before a comma, first letter in capitals."""
    text = " ".join(word for word in words if word).replace(" ,", ",")
    for index, letter in enumerate(text):
        if letter.isalpha():
            text = text[:index] + letter.upper() + text[index + 1 :]
            break
    return text + end
