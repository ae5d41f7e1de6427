"""Scores against values worked out by hand and against direct calls of sacreBLEU."""

from __future__ import annotations

import pytest
from sacrebleu.metrics import BLEU, CHRF

from comsl.errors import UsageError
from comsl.evaluation.metrics import (
    ScoringError,
    averages,
    bleu_tokenizer,
    normalise_basic,
    pair_name,
    score,
    sentence_chrf,
    word_error_rate,
)

HYPOTHESES = ["the cat sat on the mat", "", "Hello there, my old friend!", "a b c d e"]
REFERENCES = ["the cat sat on a mat", "nothing came out here", "Hello there, my old friend!", "v w x y z"]


def test_bleu_by_hand() -> None:
    # n-gram precisions 5/6, 3/5, 2/4, 1/3; equal lengths, so no brevity penalty: (1/12) ** (1/4)
    scores = score(["the cat sat on the mat"], ["the cat sat on a mat"], "en", n_bootstrap=0)
    assert scores.bleu.score == pytest.approx(53.7285, abs=1e-4)
    assert scores.bleu.ci is None
    assert scores.bleu.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_chrf_by_hand() -> None:
    # Precision = recall: characters 2/3, bigrams 1/2, trigrams 0/1, words 0/1, no word bigrams; their mean is 7/24.
    scores = score(["abc"], ["abd"], "en", n_bootstrap=0)
    assert scores.chrf.score == pytest.approx(100 * 7 / 24, abs=1e-4)
    assert scores.chrf.signature.startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:2|space:no|version:")
    assert sentence_chrf("abc", "abd") == pytest.approx(100 * 7 / 24, abs=1e-4)


def test_equals_sacrebleu_and_counts_rows() -> None:
    scores = score(HYPOTHESES, REFERENCES, "en")
    assert scores.bleu.score == pytest.approx(BLEU().corpus_score(HYPOTHESES, [REFERENCES]).score)
    assert scores.chrf.score == pytest.approx(CHRF(word_order=2).corpus_score(HYPOTHESES, [REFERENCES]).score)
    assert (scores.rows, scores.empty) == (4, 1)
    without = score(HYPOTHESES[:1] + HYPOTHESES[2:], REFERENCES[:1] + REFERENCES[2:], "en")
    assert without.bleu.score > scores.bleu.score, "an empty hypothesis must cost something"


def test_confidence_interval_is_sacrebleus() -> None:
    hypotheses, references = HYPOTHESES[:1] * 5 + HYPOTHESES[2:3] * 4, REFERENCES[:1] * 5 + REFERENCES[2:3] * 4
    scores = score(hypotheses, references, "en")
    reference = BLEU()
    expected = reference.corpus_score(hypotheses, [references], n_bootstrap=1000)
    assert scores.bleu.ci == pytest.approx(expected._ci)
    assert scores.bleu.signature == str(reference.get_signature())
    assert "|bs:1000|seed:12345|" in scores.bleu.signature
    assert "|bs:1000|seed:12345|" in scores.chrf.signature


def test_confidence_interval_where_resamples_score_nothing() -> None:
    scores = score(["x y", "the cat sat on the mat"], ["a b", "the cat sat on the mat"], "en")
    assert 0 < scores.bleu.ci < 100


def test_chinese_and_japanese_are_split_into_characters() -> None:
    # Characters 3/4, bigrams 1/3, then smoothed 1/4 and 1/4: (1/64) ** (1/4)
    for language in ("zh-CN", "ja", "yue", "zho_Hant"):
        scores = score(["我爱北京"], ["我爱南京"], language, n_bootstrap=0)
        assert scores.bleu.score == pytest.approx(35.3553, abs=1e-4)
        assert "|tok:char|" in scores.bleu.signature
    assert score(["我爱北京"], ["我爱南京"], "en", n_bootstrap=0).bleu.score == 0
    assert [bleu_tokenizer(code) for code in ("en", "ta", "ar", None)] == ["13a"] * 4


def test_case_counts_unless_told_otherwise() -> None:
    upper, lower = ["THE CAT SAT ON A MAT"], ["the cat sat on a mat"]
    assert score(upper, lower, "en", n_bootstrap=0).bleu.score == 0
    without_case = score(upper, lower, "en", lowercase=True, n_bootstrap=0)
    assert without_case.bleu.score == pytest.approx(100)
    assert "case:lc" in without_case.bleu.signature
    assert "case:lc" in without_case.chrf.signature


