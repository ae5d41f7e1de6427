"""One table of languages: what each is called in CoVoST 2 and in every model family that can be a part.

The codes of this package are ISO 639-1 as CoVoST 2 writes them without the region ("zh", not "zh-CN"), and
ISO 639-3 where there is no shorter one ("mdw", Mboshi). ``get_language`` accepts the other spellings too.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from comsl.errors import UsageError

Level = Literal["high", "mid", "low"]


class UnknownLanguage(UsageError):
    """A language code or name that is not in the table; the message names the nearest ones."""


@dataclass(frozen=True)
class Language:
    """A language and its codes; None where a model family lacks it.

    Attributes:
        code: the code used everywhere in this package.
        name: English name.
        level: resource level as source language of CoVoST 2 -> English (ComSL paper, section 4); None for others.
        whisper: code inside Whisper's ``<|de|>``.
        mbart50: language token of mBART-50.
        m2m100: language token of M2M-100.
        nllb: language token of NLLB-200.
        espeak: espeak-ng voice.
        related: code of the language whose embedding a new language token starts from.
        espeak_exact: False where espeak-ng has no voice for the language and ``espeak`` is a neighbour's that reads
            the same script.
    """

    code: str
    name: str
    level: Level | None
    whisper: str | None
    mbart50: str | None
    m2m100: str | None
    nllb: str | None
    espeak: str | None
    related: str | None
    espeak_exact: bool = True


_TABLE = (
    # code, name, level, Whisper, mBART-50, M2M-100, NLLB-200, espeak-ng, related
    Language("en", "English", None, "en", "en_XX", "__en__", "eng_Latn", "en-us", "de"),
    Language("fr", "French", "high", "fr", "fr_XX", "__fr__", "fra_Latn", "fr-fr", "es"),
    Language("de", "German", "high", "de", "de_DE", "__de__", "deu_Latn", "de", "nl"),
    Language("es", "Spanish", "high", "es", "es_XX", "__es__", "spa_Latn", "es", "pt"),
    Language("ca", "Catalan", "high", "ca", None, "__ca__", "cat_Latn", "ca", "es"),
    Language("fa", "Persian", "mid", "fa", "fa_IR", "__fa__", "pes_Arab", "fa", "ar"),
    Language("it", "Italian", "mid", "it", "it_IT", "__it__", "ita_Latn", "it", "es"),
    Language("ru", "Russian", "mid", "ru", "ru_RU", "__ru__", "rus_Cyrl", "ru", "sl"),
    Language("pt", "Portuguese", "mid", "pt", "pt_XX", "__pt__", "por_Latn", "pt", "es"),
    Language("zh", "Chinese", "mid", "zh", "zh_CN", "__zh__", "zho_Hans", "cmn", "ja"),
    Language("tr", "Turkish", "low", "tr", "tr_TR", "__tr__", "tur_Latn", "tr", None),
    Language("ar", "Arabic", "low", "ar", "ar_AR", "__ar__", "arb_Arab", "ar", "fa"),
    Language("et", "Estonian", "low", "et", "et_EE", "__et__", "est_Latn", "et", "lv"),
    # Mongolian in Cyrillic; Kazakh shares the letters, its extra vowels included.
    Language("mn", "Mongolian", "low", "mn", "mn_MN", "__mn__", "khk_Cyrl", "kk", "ru", espeak_exact=False),
    Language("nl", "Dutch", "low", "nl", "nl_XX", "__nl__", "nld_Latn", "nl", "de"),
    Language("sv", "Swedish", "low", "sv", "sv_SE", "__sv__", "swe_Latn", "sv", "de"),
    Language("lv", "Latvian", "low", "lv", "lv_LV", "__lv__", "lvs_Latn", "lv", "et"),
    Language("sl", "Slovenian", "low", "sl", "sl_SI", "__sl__", "slv_Latn", "sl", "ru"),
    Language("ta", "Tamil", "low", "ta", "ta_IN", "__ta__", "tam_Taml", "ta", None),
    Language("ja", "Japanese", "low", "ja", "ja_XX", "__ja__", "jpn_Jpan", "ja", "zh"),
    Language("id", "Indonesian", "low", "id", "id_ID", "__id__", "ind_Latn", "id", None),
    # The paper starts Welsh from nothing; English is what its speakers mix it with.
    Language("cy", "Welsh", "low", "cy", None, "__cy__", "cym_Latn", "cy", "en"),
    Language("sw", "Swahili", None, "sw", "sw_KE", "__sw__", "swh_Latn", "sw", None),
    # Mboshi (Bantu C25): no model knows it. Swahili is the Bantu language that most of them do know.
    Language("mdw", "Mboshi", None, None, None, None, None, "sw", "sw", espeak_exact=False),
)

LANGUAGES: dict[str, Language] = {language.code: language for language in _TABLE}

LEVELS: dict[Level, tuple[str, ...]] = {
    level: tuple(language.code for language in _TABLE if language.level == level) for level in ("high", "mid", "low")
}
"""CoVoST 2 source languages by resource level, in the order of the paper's tables."""

COVOST_TARGETS: tuple[str, ...] = (
    "de", "ca", "zh", "fa", "et", "mn", "tr", "ar", "sv", "lv", "sl", "ta", "ja", "id", "cy",
)  # fmt: skip
"""Languages that CoVoST 2 translates English into."""

WITHOUT_SPACES = frozenset({"zh", "ja"})
"""Codes of the languages that are written without spaces between words."""

_EXTRA_SPELLINGS = {"zh_hans": "zh", "cmn": "zh", "farsi": "fa", "slovene": "sl", "mandarin": "zh", "embosi": "mdw"}


def _spelling(name: str) -> str:
    return name.strip().lower().replace("-", "_")


def _spellings() -> dict[str, str]:
    """Every accepted spelling -> code: codes, English names, the tokens of the model families."""
    table = dict(_EXTRA_SPELLINGS)
    for language in _TABLE:
        for name in (language.code, language.name, language.whisper, language.mbart50, language.m2m100, language.nllb):
            if name is not None:
                table[_spelling(name)] = language.code
    return table


_SPELLINGS = _spellings()


def get_language(code: str) -> Language:
    """Look a language up by its code, by another spelling of it ("zh-CN", "sv-SE", "deu_Latn") or its English name.

    Raises:
        UnknownLanguage: naming the nearest codes and names.
    """
    found = _SPELLINGS.get(_spelling(code))
    if found is not None:
        return LANGUAGES[found]
    names = [name for language in _TABLE for name in (language.code, _spelling(language.name))]
    nearest = difflib.get_close_matches(_spelling(code), names, n=6, cutoff=0.5)
    codes = list(dict.fromkeys(_SPELLINGS[name] for name in nearest))[:3]
    if codes:
        hint = "did you mean " + " or ".join(f"{near} ({LANGUAGES[near].name})" for near in codes) + "?"
    else:
        hint = "known: " + " ".join(sorted(LANGUAGES))
    raise UnknownLanguage(f"unknown language {code!r}: {hint}")
