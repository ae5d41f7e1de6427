"""English: the target language. Subject, verb, objects, place, time."""

from __future__ import annotations

from ..lexicon import NUMBERS, PREPOSITIONS
from ..meaning import Clause, Phrase, sentence

_BE = {"i": "am", "you": "are", "he": "is", "we": "are", "they": "are"}
_EARLY = ("often", "always", "already")  # between subject and verb


def noun_phrase(phrase: Phrase, negative: bool = False) -> list[str]:
    """ "the old man", "three red apples", "he" """
    if phrase.pronoun:
        return ["I" if phrase.pronoun == "i" else phrase.pronoun]
    words = [phrase.adjective.forms["en"][0]] if phrase.adjective else []
    words.append(phrase.head.form("en", phrase.plural))
    if phrase.determiner == "":
        return words
    if isinstance(phrase.determiner, int):
        return [NUMBERS[phrase.determiner]["en"], *words]
    if phrase.determiner == "a":
        if negative:
            return ["no", *words]
        return ["an" if words[0][0] in "aeiou" else "a", *words]
    return [phrase.determiner, *words]


def _third(clause: Clause) -> bool:
    return clause.subject.person == "he"


def _when(clause: Clause) -> list[str]:
    words = [clause.time.forms["en"]] if clause.time and clause.time.key not in _EARLY else []
    if clause.hour is not None:
        words.append(f"at {'half past ' if clause.half else ''}{NUMBERS[clause.hour]['en']}")
        if not clause.half:
            words.append("o'clock")
    return words


def _where(clause: Clause) -> list[str]:
    if clause.place is None:
        return []
    preposition, phrase = clause.place
    return [PREPOSITIONS[preposition]["en"], *noun_phrase(phrase)]


def _verb_group(clause: Clause) -> tuple[str, list[str]]:
    """(auxiliary or "", the rest of the verb group); "do" is an auxiliary where English needs one."""
    base, third, participle = clause.forms("en")[:3]
    he = _third(clause)
    does = "does" if he else "do"
    needs_do = clause.negated or clause.question
    if clause.tense == "perfect":
        return "has" if he else "have", [participle]
    if clause.tense == "future":
        return "will", [base]
    if clause.tense in ("can", "must"):
        return clause.tense, [base]
    if clause.tense == "want":
        return (does, ["want", "to", base]) if needs_do else ("", ["wants" if he else "want", "to", base])
    return (does, [base]) if needs_do else ("", [third if he else base])


def _complement(clause: Clause) -> list[str]:
    """What follows the verb group."""
    words = list(clause.forms("en")[3:]) if clause.verb else []
    if clause.object:
        words += noun_phrase(clause.object)
    if clause.recipient:
        words += ["to", *noun_phrase(clause.recipient)]
    return words + _where(clause) + _when(clause)


def _action(clause: Clause, subject: list[str]) -> list[str]:
    auxiliary, rest = _verb_group(clause)
    early = [clause.time.forms["en"]] if clause.time and clause.time.key in _EARLY else []
    negation = ["not"] if clause.negated else []
    if clause.question:
        return [auxiliary, *subject, *negation, *early, *rest, *_complement(clause)]
    if auxiliary == "can" and clause.negated:
        auxiliary, negation = "cannot", []
    return [*subject, auxiliary, *negation, *early, *rest, *_complement(clause)]


def _copula(clause: Clause) -> list[str]:
    if clause.kind == "compare" and clause.adjective and clause.object:
        rest = [clause.adjective.forms["en"][1], "than", *noun_phrase(clause.object)]
    elif clause.kind == "state" and clause.adjective:
        rest = [clause.adjective.forms["en"][0]]
    else:
        rest = _where(clause)
    rest += _when(clause)
    negation = ["not"] if clause.negated else []
    be, subject = _BE[clause.subject.person], noun_phrase(clause.subject)
    return [be, *subject, *negation, *rest] if clause.question else [*subject, be, *negation, *rest]


def _words(clause: Clause) -> list[str]:
    if clause.kind in ("state", "compare", "place"):
        return _copula(clause)
    if clause.kind == "exist":
        be = "are" if clause.subject.plural else "is"
        return ["there", be, *noun_phrase(clause.subject, clause.negated), *_where(clause)]
    if clause.kind == "where":
        return ["where", _BE[clause.subject.person], *noun_phrase(clause.subject)]
    if clause.kind == "who_subject":
        return _action(clause, ["who"])
    if clause.kind == "who_object":
        auxiliary, rest = _verb_group(clause)
        return ["who", auxiliary, *noun_phrase(clause.subject), *rest, *_when(clause)]
    return _action(clause, noun_phrase(clause.subject))


def realize(clause: Clause) -> str:
    """The English sentence."""
    if clause.kind == "who_subject":  # asks about the subject: no inversion, no "do"
        return sentence(_action(clause, ["who"]), "?")
    words = _words(clause)
    if clause.reason:
        words += ["because", *_words(clause.reason)]
    return sentence(words, "?" if clause.question or clause.kind in ("who_object", "where") else ".")
