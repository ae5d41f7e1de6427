"""Welsh: verb first, everything said with "bod" (to be) and a verb-noun, initial mutations.

What is there: the soft mutation (feminine singular nouns after the article, adjectives after them, after dy, dau, dwy,
i, am, ar, hen, predicative yn, rhaid i, ei), the nasal mutation after fy, the aspirate mutation after tri, chwe, â,
na; the article as y, yr or 'r; feminine numerals and the commonest feminine adjectives; singular after numerals.

What is simplified: colloquial southern forms only ("dw i", "e"); "yn" is shortened to 'n only after pronouns and
"pwy sy"; the verb is never inflected but for the future of bod; saith, wyth and deg mutate nothing; plural
adjectives do not exist; the doubled pronoun after a possessive (fy nghath i) is left out; in "pwy mae'r dyn yn ei
weld" the clitic is always the masculine ei; i, â and ein stay apart (not i'n, â'n); personal names never mutate.
"""

from __future__ import annotations

from ..lexicon import NUMBERS, PREPOSITIONS
from ..meaning import Clause, Phrase, sentence

_VOWELS = "aeiouwyâêîôûŵŷ"
_SOFT = {"ll": "l", "rh": "r", "p": "b", "t": "d", "c": "g", "b": "f", "d": "dd", "g": "", "m": "f"}
_NASAL = {"p": "mh", "t": "nh", "c": "ngh", "b": "m", "d": "n", "g": "ng"}
_ASPIRATE = {"p": "ph", "t": "th", "c": "ch"}
_DIGRAPHS = ("ch", "dd", "ff", "ng", "ph", "th")  # letters of their own; they do not mutate
_UNMUTATED = ("y", "fy", "dy", "ein")
_ARTICLE = "Y"  # y, yr or 'r: decided when the words are joined
_PERSONS = ("i", "you", "he", "she", "we", "noun")
_BE = {
    "present": ("dw i", "rwyt ti", "mae e", "mae hi", "rydyn ni", "mae"),
    "present negated": ("dw i ddim", "dwyt ti ddim", "dydy e ddim", "dydy hi ddim", "dydyn ni ddim", "dydy"),
    "present question": ("ydw i", "wyt ti", "ydy e", "ydy hi", "ydyn ni", "ydy"),
    "future": ("bydda i", "byddi di", "bydd e", "bydd hi", "byddwn ni", "bydd"),
    "future negated": ("fydda i ddim", "fyddi di ddim", "fydd e ddim", "fydd hi ddim", "fyddwn ni ddim", "fydd"),
    "future question": ("fydda i", "fyddi di", "fydd e", "fydd hi", "fyddwn ni", "fydd"),
}
_THAT = ("fy mod i", "dy fod ti", "ei fod e", "ei bod hi", "ein bod ni", "bod")
_FOR = ("i mi", "i ti", "iddo fe", "iddi hi", "i ni", "i")
_FEMININE_NUMBERS = {2: "dwy", 3: "tair", 4: "pedair"}
_BEFORE_NOUNS = {5: "pum", 6: "chwe"}


def _mutate(word: str, table: dict[str, str]) -> str:
    if word[:1].isupper() or word in _UNMUTATED:
        return word
    for letters in (word[:2], word[:1]):
        if letters in _DIGRAPHS:
            return word
        if letters in table:
            return table[letters] + word[len(letters) :]
    return word


def soft(word: str) -> str:
    """pont -> bont, gardd -> ardd, llyfr -> lyfr."""
    return _mutate(word, _SOFT)


def limited_soft(word: str) -> str:
    """The soft mutation after the article and predicative yn, which spares ll and rh."""
    return word if word[:2] in ("ll", "rh") else soft(word)


def nasal(word: str) -> str:
    """ci -> nghi, plentyn -> mhlentyn."""
    return _mutate(word, _NASAL)


def aspirate(word: str) -> str:
    """ci -> chi, tad -> thad."""
    return _mutate(word, _ASPIRATE)


