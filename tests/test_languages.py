"""The language table against the lists that the model families and espeak-ng themselves ship."""

from __future__ import annotations

from pathlib import Path

import pytest

from comsl.errors import ComSLError, UsageError
from comsl.languages import COVOST_TARGETS, LANGUAGES, LEVELS, UnknownLanguage, get_language


def test_levels_are_the_papers_groups() -> None:
    assert LEVELS == {
        "high": tuple("fr de es ca".split()),
        "mid": tuple("fa it ru pt zh".split()),
        "low": tuple("tr ar et mn nl sv lv sl ta ja id cy".split()),
    }


def test_holds_every_language_of_covost_and_mboshi() -> None:
    assert set(COVOST_TARGETS) == set("de ca zh fa et mn tr ar sv lv sl ta ja id cy".split())
    sources = {code for codes in LEVELS.values() for code in codes}
    assert set(LANGUAGES) >= sources | set(COVOST_TARGETS) | {"en", "mdw", "sw"}
    assert all(code == language.code for code, language in LANGUAGES.items())


def test_codes_are_those_of_the_tokenizers() -> None:
    """Every language token of every family belongs to one language, and None means that the family lacks it."""
    from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES as M2M100
    from transformers.models.mbart50.tokenization_mbart50 import FAIRSEQ_LANGUAGE_CODES as MBART50
    from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES as NLLB
    from transformers.models.whisper.tokenization_whisper import LANGUAGES as WHISPER

    m2m100 = [f"__{code}__" for code in M2M100["m2m100"]]
    for family, tokens in (("mbart50", MBART50), ("m2m100", m2m100), ("nllb", NLLB), ("whisper", WHISPER)):
        ours = [getattr(language, family) for language in LANGUAGES.values() if getattr(language, family) is not None]
        assert sorted(ours) == sorted(tokens)
        assert all(getattr(get_language(token), family) == token for token in tokens)


def test_tokens_of_one_language_are_of_one_language() -> None:
    """Written down apart from each other, the families' codes agree; where they cannot, the exceptions are listed."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES as WHISPER

    # Where Whisper's name, or M2M-100's or Whisper's code, is not ours.
    names = {code: WHISPER[language.whisper] for code, language in LANGUAGES.items() if language.whisper}
    others = {code: name for code, name in names.items() if name != LANGUAGES[code].name.lower()}
    assert others == {"my": "myanmar", "nn": "nynorsk"}
    assert {code for code, language in LANGUAGES.items() if language.whisper not in (None, code)} == {"jv"}
    differing = {code for code, language in LANGUAGES.items() if language.m2m100 not in (None, f"__{code}__")}
    assert differing == {"nso"}
    assert all(language.mbart50 is None or language.mbart50[:2] == code for code, language in LANGUAGES.items())
    scripts = {code for code, language in LANGUAGES.items() if "_" in code and language.nllb == code}
    assert scripts == {code for code in LANGUAGES if "_" in code}
    assert {code[:3] for code in scripts} == {"ace", "bjn", "kas", "knc", "taq", "zho"}


def test_covost_lacks_what_it_lacked() -> None:
    covost = {*COVOST_TARGETS, "en", "sw", "mdw", *(code for codes in LEVELS.values() for code in codes)}
    assert {code for code in covost if LANGUAGES[code].mbart50 is None} == {"ca", "cy", "mdw"}
    assert {code for code in covost if None in (LANGUAGES[code].m2m100, LANGUAGES[code].nllb)} == {"mdw"}


def test_names_and_codes_are_unambiguous() -> None:
    for language in LANGUAGES.values():
        assert get_language(language.code) is get_language(language.name) is language


def test_voices_are_those_of_espeak() -> None:
    espeakng_loader = pytest.importorskip("espeakng_loader")
    voices: set[str] = set()
    for file in Path(espeakng_loader.get_data_path(), "lang").rglob("*"):
        if file.is_file():
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            voices |= {line.split()[1].lower() for line in lines if line.startswith("language ")}
    for language in LANGUAGES.values():
        if language.espeak is None:
            continue
        assert language.espeak in voices, language.name
        if not language.espeak_exact:
            assert language.code not in voices, f"espeak-ng does have {language.name}"
    assert sum(LANGUAGES[code].espeak_exact for codes in LEVELS.values() for code in codes) == 20


def test_related_languages_are_in_the_table() -> None:
    for language in LANGUAGES.values():
        assert language.related is None or (language.related in LANGUAGES and language.related != language.code)
    assert (LANGUAGES["cy"].related, LANGUAGES["ca"].related, LANGUAGES["mdw"].related) == ("en", "es", "sw")


@pytest.mark.parametrize(
    ("spelling", "code"),
    [
        ("de", "de"), ("DE", "de"), ("German", "de"), ("de_DE", "de"), ("__de__", "de"), ("deu_Latn", "de"),
        ("zh-CN", "zh"), ("zho_Hans", "zh"), ("sv-SE", "sv"), ("arb_Arab", "ar"), ("Mboshi", "mdw"),
        ("zho_Hant", "zho_Hant"), ("zh-TW", "zho_Hant"), ("kas", "ks"), ("__ns__", "nso"), ("nb", "no"), ("jw", "jv"),
    ],
)  # fmt: skip
def test_accepts_other_spellings(spelling: str, code: str) -> None:
    assert get_language(spelling) is LANGUAGES[code]


@pytest.mark.parametrize(
    ("wrong", "nearest"), [("germn", "de (German)"), ("welch", "cy (Welsh)"), ("dee", "de (German)")]
)
def test_unknown_language_names_the_nearest(wrong: str, nearest: str) -> None:
    with pytest.raises(UnknownLanguage) as caught:
        get_language(wrong)
    assert repr(wrong) in str(caught.value)
    assert nearest in str(caught.value)


def test_unknown_language_far_from_all_lists_them_and_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="known: ar ca cy .* and 183 more") as caught:
        get_language("qqqq")
    assert caught.value.exit_code == 2
    assert ComSLError.exit_code == 1
