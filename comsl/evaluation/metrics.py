"""Hypotheses and references -> numbers, each with the settings that make it comparable.

Translation is scored by sacreBLEU (BLEU and chrF++) on raw references, and no number leaves without sacreBLEU's
signature. Transcription is scored by jiwer (WER and CER), and no rate leaves without the name of the text normaliser.
An empty hypothesis is an error like any other: rows are never dropped.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jiwer
from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from comsl.errors import ComSLError, UsageError
from comsl.evaluation.bootstrap import (
    Counts,
    Floats,
    corpus_score,
    interval,
    resample,
    row_counts,
    scores_of,
    signature,
)
from comsl.languages import COVOST_TARGETS, LANGUAGES, LEVELS, WITHOUT_SPACES, get_language

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
    found = {}
    for name in TRANSLATION_METRICS:
        metric = translation_metric(name, target_language, lowercase)
        make = functools.partial(translation_metric, name, target_language, lowercase)
        (counts,) = row_counts(make, [hypotheses], references)
        resampled = resample(counts, n_bootstrap) if n_bootstrap > 1 else None
        found[name] = metric_score(metric, counts, resampled)
    return Scores(**found, rows=len(hypotheses), empty=count_empty(hypotheses))


def bleu_metric(
    target_language: str | None = None, lowercase: bool = False, references: Sequence[str] | None = None
) -> BLEU:
    """sacreBLEU's BLEU with the tokeniser of the language, which its signature names (see ``bleu_tokenizer``)."""
    return BLEU(lowercase=lowercase, tokenize=bleu_tokenizer(target_language), references=_one_each(references))


def bleu_tokenizer(target_language: str | None) -> str:
    """Name of sacreBLEU's tokeniser for a language: char where words are not told apart by spaces, else 13a.

    CoVoST 2 is scored so (Wang et al. 2020, section 4.1: default options, character-level BLEU for Chinese and
    Japanese), and the result depends on no dictionary that may or may not be installed.
    """
    return "char" if target_language and get_language(target_language).code in WITHOUT_SPACES else "13a"


def chrf_metric(lowercase: bool = False, references: Sequence[str] | None = None) -> CHRF:
    """chrF++: character n-grams up to 6, word n-grams up to 2."""
    return CHRF(word_order=2, lowercase=lowercase, references=_one_each(references))


def _one_each(references: Sequence[str] | None) -> list[Sequence[str]] | None:
    """As sacreBLEU takes references of which each row has one."""
    return None if references is None else [references]


def translation_metric(
    name: str, target_language: str | None, lowercase: bool, references: Sequence[str] | None = None
) -> Metric:
    """The one of ``TRANSLATION_METRICS`` with that name; with ``references``, it holds their n-grams."""
    if name == "bleu":
        return bleu_metric(target_language, lowercase, references)
    return chrf_metric(lowercase, references)


def sentence_chrf(hypothesis: str, reference: str) -> float:
    """chrF++ of one row, 0 to 100: to sort examples by, not to be averaged."""
    return float(CHRF(word_order=2).sentence_score(hypothesis, [reference]).score)


def metric_score(metric: Metric, counts: Counts, resampled: Floats | None) -> MetricScore:
    """One number of rows, from their counts [R, K] and those of their resamples [S, K] (None: no interval)."""
    number = corpus_score(metric, counts.sum(0).tolist())
    if resampled is None:
        return MetricScore(number, None, signature(metric))
    return MetricScore(number, interval(scores_of(metric, resampled)), signature(metric, len(resampled)))


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


INTO_ENGLISH = tuple(code for codes in LEVELS.values() for code in codes)
"""The 21 source languages of CoVoST 2's directions into English, in the order of the paper's tables."""


@dataclass(frozen=True)
class Average:
    """A plain mean over languages.

    Attributes:
        value: the mean.
        languages: how many it covers.
        of: how many the group has (CoVoST 2's 4, 5, 12 and 21 source languages, or its 15 targets from English); None
            where the rows are of no such group.
        missing: codes of those that it does not cover.
    """

    value: float
    languages: int
    of: int | None
    missing: tuple[str, ...]


def averages(values: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Plain means of one number over languages, each with what it covers (``Average``).

    Args:
        values: by translation direction ("de-en") or language ("de").

    Returns:
        By name of the group: "high", "mid" and "low" (CoVoST 2's source languages, into English), where there are any,
        and "all".
    """
    sources, targets = _covost_sides(values)
    found: dict[str, Average] = {}
    for level, codes in LEVELS.items():
        if any(code in sources for code in codes):
            found[level] = _average({code: sources[code] for code in codes if code in sources}, codes)
    if len(sources) == len(values) and values:
        found["all"] = _average(sources, INTO_ENGLISH)
    elif len(targets) == len(values) and values:
        found["all"] = _average(targets, COVOST_TARGETS)
    elif values:
        found["all"] = _average(values, None)
    return {group: asdict(average) for group, average in found.items()}


def _covost_sides(values: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """The values that are of CoVoST 2 into English, by source, and those from English, by target."""
    sources, targets = {}, {}
    for name, value in values.items():
        source, _, target = name.partition("-")
        code = get_language(source).code
        if LANGUAGES[code].level is not None and target in ("", "en"):
            sources[code] = value
        elif code == "en" and target in COVOST_TARGETS:
            targets[target] = value
    return sources, targets


def _average(values: Mapping[str, float], group: Sequence[str] | None) -> Average:
    missing = tuple(code for code in group or () if code not in values)
    return Average(sum(values.values()) / len(values), len(values), None if group is None else len(group), missing)


def check_rows(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    """ScoringError unless there is one hypothesis for one reference, and at least one of them."""
    if len(hypotheses) != len(references):
        raise ScoringError(f"{len(hypotheses)} hypotheses for {len(references)} references: every row needs both")
    if not hypotheses:
        raise ScoringError("there is no row to score")


def count_empty(hypotheses: Sequence[str]) -> int:
    return sum(not hypothesis.strip() for hypothesis in hypotheses)
