"""Spanish: dropped subject pronouns, adjectives after the noun, ser and estar, "a" before persons and animals,
questions with the verb first."""

from __future__ import annotations

from ..lexicon import NUMBERS, PREPOSITIONS, Adjective
from ..meaning import Clause, Phrase, sentence

_PERSONS = ("i", "you", "he", "we", "they")
_AUXILIARIES = {
    "perfect": ("he", "has", "ha", "hemos", "han"),
    "future": ("voy", "vas", "va", "vamos", "van"),
    "can": ("puedo", "puedes", "puede", "podemos", "pueden"),
    "want": ("quiero", "quieres", "quiere", "queremos", "quieren"),
    "must": ("debo", "debes", "debe", "debemos", "deben"),
    "ser": ("soy", "eres", "es", "somos", "son"),
    "estar": ("estoy", "estás", "está", "estamos", "están"),
}
_ARTICLES = {"m": ("el", "los"), "f": ("la", "las")}
_EARLY = ("always", "already")  # before the verb


def _adjective(adjective: Adjective, gender: str, plural: bool) -> str:
    return adjective.forms["es"][(gender == "f") + 2 * plural]


def noun_phrase(phrase: Phrase, negative: bool = False) -> list[str]:
    """Article, noun, agreeing adjective; nothing for a pronoun that Spanish drops."""
    if phrase.pronoun:
        return {"he": ["él"], "she": ["ella"]}.get(phrase.pronoun, [])
    gender, plural = phrase.head.gender("es"), phrase.plural
    words = [phrase.head.form("es", plural)]
    if phrase.adjective:
        words.append(_adjective(phrase.adjective, gender, plural))
    determiner = phrase.determiner
    if determiner == "":
        return words
    if isinstance(determiner, int):
        return [NUMBERS[determiner]["es"], *words]
    if determiner == "the":
        return [_ARTICLES[gender][plural], *words]
    if determiner == "a":
        if negative:
            return ["ninguna" if gender == "f" else "ningún", *words]
        return ["una" if gender == "f" else "un", *words]
    if determiner == "our":
        return ["nuestr" + ("a" if gender == "f" else "o") + "s" * plural, *words]
    return [{"my": "mi", "your": "tu"}[determiner] + "s" * plural, *words]


def _with(preposition: str, words: list[str]) -> list[str]:
    """a + el = al, de + el = del."""
    head = preposition.split()
    if words[0] == "el" and head[-1] in ("a", "de"):
        return [*head[:-1], "al" if head[-1] == "a" else "del", *words[1:]]
    return [*head, *words]


def _finite(forms: tuple[str, ...], person: str) -> str:
    return forms[_PERSONS.index(person)]


def _verb(clause: Clause, person: str) -> list[str]:
    infinitive, first, third, participle = clause.forms("es")
    if clause.tense == "present":
        plural = infinitive[:-2] + {"ar": "amos", "er": "emos", "ir": "imos"}[infinitive[-2:]]
        return [_finite((first, third + "s", third, plural, third + "n"), person)]
    auxiliary = _finite(_AUXILIARIES[clause.tense], person)
    if clause.tense == "perfect":
        return [auxiliary, participle]
    return [auxiliary, "a", infinitive] if clause.tense == "future" else [auxiliary, infinitive]


def _object(clause: Clause) -> list[str]:
    words: list[str] = []
    if clause.object:
        words = noun_phrase(clause.object)
        kind = clause.object.head.kind
        if kind in ("person", "name") or (kind == "animal" and clause.verb and "p" in clause.verb.objects):
            words = _with("a", words)
    if clause.recipient:
        words += _with("a", noun_phrase(clause.recipient))
    return words


def _where(clause: Clause) -> list[str]:
    if clause.place is None:
        return []
    preposition, phrase = clause.place
    return _with(PREPOSITIONS[preposition]["es"], noun_phrase(phrase))


def _when(clause: Clause) -> list[str]:
    words = [clause.time.forms["es"]] if clause.time and clause.time.key not in _EARLY else []
    if clause.hour is not None:
        hour = "la una" if clause.hour == 1 else f"las {NUMBERS[clause.hour]['es']}"
        words.append(f"a {hour}{' y media' if clause.half else ''}")
    return words


def _group(clause: Clause) -> tuple[list[str], list[str]]:
    """(negation, early adverb and verb group; what follows it)."""
    early = [clause.time.forms["es"]] if clause.time and clause.time.key in _EARLY else []
    negation = ["no"] if clause.negated else []
    if clause.kind in ("state", "compare", "place"):
        adjective = clause.adjective
        be = "estar" if clause.kind == "place" or (adjective and "estar" in adjective.forms["es"]) else "ser"
        verb = [_finite(_AUXILIARIES[be], clause.subject.person)]
        if adjective is None:
            return negation + verb, _where(clause)
        subject = clause.subject
        gender = "f" if subject.pronoun == "she" else subject.noun.gender("es") if subject.noun else "m"
        predicate = [_adjective(adjective, gender, subject.person in ("we", "they"))]
        if clause.kind == "compare" and clause.object:
            predicate = ["más", *predicate, "que", *noun_phrase(clause.object)]
        return negation + verb, predicate
    person = "he" if clause.kind == "who_subject" else clause.subject.person
    return negation + early + _verb(clause, person), _object(clause) + _where(clause)


def _words(clause: Clause) -> list[str]:
    verb, rest = _group(clause)
    subject, when = noun_phrase(clause.subject), _when(clause)
    if clause.question:
        return [*verb, *subject, *rest, *when]
    if clause.fronted and when:
        return [*when, *subject, *verb, *rest]
    return [*subject, *verb, *rest, *when]


def realize(clause: Clause) -> str:
    """The Spanish sentence."""
    if clause.kind == "exist":
        something = noun_phrase(clause.subject, clause.negated)
        return sentence(["no" if clause.negated else "", "hay", *something, *_where(clause)])
    if clause.kind == "where":
        be = _finite(_AUXILIARIES["estar"], clause.subject.person)
        return sentence(["¿dónde", be, *noun_phrase(clause.subject)], "?")
    if clause.kind == "who_subject":
        verb, rest = _group(clause)
        return sentence(["¿quién", *verb, *rest, *_when(clause)], "?")
    if clause.kind == "who_object":
        verb, rest = _group(clause)
        return sentence(["¿a quién", *verb, *noun_phrase(clause.subject), *rest, *_when(clause)], "?")
    words = _words(clause)
    if clause.reason:
        words += ["porque", *_words(clause.reason)]
    if clause.question:
        words[0] = "¿" + words[0]
    return sentence(words, "?" if clause.question else ".")
