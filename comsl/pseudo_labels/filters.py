"""Which translations are kept: one setting a filter, one reason a row."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comsl.data.audio import MIN_DURATION
from comsl.errors import UsageError, nearest
from comsl.evaluation.metrics import normalise_basic
from comsl.languages import WITHOUT_SPACES

LONGEST_NGRAM = 8
"""Words of the longest n-gram whose repetition is looked for: decoders that run in circles have short ones."""

REASONS = {
    "repeated": "the row stands there once more",
    "no_transcript": "no transcript to translate",
    "translated": "has a human translation",
    "leak_clip": "the clip is in dev or test",
    "leak_source": "dev or test has the transcript",
    "unreadable": "the clip cannot be read",
    "text_too_long": "the transcript has more tokens than the model has positions",
    "duration": "the clip is too short or too long",
    "empty": "no translation came out",
    "truncated": "the translation was cut at its limit of tokens",
    "length_ratio": "one side has far more tokens than the other",
    "repeated_ngram": "an n-gram is repeated again and again",
    "score": "the model thinks little of it",
    "language": "not in the target language",
    "leak_target": "dev or test has the translation",
}
"""Why a row is not kept, in the order in which the reasons are looked for; each row is counted under the first."""


@dataclass(frozen=True)
class Filters:
    """Bounds that a labelled row must be within; 0 switches the first two off, minus infinity the third."""

    max_length_ratio: float = 3.0
    """Tokens of the longer side to those of the shorter one, as the model counts them: words would say nothing of
    languages that are written without spaces."""
    max_repeats: int = 3
    """Times in succession that an n-gram (of at most ``LONGEST_NGRAM`` words; characters in languages without spaces)
    may stand, or as often as in the transcript if that repeats more."""
    min_score: float = -1.5
    """Mean natural log-probability of a token of the translation, its end included."""
    max_seconds: float = 30.0
    """Of the clip: what Whisper reads at once."""
    identify_language: bool = False
    """Leave out what a language identifier takes for another language than the target (needs lingua)."""

    def __post_init__(self) -> None:
        for name, wrong, wish in (
            ("max_length_ratio", self.max_length_ratio and self.max_length_ratio < 1, "at least 1, or 0 for no bound"),
            ("max_repeats", self.max_repeats < 0, "at least 1, or 0 for no bound"),
            ("max_seconds", self.max_seconds <= MIN_DURATION, f"above {MIN_DURATION:g}"),
        ):
            if wrong:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name):g}: must be {wish}")

    def reason(self, row: Mapping[str, Any]) -> str | None:
        """Why a translated row (see ``shards.translate``) is not kept; None: no bound speaks against it."""
        if row["duration"] is not None and not MIN_DURATION <= row["duration"] <= self.max_seconds:
            return "duration"
        shorter, longer = sorted((row["source_tokens"], row["target_tokens"]))
        if not row["translation"].strip():
            return "empty"
        if row["truncated"]:
            return "truncated"
        if self.max_length_ratio and longer > self.max_length_ratio * shorter:
            return "length_ratio"
        if self.max_repeats and repeats(row["translation"], row["target_language"]) > max(
            self.max_repeats, repeats(row["transcript"], row["source_language"])
        ):
            return "repeated_ngram"
        return "score" if row["score"] < self.min_score else None


def repeats(text: str, language: str) -> int:
    """How often the most repeated n-gram stands in succession, case and punctuation aside: 3 in "so, so, so good"."""
    words: Sequence[str] = normalise_basic(text).split()
    if language in WITHOUT_SPACES:
        words = "".join(words)
    most = min(1, len(words))
    for size in range(1, min(LONGEST_NGRAM, len(words) // 2) + 1):
        equal = 0  # words in a row that are what stood `size` words before
        for place in range(size, len(words)):
            equal = equal + 1 if words[place] == words[place - size] else 0
            most = max(most, equal // size + 1)
    return most


class LanguageIdentifier:
    """Tells whether texts are in the target language, among the languages of a run, by the library lingua.

    Raises:
        UsageError: the library is missing, or does not know the target.
    """

    def __init__(self, languages: Collection[str], target: str) -> None:
        try:
            import lingua
        except ImportError as error:
            raise UsageError(
                "--identify-language: the package is missing; pip install lingua-language-detector"
            ) from error
        known = {language.iso_code_639_1.name.lower(): language for language in lingua.Language.all()}
        if target not in known:
            hint = nearest(target, known, cutoff=0.0)
            raise UsageError(f"--identify-language: the identifier does not know {target!r} (nearest: {hint})")
        candidates = {known[code] for code in (*languages, target) if code in known}
        # One language alone would always be found; English is what is mixed in most often, and German the next.
        candidates |= {known["en"], known["de"]} if len(candidates) < 2 else set()
        builder = lingua.LanguageDetectorBuilder.from_languages(*candidates)
        # What could as well be another language (a name, a number) is not held against a translation.
        self._detector = builder.with_minimum_relative_distance(0.1).build()
        self._target = known[target]

    def is_target(self, text: str) -> bool:
        return self._detector.detect_language_of(text) in (self._target, None)
