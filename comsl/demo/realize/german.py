"""German: finite verb second, participles, infinitives and split-off prefixes last, verb-final subordinate clauses,
three genders and three of the four cases, three adjective declensions."""

from __future__ import annotations

from ..lexicon import NUMBERS, PREPOSITIONS
from ..meaning import Clause, Phrase, sentence

_PERSONS = ("i", "you", "he", "we", "they")
_PRONOUNS = {"i": "ich", "you": "du", "he": "er", "she": "sie", "we": "wir"}
_AUXILIARIES = {
    "haben": ("habe", "hast", "hat", "haben", "haben"),
    "sein": ("bin", "bist", "ist", "sind", "sind"),
    "future": ("werde", "wirst", "wird", "werden", "werden"),
    "can": ("kann", "kannst", "kann", "können", "können"),
    "want": ("will", "willst", "will", "wollen", "wollen"),
    "must": ("muss", "musst", "muss", "müssen", "müssen"),
}
_DEFINITE = {
    "nom": {"m": "der", "f": "die", "n": "das", "pl": "die"},
    "acc": {"m": "den", "f": "die", "n": "das", "pl": "die"},
    "dat": {"m": "dem", "f": "der", "n": "dem", "pl": "den"},
}
_EIN = {  # endings of ein, kein, mein, dein, unser
    "nom": {"m": "", "f": "e", "n": "", "pl": "e"},
    "acc": {"m": "en", "f": "e", "n": "", "pl": "e"},
    "dat": {"m": "em", "f": "er", "n": "em", "pl": "en"},
}
_WEAK = {"nom": {"m": "e", "f": "e", "n": "e"}, "acc": {"m": "en", "f": "e", "n": "e"}, "dat": {}}
_MIXED = {"nom": {"m": "er", "f": "e", "n": "es"}, "acc": {"m": "en", "f": "e", "n": "es"}, "dat": {}}
_POSSESSIVES = {"my": "mein", "your": "dein", "our": "unser"}


def _noun(phrase: Phrase, case: str) -> str:
    forms = phrase.head.forms["de"]
    if phrase.plural:
        plural = forms[2]
        return plural + "n" if case == "dat" and plural[-1] not in "ns" else plural
    return forms[3] if case != "nom" and len(forms) > 3 else forms[1]


def noun_phrase(phrase: Phrase, case: str, negative: bool = False) -> list[str]:
    """Article, declined adjective, noun; `negative` makes "ein" "kein"."""
    if phrase.pronoun:
        return [_PRONOUNS[phrase.pronoun]]
    noun = _noun(phrase, case)
    if phrase.determiner == "":
        return [noun]
    gender = "pl" if phrase.plural else phrase.head.gender("de")
    if isinstance(phrase.determiner, int):
        determiner, ending = NUMBERS[phrase.determiner]["de"], "en" if case == "dat" else "e"
    elif phrase.determiner == "the":
        determiner, ending = _DEFINITE[case][gender], _WEAK[case].get(gender, "en")
    else:
        stem = _POSSESSIVES.get(phrase.determiner, "kein" if negative else "ein")
        determiner, ending = stem + _EIN[case][gender], _MIXED[case].get(gender, "en")
    if phrase.adjective is None:
        return [determiner, noun]
    stem = phrase.adjective.forms["de"][0]
    stem = "teur" if stem == "teuer" else stem
    return [determiner, stem + ending, noun]


def _finite(forms: tuple[str, ...], person: str) -> str:
    return forms[_PERSONS.index(person)]


def _verb(clause: Clause, person: str) -> tuple[str, list[str], str]:
    """(finite verb, right bracket in a main clause, finite verb at the end of a subordinate clause)."""
    infinitive, first, second, third, participle, *extras = clause.forms("de")
    prefix, _, bare = infinitive.rpartition("|")
    whole = prefix + bare
    if clause.tense == "present":
        finite = _finite((first, second, third, bare, bare), person)
        return finite, [prefix] if prefix else [], prefix + finite
    if clause.tense == "perfect":
        finite = _finite(_AUXILIARIES["sein" if "sein" in extras else "haben"], person)
        return finite, [participle], finite
    finite = _finite(_AUXILIARIES[clause.tense], person)
    return finite, [whole], finite


def _object(clause: Clause) -> tuple[list[str], bool, bool]:
    """(words, the negation is inside as "kein", the object has a preposition)."""
    if clause.object is None:
        return [], False, False
    extras = clause.forms("de")[5:]
    case = "dat" if "dat" in extras else "acc"
    inside = clause.negated and clause.object.indefinite
    words = noun_phrase(clause.object, case, inside)
    prepositions = [extra for extra in extras if extra not in ("sein", "dat")]
    return prepositions + words, inside, bool(prepositions)


