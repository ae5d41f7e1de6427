"""French: ne ... pas around the finite verb, most adjectives after the noun, elision and contraction."""

from __future__ import annotations

from ..lexicon import NUMBERS, PREPOSITIONS, Adjective
from ..meaning import Clause, Phrase, sentence

_PERSONS = ("i", "you", "he", "we", "they")
_PRONOUNS = {"i": "je", "you": "tu", "he": "il", "she": "elle", "we": "nous"}
_AUXILIARIES = {
    "perfect": ("ai", "as", "a", "avons", "ont"),
    "future": ("vais", "vas", "va", "allons", "vont"),
    "can": ("peux", "peux", "peut", "pouvons", "peuvent"),
    "want": ("veux", "veux", "veut", "voulons", "veulent"),
    "must": ("dois", "dois", "doit", "devons", "doivent"),
    "be": ("suis", "es", "est", "sommes", "sont"),
}
_EARLY = ("often", "always", "already")  # right after the finite verb
_VOWELS = "aeiouyàâéèêëîïôûùœh"  # every h of this vocabulary is mute, but for the number eight
_ASPIRATED = ("huit", "onze")


def _elides(word: str) -> bool:
    return word[0].lower() in _VOWELS and word not in _ASPIRATED


def _elide(words: list[str]) -> list[str]:
    """je, le, la, de, ne, que lose their vowel before another: l'homme, n'a, qu'il."""
    joined: list[str] = []
    for word in [part for group in words for part in group.split(" ") if part]:
        if joined and joined[-1] in ("je", "le", "la", "de", "ne", "que") and _elides(word):
            joined[-1] = joined[-1][:-1] + "'" + word
        else:
            joined.append(word)
    return joined


def _adjective(adjective: Adjective, gender: str, plural: bool) -> str:
    return adjective.forms["fr"][(gender == "f") + 2 * plural]


def noun_phrase(phrase: Phrase, negative: bool = False) -> list[str]:
    """Article, noun and agreeing adjective; `negative` makes "un" "de"."""
    if phrase.pronoun:
        return [_PRONOUNS[phrase.pronoun]]
    gender, plural = phrase.head.gender("fr"), phrase.plural
    words = [phrase.head.form("fr", plural)]
    if phrase.adjective:
        forms = phrase.adjective.forms["fr"]
        adjective = _adjective(phrase.adjective, gender, plural)
        if "pre" in forms:
            if len(forms) > 5 and gender == "m" and not plural and _elides(words[0]):
                adjective = forms[5]
            words.insert(0, adjective)
        else:
            words.append(adjective)
    determiner = phrase.determiner
    if determiner == "":
        return words
    if isinstance(determiner, int):
        return [NUMBERS[determiner]["fr"], *words]
    feminine = gender == "f"
    if determiner == "the":
        return ["les" if plural else "la" if feminine else "le", *words]
    if determiner == "a":
        return ["de" if negative else "une" if feminine else "un", *words]
    if determiner == "our":
        return ["nos" if plural else "notre", *words]
    stem = {"my": "m", "your": "t"}[determiner]
    ending = "es" if plural else "a" if feminine and not _elides(words[0]) else "on"
    return [stem + ending, *words]


def _with(preposition: str, words: list[str]) -> list[str]:
    """à + le = au, à + les = aux, de + le = du, de + les = des, but not before an elided article."""
    head = preposition.split()
    if head[-1] in ("à", "de") and (words[0] == "les" or (words[0] == "le" and not _elides(words[1]))):
        contracted = {"à": {"le": "au", "les": "aux"}, "de": {"le": "du", "les": "des"}}[head[-1]][words[0]]
        return [*head[:-1], contracted, *words[1:]]
    return [*head, *words]


def _finite(forms: tuple[str, ...], person: str) -> str:
    return forms[_PERSONS.index(person)]


def _verb(clause: Clause, person: str) -> tuple[str, list[str]]:
    """(finite verb, participle or infinitive)."""
    forms = clause.forms("fr")
    infinitive = forms[0]
    if len(forms) == 1:  # regular -er verb
        stem = infinitive[:-2]
        forms = (infinitive, *(stem + ending for ending in ("e", "es", "e", "ons", "ent", "é")))
    if clause.tense == "present":
        return _finite(forms[1:6], person), []
    finite = _finite(_AUXILIARIES[clause.tense], person)
    return finite, [forms[6] if clause.tense == "perfect" else infinitive]


def _where(clause: Clause) -> list[str]:
    if clause.place is None:
        return []
    preposition, phrase = clause.place
    return _with(PREPOSITIONS[preposition]["fr"], noun_phrase(phrase))


def _when(clause: Clause) -> list[str]:
    words = [clause.time.forms["fr"]] if clause.time and clause.time.key not in _EARLY else []
    if clause.hour is not None:
        hour = "une heure" if clause.hour == 1 else f"{NUMBERS[clause.hour]['fr']} heures"
        words.append(f"à {hour}{' et demie' if clause.half else ''}")
    return words


def _predicate(clause: Clause) -> list[str]:
    if clause.adjective is None:
        return _where(clause)
    subject = clause.subject
    gender = "f" if subject.pronoun == "she" else subject.noun.gender("fr") if subject.noun else "m"
    words = [_adjective(clause.adjective, gender, subject.person in ("we", "they"))]
    if clause.kind == "compare" and clause.object:
        words = ["plus", *words, "que", *noun_phrase(clause.object)]
    return words


def _group(clause: Clause) -> list[str]:
    """Verb group with its negation and everything after it but the time."""
    early = [clause.time.forms["fr"]] if clause.time and clause.time.key in _EARLY else []
    nonfinite: list[str] = []
    if clause.kind in ("state", "compare", "place"):
        finite, rest = _finite(_AUXILIARIES["be"], clause.subject.person), _predicate(clause)
    else:
        finite, nonfinite = _verb(clause, "he" if clause.kind == "who_subject" else clause.subject.person)
        rest = noun_phrase(clause.object, clause.negated) if clause.object else []
        if clause.recipient:
            rest = rest + _with("à", noun_phrase(clause.recipient))
        rest = rest + _where(clause)
    if clause.negated:
        return ["ne", finite, "pas", *early, *nonfinite, *rest]
    return [finite, *early, *nonfinite, *rest]


def _words(clause: Clause) -> list[str]:
    when = _when(clause)
    if clause.fronted and when and not clause.question:
        return [*when, ",", *noun_phrase(clause.subject), *_group(clause)]
    return [*noun_phrase(clause.subject), *_group(clause), *when]


def realize(clause: Clause) -> str:
    """The French sentence; a question mark stands after a space, as French prints it."""
    if clause.kind == "exist":
        verb = ["il n'y a pas"] if clause.negated else ["il y a"]
        return sentence(_elide([*verb, *noun_phrase(clause.subject, clause.negated), *_where(clause)]))
    if clause.kind == "where":
        be = _finite(_AUXILIARIES["be"], clause.subject.person)
        return sentence(_elide(["où", be, *noun_phrase(clause.subject)]), " ?")
    if clause.kind == "who_subject":
        return sentence(_elide(["qui", *_group(clause), *_when(clause)]), " ?")
    if clause.kind == "who_object":
        return sentence(_elide(["qui est-ce que", *noun_phrase(clause.subject), *_group(clause), *_when(clause)]), " ?")
    words = _words(clause)
    if clause.question:
        return sentence(_elide(["est-ce que", *words]), " ?")
    if clause.reason:
        words += ["parce que", *_words(clause.reason)]
    return sentence(_elide(words))
