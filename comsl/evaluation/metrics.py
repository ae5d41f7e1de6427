"""Hypotheses and references -> numbers, each with the settings that make it comparable.

Translation is scored by sacreBLEU (BLEU and chrF++) on raw references, and no number leaves without sacreBLEU's
signature. Transcription is scored by jiwer (WER and CER), and no rate leaves without the name of the text normaliser.
An empty hypothesis is an error like any other: rows are never dropped.
"""

from __future__ import annotations

import importlib.util
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jiwer
from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest

from comsl.errors import ComSLError, UsageError
from comsl.languages import LANGUAGES, LEVELS, WITHOUT_SPACES, get_language

BOOTSTRAP_SAMPLES = 1000
TRANSLATION_METRICS = ("bleu", "chrf")


class ScoringError(ComSLError):
    """Hypotheses and references that cannot be scored against each other."""


@dataclass(frozen=True)
class MetricScore:
    """One number and how it was computed.

    Attributes:
        score: 0 to 100.
        ci: half the width of the 95% interval of a bootstrap over rows (the signature names samples and seed); None
            where none was asked for.
        signature: sacreBLEU's.
    """

    score: float
    ci: float | None
    signature: str


@dataclass(frozen=True)
class Scores:
    """Translation scores of one set of rows; ``empty`` of the ``rows`` hypotheses are blank and count as errors."""

    bleu: MetricScore
    chrf: MetricScore
    rows: int
    empty: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class ErrorRates:
    """Transcription errors of one set of rows.

    Attributes:
        wer, cer: errors per 100 words, or characters, of the reference; above 100 where much was inserted.
        normaliser: what was done to both sides first; "/characters" behind it: every character counts as a word.
        rows, empty: number of rows, and of blank hypotheses among them.
        words, characters: size of the normalised reference.
    """

    wer: float
    cer: float
    normaliser: str
    rows: int
    empty: int
    words: int
    characters: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def score(
    hypotheses: Sequence[str],
    references: Sequence[str],
    target_language: str | None = None,
    *,
    lowercase: bool = False,
    n_bootstrap: int = BOOTSTRAP_SAMPLES,
) -> Scores:
    """Corpus BLEU and chrF++ on raw references.

    Args:
        hypotheses, references: one string a row, not tokenised; a blank hypothesis counts as a wrong one.
        target_language: chooses BLEU's tokeniser (see ``bleu_metric``).
        lowercase: compare without case; the signature then says ``case:lc``.
        n_bootstrap: resamples for the 95% interval; 0 leaves it out.

    Raises:
        ScoringError: no rows, or not as many hypotheses as references.
    """
    check_rows(hypotheses, references)
    metrics = (translation_metric(name, target_language, lowercase) for name in TRANSLATION_METRICS)
    bleu, chrf = (metric_score(metric, hypotheses, references, n_bootstrap) for metric in metrics)
    return Scores(bleu, chrf, len(hypotheses), count_empty(hypotheses))


def bleu_metric(target_language: str | None = None, lowercase: bool = False) -> BLEU:
    """sacreBLEU's BLEU with the tokeniser of the language: zh for Chinese, ja-mecab (char without MeCab) for Japanese,
    13a for all others. The signature names it."""
    return BLEU(lowercase=lowercase, tokenize=bleu_tokenizer(target_language))


def bleu_tokenizer(target_language: str | None) -> str:
    """Name of sacreBLEU's tokeniser for a language."""
    code = get_language(target_language).code if target_language else None
    if code == "zh":
        return "zh"
    if code == "ja":
        installed = all(importlib.util.find_spec(module) for module in ("MeCab", "ipadic"))
        return "ja-mecab" if installed else "char"
    return "13a"


def chrf_metric(lowercase: bool = False) -> CHRF:
    """chrF++: character n-grams up to 6, word n-grams up to 2."""
    return CHRF(word_order=2, lowercase=lowercase)


def translation_metric(name: str, target_language: str | None, lowercase: bool) -> Metric:
    """The one of ``TRANSLATION_METRICS`` with that name."""
    return {"bleu": bleu_metric(target_language, lowercase), "chrf": chrf_metric(lowercase)}[name]


def sentence_chrf(hypothesis: str, reference: str) -> float:
    """chrF++ of one row, 0 to 100: to sort examples by, not to be averaged."""
    return float(CHRF(word_order=2).sentence_score(hypothesis, [reference]).score)