def _where(clause: Clause) -> list[str]:
    if clause.place is None:
        return []
    preposition, phrase = clause.place
    words = [PREPOSITIONS[preposition]["de"], *noun_phrase(phrase, "dat")]
    return ["im", *words[2:]] if words[:2] == ["in", "dem"] else words


def _when(clause: Clause) -> list[str]:
    words = [clause.time.forms["de"]] if clause.time else []
    if clause.hour is not None:
        if clause.half:  # halb vier is half past three
            words.append(f"um halb {_hour(clause.hour % 12 + 1, bare=True)}")
        else:
            words.append(f"um {_hour(clause.hour)} Uhr")
    return words


def _hour(hour: int, bare: bool = False) -> str:
    return "eins" if hour == 1 and bare else NUMBERS[hour]["de"]


def _middle(clause: Clause) -> list[str]:
    """Between the finite verb (and subject) and the right bracket: time, dative, object, negation, place."""
    words, inside, prepositional = _object(clause)
    recipient = noun_phrase(clause.recipient, "dat") if clause.recipient else []
    negation = ["nicht"] if clause.negated and not inside else []
    when = [] if clause.fronted and not _object_first(clause) else _when(clause)
    if _object_first(clause):
        words = []
    already = clause.time is not None and clause.time.key == "already"
    early, late = ([], when) if already else (when, [])
    if prepositional:
        return [*early, *recipient, *late, *negation, *words, *_where(clause)]
    return [*early, *recipient, *words, *late, *negation, *_where(clause)]


def _object_first(clause: Clause) -> bool:
    """Object, verb, subject: only without a time to put first, and only where the case shows who does what."""
    if not clause.fronted or clause.object is None or clause.question or clause.time or clause.hour is not None:
        return False
    if clause.negated and clause.object.indefinite:
        return False
    pair = (clause.subject, clause.object)
    return any(p.noun is not None and p.head.gender("de") == "m" and not p.plural and p.determiner for p in pair)


def _predicate(clause: Clause) -> list[str]:
    negation = ["nicht"] if clause.negated else []
    if clause.kind == "compare" and clause.adjective and clause.object:
        return [*negation, clause.adjective.forms["de"][1], "als", *noun_phrase(clause.object, "nom")]
    if clause.kind == "state" and clause.adjective:
        return [*negation, clause.adjective.forms["de"][0]]
    return [*negation, *_where(clause)]


def _main(clause: Clause) -> list[str]:
    subject = noun_phrase(clause.subject, "nom")
    person = clause.subject.person
    front = _when(clause) if clause.fronted and not clause.question else []
    bracket: list[str] = []
    if clause.kind in ("state", "compare", "place"):
        finite = _finite(_AUXILIARIES["sein"], person)
        middle = [*([] if front else _when(clause)), *_predicate(clause)]
    else:
        finite, bracket, _ = _verb(clause, person)
        middle = _middle(clause)
        if _object_first(clause):
            front = _object(clause)[0]
    if clause.question:
        return [finite, *subject, *middle, *bracket]
    if front:
        return [*front, finite, *subject, *middle, *bracket]
    return [*subject, finite, *middle, *bracket]


def _subordinate(clause: Clause) -> list[str]:
    subject = noun_phrase(clause.subject, "nom")
    if clause.kind in ("state", "compare", "place"):
        return [*subject, *_when(clause), *_predicate(clause), _finite(_AUXILIARIES["sein"], clause.subject.person)]
    _, bracket, last = _verb(clause, clause.subject.person)
    bracket = [] if clause.tense == "present" else bracket
    return [*subject, *_middle(clause), *bracket, last]


def realize(clause: Clause) -> str:
    """The German sentence."""
    if clause.kind == "exist":
        something = noun_phrase(clause.subject, "acc", clause.negated)
        words = (
            [*_where(clause), "gibt", "es", *something]
            if clause.fronted
            else ["es", "gibt", *something, *_where(clause)]
        )
        return sentence(words)
    if clause.kind == "where":
        be = _finite(_AUXILIARIES["sein"], clause.subject.person)
        return sentence(["wo", be, *noun_phrase(clause.subject, "nom")], "?")
    if clause.kind == "who_subject":
        finite, bracket, _ = _verb(clause, "he")
        return sentence(["wer", finite, *_middle(clause), *bracket], "?")
    if clause.kind == "who_object":
        finite, bracket, _ = _verb(clause, clause.subject.person)
        who = "wem" if "dat" in clause.forms("de") else "wen"
        return sentence([who, finite, *noun_phrase(clause.subject, "nom"), *_middle(clause), *bracket], "?")
    words = _main(clause)
    if clause.reason:
        words += [",", "weil", *_subordinate(clause.reason)]
    return sentence(words, "?" if clause.question else ".")