def _first(words: list[str], mutation: str) -> list[str]:
    """Mutate the first word of a phrase."""
    change = {"soft": soft, "aspirate": aspirate}[mutation]
    return [change(words[0]), *words[1:]] if words[0] != _ARTICLE else words


def _counted(number: int, feminine: bool, noun: str) -> list[str]:
    word = NUMBERS[number]["cy"]
    if feminine:
        word = _FEMININE_NUMBERS.get(number, word)
    word = _BEFORE_NOUNS.get(number, word)
    if number == 2:
        return [word, soft(noun)]
    return [word, aspirate(noun) if word in ("tri", "chwe") else noun]


def noun_phrase(phrase: Phrase) -> list[str]:
    """Article or possessive, noun, adjective, with their mutations. Not for pronouns."""
    number = phrase.determiner if isinstance(phrase.determiner, int) else None
    plural = phrase.plural and number is None  # a counted noun is singular
    noun = phrase.head.form("cy", plural)
    if phrase.determiner == "":
        return [noun]
    feminine = phrase.head.gender("cy") == "f" and not plural
    before, after = [], []
    if phrase.adjective:
        forms = phrase.adjective.forms["cy"]
        if "pre" in forms:
            before, noun = [forms[0]], soft(noun)
        else:
            after = [soft(forms[1])] if feminine else [forms[0]]
    words = [*before, noun]
    if number is not None:
        return [*_counted(number, feminine, words[0]), *words[1:], *after]
    if phrase.determiner == "the":
        start = limited_soft(words[0]) if feminine and not before else words[0]
        return [_ARTICLE, start, *words[1:], *after]
    if phrase.determiner == "my":
        return ["fy", nasal(words[0]), *words[1:], *after]
    if phrase.determiner == "your":
        return ["dy", soft(words[0]), *words[1:], *after]
    if phrase.determiner == "our":
        start = "h" + words[0] if words[0][0] in _VOWELS else words[0]
        return ["ein", start, *words[1:], *after]
    return [*words, *after]


def _join(words: list[str]) -> list[str]:
    """Decide each article: 'r after a vowel, yr before a vowel or h, else y."""
    parts = [part for group in words for part in group.split(" ") if part]
    joined: list[str] = []
    for index, part in enumerate(parts):
        if part != _ARTICLE:
            joined.append(part)
        elif joined and joined[-1][-1] in _VOWELS:
            joined[-1] += "'r"
        else:
            joined.append("yr" if parts[index + 1][0] in _VOWELS + "h" else "y")
    return joined


def _be(clause: Clause, table: str) -> list[str]:
    """The verb bod with its subject and, negated, with ddim."""
    forms = _BE[table]
    if clause.subject.pronoun:
        return [forms[_PERSONS.index(clause.subject.pronoun)]]
    return [forms[-1], *noun_phrase(clause.subject), "ddim" if clause.negated else ""]


def _aspect(words: list[str], particle: str) -> list[str]:
    """Append yn (as 'n straight after a pronoun) or another particle."""
    last = words[-1].split(" ")[-1] if words[-1] else ""
    if particle == "yn" and last in ("i", "ti", "di", "e", "hi", "ni"):
        return [*words[:-1], words[-1] + "'n"]
    return [*words, particle]


def _object(clause: Clause) -> list[str]:
    """The object with the verb's preposition, then the recipient."""
    preposition = clause.forms("cy")[1:]
    words = noun_phrase(clause.object) if clause.object else []
    if preposition and words:
        words = [*preposition, *_first(words, "aspirate" if preposition[0] == "â" else "soft")]
    if clause.recipient:
        words = [*words, "i", *_first(noun_phrase(clause.recipient), "soft")]
    return words


def _where(clause: Clause) -> list[str]:
    return [PREPOSITIONS[clause.place[0]]["cy"], *noun_phrase(clause.place[1])] if clause.place else []


def _when(clause: Clause) -> list[str]:
    words = [clause.time.forms["cy"]] if clause.time else []
    if clause.hour is not None:
        hour = NUMBERS[clause.hour]["cy"]
        words.append(f"am hanner awr wedi {hour}" if clause.half else f"am {soft(hour)} o'r gloch")
    return words


