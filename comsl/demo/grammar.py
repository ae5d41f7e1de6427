"""A synchronous grammar: one random meaning, said in German, Spanish, French or Welsh and in English.

The four source languages differ from English, and from each other, in what makes translation more than a word list:
German puts the finite verb second and the rest of the verb last, splits prefixes off and marks by case alone who does
what; Spanish drops pronouns, French wraps the verb in its negation, both put adjectives after nouns; Welsh starts with
the verb and mutates initial letters. Subject and object come from the same nouns, so a bag of words cannot say who
sees whom; negation belongs to one of two clauses.

A meaning says the same in English whatever the word order of the source, so that one reference is enough.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .lexicon import Adjective, Lexicon, Noun, Verb, common_lexicon
from .meaning import POSSESSIVES, PRONOUNS, Clause, Phrase
from .realize import REALIZERS

SOURCE_LANGUAGES = ("de", "es", "fr", "cy")
MIN_WORDS, MAX_WORDS = 3, 12
HELD_OUT_SEED = 77
TEST_PAIRS, DEV_PAIRS = 300, 200

_KINDS = {
    "action": 0.58, "give": 0.1, "state": 0.07, "compare": 0.06, "place": 0.06, "exist": 0.04, "who_subject": 0.03,
    "who_object": 0.03, "where": 0.03,
}  # fmt: skip
_TENSES = {"present": 0.4, "perfect": 0.2, "future": 0.15, "can": 0.1, "want": 0.1, "must": 0.05}
_TENSE_LETTER = {"present": "r", "perfect": "x", "future": "f"}
_OBJECT_KINDS = {
    "p": ("person", "animal", "name"), "n": ("animal",), "r": ("readable",), "f": ("food",), "d": ("drink",),
    "t": ("thing",), "o": ("place",), ">": ("thing", "readable", "food"),
}  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """A sentence and its English translation."""

    language: str
    source: str
    english: str


class Sampler:
    """Draws meanings; deterministic given the generator."""

    def __init__(self, rng: np.random.Generator, lexicon: Lexicon | None = None) -> None:
        self.rng = rng
        self.lexicon = lexicon or common_lexicon()
        self._nouns: dict[tuple[str, ...], tuple[Noun, ...]] = {}

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def choose(self, items: Iterable):  # type: ignore[no-untyped-def]
        sequence = tuple(items)
        return sequence[int(self.rng.integers(len(sequence)))]

    def weighted(self, weights: dict[str, float]) -> str:
        return str(self.rng.choice(list(weights), p=np.array(list(weights.values())) / sum(weights.values())))

    def noun(self, *kinds: str) -> Noun:
        if kinds not in self._nouns:
            self._nouns[kinds] = tuple(noun for noun in self.lexicon.nouns if noun.kind in kinds)
        return self.choose(self._nouns[kinds])

    def adjective(self, noun: Noun | None, comparative: bool = False) -> Adjective:
        letter = "p" if noun is None else {"person": "p", "name": "p", "animal": "n", "place": "l"}.get(noun.kind, "t")
        fitting = [a for a in self.lexicon.adjectives if letter in a.kind]
        if comparative:
            fitting = [a for a in fitting if a.forms["en"][1] != "-"]
        return self.choose(fitting)

    def phrase(self, *kinds: str, definite: bool = False, adjectives: float = 0.25, numbers: bool = True) -> Phrase:
        noun = self.noun(*kinds)
        if noun.kind == "name":
            return Phrase(noun, "")
        adjective = self.adjective(noun) if self.chance(adjectives) else None
        if not noun.countable:
            return Phrase(noun, self.choose(("the", "the", "my", "your")), False, adjective)
        draw = self.rng.random()
        if draw < 0.12 and numbers and not definite:
            return Phrase(noun, int(self.rng.integers(2, 11)), True, adjective)
        if draw < 0.24 and not definite:
            return Phrase(noun, "a", False, adjective)
        if draw < 0.4:
            return Phrase(noun, self.choose(POSSESSIVES), self.chance(0.2), adjective)
        return Phrase(noun, "the", self.chance(0.25), adjective)

    def subject(self, pronouns: float = 0.25) -> Phrase:
        if self.chance(pronouns):
            return Phrase(pronoun=self.choose(PRONOUNS))
        return self.phrase(*self.choose((("person",), ("person",), ("animal",), ("name",))))

    def setting(self, tense: str, negated: bool) -> dict:
        """Time, clock time, and whether the source may put them first."""
        letter = _TENSE_LETTER.get(tense, "m")
        fields: dict = {"fronted": self.chance(0.35)}
        if self.chance(0.4 if letter != "x" else 0.12):
            times = [time for time in self.lexicon.times if letter in time.tenses]
            if negated:
                times = [time for time in times if time.key not in ("often", "always", "already", "every day")]
            if times:
                fields["time"] = self.choose(times)
        day = fields.get("time")
        if day is not None and day.key in ("already", "always"):
            fields["fronted"] = False
        dated = day is None or day.key.startswith("on ") or day.key in ("today", "tomorrow")
        if letter != "x" and dated and self.chance(0.15):
            fields |= {"hour": int(self.rng.integers(1, 13)), "half": self.chance(0.3)}
        return fields

    def place(self) -> tuple[str, Phrase]:
        return "in", Phrase(self.noun("place"), "the")

    def clause(self) -> Clause:
        """Any sentence."""
        kind = self.weighted(_KINDS)
        return getattr(self, f"_{kind}")()

    def _verb(self, objects: str) -> Verb:
        return self.choose(verb for verb in self.lexicon.verbs if verb.objects == objects)

    def _object(self, verb: Verb, negated: bool, subject: Phrase | None = None) -> Phrase:
        kinds = [kind for letter in verb.objects for kind in _OBJECT_KINDS[letter]]
        while True:
            phrase = self.phrase(self.choose(kinds), numbers=not negated)
            if subject is None or phrase.noun != subject.noun:
                return phrase

    def _action(self) -> Clause:
        tense = self.weighted(_TENSES)
        subject = self.subject()
        negated = tense != "must" and self.chance(0.2)
        transitive = self.chance(0.78)
        verb = self.choose(v for v in self.lexicon.verbs if (v.objects == "-") != transitive and v.objects != ">")
        thing = self._object(verb, negated, subject) if transitive else None
        place = self.place() if self.chance(0.5 if not transitive else 0.12) else None
        question = self.chance(0.1)
        clause = Clause(
            "action", subject, verb, thing, tense=tense, negated=negated and not question, question=question,
            place=place, **self.setting(tense, negated),
        )  # fmt: skip
        if not clause.question and clause.time is None and clause.hour is None and self.chance(0.12):
            return Clause(**{**clause.__dict__, "place": None, "fronted": False, "reason": self._because()})
        return clause

    def _because(self) -> Clause:
        subject = self.subject(0.4)
        if self.chance(0.5):
            return Clause("state", subject, adjective=self.adjective(subject.noun))
        if self.chance(0.4):
            verb = self._verb("-")
            return Clause("action", subject, verb, tense="present")
        verb = self.choose(v for v in self.lexicon.verbs if v.objects not in ("-", ">"))
        return Clause("action", subject, verb, self._object(verb, False, subject))

    def _give(self) -> Clause:
        tense = self.weighted(_TENSES)
        subject, verb = self.subject(), self._verb(">")
        negated = tense != "must" and self.chance(0.15)
        thing = self._object(verb, negated)
        while True:
            recipient = self.phrase("person", "person", "name", numbers=False, adjectives=0.15)
            if recipient.noun != subject.noun:
                break
        settings = self.setting(tense, negated)
        return Clause("action", subject, verb, thing, recipient, tense=tense, negated=negated, **settings)

    def _state(self) -> Clause:
        subject = self.subject() if self.chance(0.5) else self.phrase("thing", "readable", "place", adjectives=0)
        if subject.adjective:
            subject = Phrase(subject.noun, subject.determiner, subject.plural)
        settings = self.setting("present", True) if subject.noun is None or subject.noun.animate else {}
        draw = self.rng.random()
        adjective = self.adjective(subject.noun)
        return Clause(
            "state", subject, adjective=adjective, negated=draw < 0.25, question=0.25 <= draw < 0.4, **settings
        )

    def _compare(self) -> Clause:
        kinds = self.choose((("person", "name"), ("animal",), ("thing",), ("place",)))
        subject = self.phrase(*kinds, definite=True, adjectives=0.1)
        adjective = self.adjective(subject.noun, comparative=True)
        if subject.adjective == adjective:
            subject = Phrase(subject.noun, subject.determiner, subject.plural)
        while True:
            other = self.phrase(*kinds, definite=True, adjectives=0.1)
            if other.noun != subject.noun:
                break
        draw = self.rng.random()
        return Clause(
            "compare", subject, object=other, adjective=adjective, negated=draw < 0.2, question=0.2 <= draw < 0.35
        )

    def _landmark(self) -> tuple[str, Phrase]:
        preposition = self.choose(("in", "in", "on", "under", "behind", "beside", "before"))
        if preposition == "in":
            return self.place()
        if preposition in ("on", "under"):
            tops = ("car", "table", "chair", "bed", "box", "bag", "boat")
            noun = self.choose(n for n in self.lexicon.nouns if n.key in tops)
        else:
            noun = self.noun("place", "thing")
        return preposition, Phrase(noun, self.choose(("the", "the", "my", "our")))

    def _place(self) -> Clause:
        subject = self.phrase(self.choose(("person", "animal", "thing", "readable", "food", "name")), definite=True)
        while True:
            preposition, landmark = self._landmark()
            if landmark.noun != subject.noun:
                break
        draw = self.rng.random()
        return Clause("place", subject, place=(preposition, landmark), negated=draw < 0.25, question=0.25 <= draw < 0.4)

    def _exist(self) -> Clause:
        while True:
            noun = self.noun("person", "animal", "thing")
            adjective = self.adjective(noun) if self.chance(0.3) else None
            preposition, landmark = self._landmark()
            if landmark.noun != noun:
                break
        fronted = self.chance(0.5)
        if self.chance(0.4):
            phrase = Phrase(noun, int(self.rng.integers(2, 11)), True, adjective)
            return Clause("exist", phrase, place=(preposition, landmark), fronted=fronted)
        phrase = Phrase(noun, "a", False, adjective)
        return Clause("exist", phrase, place=(preposition, landmark), fronted=fronted, negated=self.chance(0.4))

    def _who_subject(self) -> Clause:
        verb = self.choose(v for v in self.lexicon.verbs if v.objects not in ("-", ">"))
        tense = self.choose(("present", "present", "perfect", "future", "can", "want"))
        return Clause("who_subject", Phrase(pronoun="he"), verb, self._object(verb, False), tense=tense)

    def _who_object(self) -> Clause:
        fitting = [v for v in self.lexicon.verbs if "p" in v.objects and len(v.forms["cy"]) == 1]
        fitting = [v for v in fitting if len(v.forms["en"]) == 3]
        return Clause("who_object", self.subject(), self.choose(fitting), question=True)

    def _where(self) -> Clause:
        kind = self.choose(("person", "animal", "thing", "readable", "food", "name", "place"))
        return Clause("where", self.phrase(kind, definite=True))


def realize(clause: Clause, language: str) -> str:
    """The sentence for a meaning in "de", "es", "fr", "cy" or "en"."""
    return REALIZERS[language](clause)


def generate(language: str, count: int, seed: int, exclude: Iterable[str] = ()) -> list[Pair]:
    """`count` different sentence pairs of 3 to 12 words, neither side of which is in `exclude`.

    Deterministic in (language, count, seed, exclude); a longer list starts with the shorter one.
    """
    sampler = Sampler(np.random.default_rng([seed, *language.encode()]))
    excluded, seen = frozenset(exclude), set()
    pairs: list[Pair] = []
    while len(pairs) < count:
        clause = sampler.clause()
        source, english = realize(clause, language), realize(clause, "en")
        words = len(source.replace(" ?", "?").split())
        if source in seen or source in excluded or english in excluded or not MIN_WORDS <= words <= MAX_WORDS:
            continue
        seen.add(source)
        pairs.append(Pair(language, source, english))
    return pairs


@lru_cache
def held_out(language: str, split: str) -> tuple[Pair, ...]:
    """The pairs that everything is measured on: the first 300 are for "test", the next 200 for "dev"."""
    pairs = generate(language, TEST_PAIRS + DEV_PAIRS, HELD_OUT_SEED)
    return tuple({"test": pairs[:TEST_PAIRS], "dev": pairs[TEST_PAIRS:]}[split])


@lru_cache
def held_out_sentences() -> frozenset[str]:
    """Every sentence of `held_out`, in all languages, English among them: nothing is trained on any of them."""
    pairs = [pair for language in SOURCE_LANGUAGES for split in ("test", "dev") for pair in held_out(language, split)]
    return frozenset(text for pair in pairs for text in (pair.source, pair.english))


def words_of(language: str) -> list[str]:
    """Every dictionary form of `language`, for sequences of random words."""
    lexicon = common_lexicon()
    words = {form for noun in lexicon.nouns for form in noun.forms[language][1:] if form != "-"}
    words |= {form for a in lexicon.adjectives for form in a.forms[language] if form not in ("-", "pre", "estar")}
    words |= {form.replace("|", "") for v in lexicon.verbs for form in v.forms[language] if form not in ("sein", "dat")}
    return sorted(words)