def metric_score(metric: Metric, hypotheses: Sequence[str], references: Sequence[str], n_bootstrap: int) -> MetricScore:
    """One number, as ``score`` gives it."""
    if n_bootstrap <= 1:
        number = float(metric.corpus_score(hypotheses, [references]).score)
        return MetricScore(number, None, str(metric.get_signature()))
    # A "paired" test of one system is sacreBLEU's bootstrap with the same seed and interval. corpus_score(...,
    # n_bootstrap) would do, but fails in sacreBLEU 2.6 when the score of a resample is exactly zero.
    test = PairedTest([("system", hypotheses)], {"metric": metric}, [references], "bs", n_bootstrap)
    signatures, results = test()
    (name, signature) = next(iter(signatures.items()))
    result: Any = results[name][0]
    return MetricScore(float(result.score), float(result.ci), str(signature))


def normalise_basic(text: str) -> str:
    """Unicode NFKC, lower case, punctuation and symbols replaced by spaces, runs of white space collapsed.

    Unlike Whisper's basic normaliser it leaves combining marks alone (there they become spaces, which tears Tamil
    words apart) and does not delete what stands between brackets.
    """
    text = unicodedata.normalize("NFKC", text).lower()
    text = "".join(" " if unicodedata.category(character)[0] in "PS" else character for character in text)
    return " ".join(text.split())


def _normalise_whisper(text: str) -> str:
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer

    return BasicTextNormalizer()(text).strip()


NORMALISERS: dict[str, Callable[[str], str]] = {
    "none": lambda text: text,
    "basic": normalise_basic,
    "whisper-basic": _normalise_whisper,
}
"""By name; "whisper-basic" is the one of Whisper's paper for languages other than English."""


def word_error_rate(
    hypotheses: Sequence[str], references: Sequence[str], language: str | None = None, *, normaliser: str = "basic"
) -> ErrorRates:
    """WER and CER over a corpus (errors of all rows by the reference size of all rows).

    Args:
        hypotheses, references: one string a row; a blank hypothesis is all deletions.
        language: those of ``WITHOUT_SPACES`` are counted by characters, in the WER as well.
        normaliser: key of ``NORMALISERS``, applied to both sides.

    Raises:
        ScoringError: no rows, or not as many hypotheses as references.
        UsageError: unknown normaliser.
    """
    check_rows(hypotheses, references)
    if normaliser not in NORMALISERS:
        raise UsageError(f"unknown text normaliser {normaliser!r}: known are {', '.join(NORMALISERS)}")
    normalise = NORMALISERS[normaliser]
    hyps, refs = [normalise(text) for text in hypotheses], [normalise(text) for text in references]
    if language and get_language(language).code in WITHOUT_SPACES:
        normaliser += "/characters"
        hyps, refs = ([" ".join("".join(text.split())) for text in side] for side in (hyps, refs))
        words = jiwer.process_words(refs, hyps)
        cer, characters = words.wer, _length(words)
    else:
        words, letters = jiwer.process_words(refs, hyps), jiwer.process_characters(refs, hyps)
        cer, characters = letters.cer, _length(letters)
    empty = count_empty(hypotheses)
    return ErrorRates(100.0 * words.wer, 100.0 * cer, normaliser, len(hypotheses), empty, _length(words), characters)


def _length(output: jiwer.WordOutput | jiwer.CharacterOutput) -> int:
    """Size of the reference."""
    return output.hits + output.substitutions + output.deletions


def pair_name(source_language: str, target_language: str) -> str:
    """Name of a translation direction: "de-en"."""
    return f"{get_language(source_language).code}-{get_language(target_language).code}"


def averages(values: Mapping[str, float]) -> dict[str, dict[str, float | int]]:
    """Plain means of one number over languages: high, mid, low (by source language, CoVoST 2's levels) and all.

    Args:
        values: by translation direction ("de-en") or language ("de").

    Returns:
        For each level that occurs, and for all, ``{"value": mean, "languages": how many}``.
    """
    groups: dict[str, list[float]] = {level: [] for level in LEVELS}
    for name, value in values.items():
        language = LANGUAGES[get_language(name.split("-")[0]).code]
        if language.level is not None:
            groups[language.level].append(value)
    groups["all"] = list(values.values())
    return {
        level: {"value": sum(group) / len(group), "languages": len(group)} for level, group in groups.items() if group
    }


def check_rows(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    """ScoringError unless there is one hypothesis for one reference, and at least one of them."""
    if len(hypotheses) != len(references):
        raise ScoringError(f"{len(hypotheses)} hypotheses for {len(references)} references: every row needs both")
    if not hypotheses:
        raise ScoringError("there is no row to score")


def count_empty(hypotheses: Sequence[str]) -> int:
    return sum(not hypothesis.strip() for hypothesis in hypotheses)