@pytest.mark.parametrize("scorer", [score, word_error_rate])
def test_counts_must_agree(scorer) -> None:
    with pytest.raises(ScoringError, match="1 hypotheses for 2 references"):
        scorer(["a"], ["a", "b"])
    with pytest.raises(ScoringError, match="no row"):
        scorer([], [])


def test_word_error_rate_by_hand() -> None:
    # Two of six words and seven of 22 characters (" on the") are missing.
    rates = word_error_rate(["the cat sat mat"], ["the cat sat on the mat"], "en", normaliser="none")
    assert rates.wer == pytest.approx(100 * 2 / 6)
    assert rates.cer == pytest.approx(100 * 7 / 22)
    assert (rates.rows, rates.words, rates.characters, rates.normaliser) == (1, 6, 22, "none")


def test_word_error_rate_is_of_the_corpus_and_counts_empty_rows() -> None:
    rates = word_error_rate(["one two", "", "a b"], ["one two", "three four", "a"], "en", normaliser="none")
    assert rates.wer == pytest.approx(100 * 3 / 5)  # two deletions, one insertion; five words
    assert (rates.rows, rates.empty) == (3, 1)


def test_normalisers() -> None:
    assert normalise_basic("  L'ami — DIT : « Où ? »  １２") == "l ami dit où 12"
    assert normalise_basic("நீங்கள், எப்படி?") == "நீங்கள் எப்படி"
    assert word_error_rate(["Hallo Welt"], ["hallo, Welt!"], "de").wer == 0
    assert word_error_rate(["Hallo Welt"], ["hallo, Welt!"], "de").normaliser == "basic"
    assert word_error_rate(["Hallo Welt"], ["hallo, Welt!"], "de", normaliser="none").wer == pytest.approx(100)
    assert word_error_rate(["hallo"], ["(Lachen) Hallo!"], "de", normaliser="whisper-basic").wer == 0
    with pytest.raises(UsageError, match="basic"):
        word_error_rate(["a"], ["a"], normaliser="fancy")


def test_chinese_words_are_characters() -> None:
    rates = word_error_rate(["我爱 北京。"], ["我爱南京"], "zh")
    assert rates.wer == rates.cer == pytest.approx(25)
    assert (rates.words, rates.normaliser) == (4, "basic/characters")


def test_averages() -> None:
    values = {"de-en": 40.0, "fr-en": 30.0, "it-en": 20.0, "tr-en": 5.0, "mdw-fr": 1.0}
    found = averages(values)
    assert {group: (mean["value"], mean["languages"]) for group, mean in found.items()} == {
        "high": (35.0, 2), "mid": (20.0, 1), "low": (5.0, 1), "all": (19.2, 5)
    }  # fmt: skip
    assert (found["high"]["of"], found["high"]["missing"]) == (4, ("es", "ca"))
    assert (found["mid"]["of"], found["mid"]["missing"]) == (5, ("fa", "ru", "pt", "zh"))
    assert (found["all"]["of"], found["all"]["missing"]) == (None, ()), "Mboshi is in no group of CoVoST 2's"
    assert averages({}) == {}
    assert pair_name("zh-CN", "English") == "zh-en"


def test_averages_know_what_is_missing_from_a_whole() -> None:
    codes = "fr de es ca fa it ru pt zh tr ar et mn nl sv lv sl ta ja id cy".split()
    every = averages({f"{code}-en": float(number) for number, code in enumerate(codes)})
    means = {group: (mean["value"], mean["languages"], mean["of"], mean["missing"]) for group, mean in every.items()}
    # 0 to 3, 4 to 8, 9 to 20, 0 to 20
    assert means == {"high": (1.5, 4, 4, ()), "mid": (6, 5, 5, ()), "low": (14.5, 12, 12, ()), "all": (10, 21, 21, ())}
    by_language = averages(dict.fromkeys(codes[:-1], 1.0))  # error rates go by the language spoken
    assert (by_language["low"]["of"], by_language["low"]["missing"], by_language["all"]["of"]) == (12, ("cy",), 21)
    targets = "de ca zh fa et mn tr ar sv lv sl ta ja id cy".split()
    out = averages({f"en-{code}": 2.0 for code in targets[:-2]})
    assert out == {"all": {"value": 2.0, "languages": 13, "of": 15, "missing": ("id", "cy")}}
    assert set(averages({"de-fr": 1.0, "de-en": 2.0})) == {"high", "all"}
    assert averages({"de-fr": 1.0, "de-en": 2.0})["high"]["value"] == 2.0, "levels are those of sources into English"