def _verb_noun(clause: Clause) -> list[str]:
    """What stands between bod and the verb-noun, and the verb-noun."""
    verb = clause.forms("cy")[0]
    return {
        "perfect": ["wedi", verb],
        "can": ["yn", "gallu", verb],
        "want": ["eisiau", verb],
    }.get(clause.tense, ["yn", verb])


def _must(clause: Clause) -> list[str]:
    """Rhaid i'r dyn ddarllen: it is necessary for the man to read."""
    pronoun = clause.subject.pronoun
    if pronoun:
        subject = [_FOR[_PERSONS.index(pronoun)]]
    else:
        subject = ["i", *_first(noun_phrase(clause.subject), "soft")]
    start = ["oes rhaid"] if clause.question else ["rhaid"]
    return [*start, *subject, soft(clause.forms("cy")[0]), *_object(clause), *_where(clause)]


def _predicate(clause: Clause) -> list[str]:
    """With its particle in front."""
    if clause.adjective is None:
        return _where(clause)
    positive, _, comparative = clause.adjective.forms["cy"][:3]
    if clause.kind == "compare" and clause.object:
        other = _first(noun_phrase(clause.object), "aspirate")
        than = "nag" if other[0] != _ARTICLE and other[0][0].lower() in _VOWELS else "na"
        return ["yn", limited_soft(comparative), than, *other]
    return ["yn", limited_soft(positive)]


def _main(clause: Clause) -> list[str]:
    if clause.kind in ("action", "who_object") and clause.tense == "must":
        return _must(clause)
    table = "future" if clause.tense == "future" else "present"
    table += " negated" if clause.negated else " question" if clause.question and clause.kind != "who_object" else ""
    words = [word for word in _be(clause, table) if word]
    rest = _predicate(clause) if clause.kind in ("state", "compare", "place") else _verb_noun(clause)
    words = _aspect(words, rest[0]) + rest[1:] if rest[0] == "yn" and clause.kind != "place" else words + rest
    if clause.kind == "action":
        words = words + _object(clause) + _where(clause)
    return words


def _subordinate(clause: Clause) -> list[str]:
    """achos bod y ci yn cysgu: a noun clause, with bod instead of mae."""
    pronoun = clause.subject.pronoun
    words = [_THAT[_PERSONS.index(pronoun)]] if pronoun else ["bod", *noun_phrase(clause.subject)]
    rest = _predicate(clause) if clause.kind in ("state", "compare", "place") else _verb_noun(clause)
    words = _aspect(words, rest[0]) + rest[1:]
    return words + (_object(clause) + _where(clause) if clause.kind == "action" else [])


def _who_subject(clause: Clause) -> list[str]:
    start = {"perfect": ["pwy sydd"], "want": ["pwy sydd"], "future": ["pwy fydd yn"]}.get(clause.tense, ["pwy sy'n"])
    rest = _verb_noun(clause)
    return [*start, *(rest[1:] if rest[0] == "yn" else rest), *_object(clause), *_where(clause)]


def realize(clause: Clause) -> str:
    """The Welsh sentence."""
    when = _when(clause)
    if clause.kind == "exist":
        start = ["does", "dim"] if clause.negated else ["mae"]
        return sentence(_join([*start, *noun_phrase(clause.subject), *_where(clause)]))
    if clause.kind == "where":
        return sentence(_join(["ble", "mae", *noun_phrase(clause.subject)]), "?")
    if clause.kind == "who_subject":
        return sentence(_join([*_who_subject(clause), *when]), "?")
    if clause.kind == "who_object":
        words = _main(clause)
        return sentence(_join(["pwy", *words[:-1], "ei", soft(words[-1]), *when]), "?")
    if clause.fronted and when and not clause.question:
        words = [*when, *_main(clause)]
    else:
        words = [*_main(clause), *when]
    if clause.reason:
        words += ["achos", *_subordinate(clause.reason)]
    return sentence(_join(words), "?" if clause.question else ".")
