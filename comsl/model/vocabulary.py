"""Language tokens: which ones a text tokenizer has, and how a language it lacks gets one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

from transformers import AddedToken, BatchEncoding

from comsl.errors import UsageError
from comsl.languages import LANGUAGES, get_language

Family = Literal["mbart50", "m2m100", "nllb"]
# How each family would write a language that nobody has a token for yet.
_NEW_TOKENS: dict[Family, str] = {"mbart50": "{}_XX", "m2m100": "__{}__", "nllb": "{}_Latn"}

WORD_START = "\N{LOWER ONE EIGHTH BLOCK}"
"""How sentencepiece writes the space in front of a word."""


class MissingLanguage(UsageError):
    """A language that this model has no token for."""


def token_id(tokenizer: Any, token: str) -> int | None:
    """Id of a token, None if the vocabulary lacks it."""
    found = tokenizer.convert_tokens_to_ids(token)
    return None if found is None or found == tokenizer.unk_token_id else found


def token_family(tokenizer: Any) -> Family:
    """Which family's language tokens the vocabulary has most of.

    Raises:
        UsageError: it has none; a text part must be a model with language tokens.
    """
    counts = {name: len(_tokens_of(tokenizer, name)) for name in get_args(Family)}
    family = max(counts, key=lambda name: counts[name])
    if not counts[family]:
        raise UsageError(
            "the text model's vocabulary has no language tokens such as de_DE (mBART-50), __de__ (M2M-100) or "
            "deu_Latn (NLLB-200)"
        )
    return family


def language_tokens(tokenizer: Any) -> dict[str, int]:
    """Language code -> token id, for every language of the table that the vocabulary has a token for."""
    return _tokens_of(tokenizer, token_family(tokenizer))


def _tokens_of(tokenizer: Any, family: Family) -> dict[str, int]:
    found = {}
    for code, language in LANGUAGES.items():
        token = getattr(language, family) or _NEW_TOKENS[family].format(code)
        number = token_id(tokenizer, token)
        if number is not None:
            found[code] = number
    return found


def new_language_token(code: str, family: Family) -> str:
    """The token of a language that the vocabulary lacks, in the style of the family ("cy_XX" for mBART-50)."""
    return getattr(get_language(code), family) or _NEW_TOKENS[family].format(code)


def add_special_token(tokenizer: Any, token: str, *, is_mask: bool = False) -> int:
    """Add a special token and return its id; the id is free in the vocabulary and survives save and load."""
    # M2M-100's tokenizer numbers its languages behind its vocabulary without counting them: where its files do not
    # list them, a new token would get the number of an existing language. Registered, they keep their own numbers.
    known: dict[str, int] = getattr(tokenizer, "lang_token_to_id", {})
    added = tokenizer.get_added_vocab()
    if any(name not in added for name in known):
        tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in known], special_tokens=True)
        moved = [name for name, number in known.items() if tokenizer.convert_tokens_to_ids(name) != number]
        if moved:
            raise UsageError(f"adding {token!r} would renumber the tokens {', '.join(moved[:3])}")
    if is_mask:
        tokenizer.add_special_tokens({"mask_token": AddedToken(token, lstrip=True, special=True, normalized=False)})
    else:
        tokenizer.add_tokens([AddedToken(token, special=True, normalized=False)], special_tokens=True)
    number = token_id(tokenizer, token)
    if number is None:
        raise UsageError(f"the tokenizer did not accept the new token {token!r}")
    return number


def find_language(languages: Mapping[str, int], code: str, role: str = "") -> int:
    """Token id of a language, by its code or any spelling that `get_language` knows.

    Raises:
        MissingLanguage: the model has no token for it; the message lists the languages it has.
        UnknownLanguage: there is no such language in the table either.
    """
    if code in languages:
        return languages[code]
    language = get_language(code)
    if language.code in languages:
        return languages[language.code]
    role = f"{role} language" if role else "language"
    raise MissingLanguage(
        f"the model has no token for the {role} {code!r} ({language.name}); it has {', '.join(sorted(languages))}"
    )


def related_languages(new_languages: Mapping[str, str | None] | Sequence[str] | None) -> dict[str, str | None]:
    """Code of each new language -> code of the language whose embedding it starts from; the table's `related` where
    none is given.
    """
    if new_languages is None:
        return {}
    given = new_languages if isinstance(new_languages, Mapping) else {}
    result: dict[str, str | None] = {}
    for code, name in language_codes(new_languages, "new_languages").items():
        related = given.get(name) or LANGUAGES[code].related
        result[code] = None if related is None else get_language(related).code
    return result


def language_codes(names: Iterable[str], setting: str) -> dict[str, str]:
    """Code of each language -> the spelling it was named by.

    Raises:
        UsageError: two of them are one language; ``setting`` is where they were named.
        UnknownLanguage: not in the table.
    """
    codes: dict[str, str] = {}
    for name in names:
        code = get_language(name).code
        if code in codes:
            raise UsageError(f"{setting}: {codes[code]!r} and {name!r} are one language, {code}; name it once")
        codes[code] = name
    return codes


def plain_encoding(tokenizer: Any, text: str | list[str]) -> BatchEncoding:
    """The pieces of a text, or of each of several, in which the tokenizer looks for no special tokens."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)


def pieces_in(tokenizer: Any, texts: Iterable[str]) -> dict[int, str]:
    """Token id -> text, in the order of ids, of the pieces that occur in texts; special tokens are none.

    A piece that begins a word has a space in front.
    """
    found: set[int] = set()
    for text in texts:
        found.update(plain_encoding(tokenizer, text)["input_ids"])
    found -= {*tokenizer.all_special_ids}
    ids = sorted(found - {*language_tokens(tokenizer).values()})
    pieces = tokenizer.convert_ids_to_tokens(ids)
    return {number: piece.replace(WORD_START, " ") for number, piece in zip(ids, pieces, strict=True)}
