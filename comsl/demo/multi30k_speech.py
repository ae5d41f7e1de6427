"""Multi30k spoken by espeak-ng: a controlled benchmark of speech translation into English.

    OUT/train.jsonl         speech, transcript, translation: 8,000 in German, 3,000 in French, 1,000 in Czech
    OUT/further.jsonl       speech and transcript of other sentences, as many as the limit of hours leaves room for
    OUT/text.jsonl          every training pair as text, in all three languages
    OUT/dev.jsonl           val
    OUT/test_2016_flickr.jsonl, test_2017_flickr.jsonl
    OUT/audio/<language>/<hash>.flac     the name is a hash of everything that is said and how
    OUT/prepare.json        counts, hours, overlaps, voices, digests of the corpus' files

Which sentences are spoken is drawn by seed; no two languages share one, so that 12,000 triples are 12,000 translations.
A training sentence that val or a test has too, in whatever language, is left out everywhere. Rate, pitch and liveliness
of the voices vary, and half of the clips are noisy; val and tests have voices that training never hears.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from comsl.data.corpora.multi30k import DEV, OFFICIAL_LINES, SOURCES, TARGET, TESTS, TRAIN, Corpus, read
from comsl.data.manifest import write_manifest
from comsl.errors import UsageError
from comsl.evaluation.metrics import normalise_basic
from comsl.files import write_atomically
from comsl.progress import console
from comsl.provenance import versions

from .clips import clip_name, speak_clips
from .speech import DEV_VARIANTS, TEST_VARIANTS, TRAIN_VARIANTS, Utterance, speak

TRIPLES = {"de": 8_000, "fr": 3_000, "cs": 1_000}
"""Training triples: a language that is high, one that is mid and one that is low in resources."""
HOURS_LIMIT = 14.0
RATES = (150, 220)
NOISY = 0.5
_VARIANTS = {TRAIN: TRAIN_VARIANTS, DEV: DEV_VARIANTS, **dict.fromkeys(TESTS, TEST_VARIANTS)}
_MANIFESTS = {TRAIN: "train", DEV: "dev", **{name: name for name in TESTS}}
SAME_SENTENCE = "NFKC, lower case, without punctuation and symbols (evaluation.metrics.normalise_basic)"

Row = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much of the corpus is used."""

    triples: Mapping[str, int]
    hours_limit: float
    """Of training speech, in hours: triples always, further transcribed clips as long as they fit."""
    scale: float = 1.0
    """Share of everything, 1 for the benchmark: less to try things out."""

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 1:
            raise UsageError(f"--scale {self.scale:g}: must be above 0 and at most 1")
        if self.hours_limit <= 0:
            raise UsageError(f"--hours-limit {self.hours_limit:g}: must be above 0")

    def scaled(self, count: int) -> int:
        return max(1, round(self.scale * count))


@dataclass(frozen=True)
class Division:
    """Training lines by use."""

    pairs: Sequence[int]
    triples: Mapping[str, Sequence[int]]
    further: Mapping[str, Sequence[int]]
    """Language -> candidates for further clips, in their order."""


def prepare(
    root: str | Path,
    out: str | Path,
    *,
    triples: Mapping[str, int] | None = None,
    hours_limit: float = HOURS_LIMIT,
    scale: float = 1.0,
    seed: int = 0,
    workers: int = 2,
) -> dict[str, Any]:
    """Write manifests and clips, or what is missing of them: clips that exist are kept.

    Args:
        root: the repository multi30k/dataset.
        out: folder.
        triples: language -> number of training triples; None: ``TRIPLES``.
        hours_limit: hours of training speech. What the triples leave of it goes to further clips, the next one always
            in the language that has the least speech so far.
        scale: share of everything, to try things out.
        seed: of the choice of sentences and of every voice.
        workers: processes that speak.

    Returns:
        The content of ``prepare.json``.

    Raises:
        CorpusError: ``root`` is something else, or damaged.
        SpeechSynthesisError: espeak-ng is missing.
        UsageError: more triples than there are sentences; a share that is none.
    """
    out, sizes = Path(out), Sizes(dict(TRIPLES if triples is None else triples), hours_limit, scale)
    corpus = read(root)
    leaks = {split: corpus.leaks(split, normalise_basic) for split in (DEV, *TESTS)}
    left_out = corpus.blank(TRAIN).union(*(lines for found in leaks.values() for lines in found.values()))
    division = divide(corpus, left_out, sizes, seed)
    out.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {
        "root": str(root),
        "seed": seed,
        "sizes": asdict(sizes),
        "notes": _notes(corpus),
        "training_lines_left_out": {
            "overlap": {split: {x: len(lines) for x, lines in found.items()} for split, found in leaks.items()},
            "blank": len(corpus.blank(TRAIN)),
            "all": len(left_out),
            "same_sentence": SAME_SENTENCE,
        },
        "dev_lines_in_tests": _overlap_of_held_out(corpus),
    }
    spoken = _speak_training(corpus, division, sizes, seed, out, workers)
    for split in (DEV, *TESTS):
        spoken[_MANIFESTS[split]] = _speak_held_out(corpus, split, sizes, seed, out, workers)
    manifests = {**spoken, "text": list(_text_rows(corpus, division))}
    for name, rows in manifests.items():
        write_manifest(rows, out / f"{name}.jsonl")
    facts |= {
        "rows": {name: dict(Counter(row["source_language"] for row in rows)) for name, rows in manifests.items()},
        "hours": {name: _hours(rows) for name, rows in spoken.items()},
        "voices": {"rates": RATES, "noisy": NOISY, **{name: sorted(set(used)) for name, used in _VARIANTS.items()}},
        "sha256": dict(corpus.sha256),
        "versions": versions(),
    }
    write_atomically(out / "prepare.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    _report(facts, out)
    return facts


def divide(corpus: Corpus, left_out: set[int], sizes: Sizes, seed: int) -> Division:
    """Training lines in random order: first the triples, language after language, then further clips, which the
    languages take in turn."""
    usable = [place for place in range(len(corpus.lines[TRAIN][TARGET])) if place not in left_out]
    order = [usable[place] for place in np.random.default_rng([seed, 30]).permutation(len(usable))]
    pairs = order[: sizes.scaled(len(order))]
    wanted = {language: sizes.scaled(sizes.triples.get(language, 0)) for language in SOURCES}
    if sum(wanted.values()) > len(pairs):
        raise UsageError(f"{sum(wanted.values())} triples are wanted, but there are {len(pairs)} usable sentences")
    rest = iter(pairs)
    triples = {language: list(itertools.islice(rest, count)) for language, count in wanted.items()}
    others = list(rest)
    return Division(pairs, triples, {x: others[turn :: len(SOURCES)] for turn, x in enumerate(SOURCES)})


def _speak_training(
    corpus: Corpus, division: Division, sizes: Sizes, seed: int, out: Path, workers: int
) -> dict[str, list[Row]]:
    said = {
        language: dict(zip(lines, _utterances(corpus, TRAIN, language, lines, seed), strict=True))
        for language in SOURCES
        for lines in [[*division.triples[language], *division.further[language]]]
    }
    plan = {language: [said[language][line] for line in lines] for language, lines in division.triples.items()}
    everything = [utterance for utterances in plan.values() for utterance in utterances]
    durations = speak_clips(out, everything, workers, "speaking, train")
    seconds = {language: [durations[utterance] for utterance in utterances] for language, utterances in plan.items()}
    candidates = {language: [said[language][line] for line in lines] for language, lines in division.further.items()}
    chosen = what_fits(plan, seconds, candidates, 3600 * sizes.hours_limit * sizes.scale)
    flat = [utterance for utterances in chosen.values() for utterance in utterances]
    durations |= speak_clips(out, flat, workers, "speaking, further")
    found: dict[str, list[Row]] = {"train": [], "further": []}
    for language in SOURCES:
        for line in division.triples[language]:
            found["train"].append(_row(corpus, TRAIN, language, line, said[language][line], durations))
        for line in division.further[language][: len(chosen[language])]:
            row = _row(corpus, TRAIN, language, line, said[language][line], durations)
            found["further"].append({**row, "translation": None})
    return found


def what_fits(
    spoken: Mapping[str, Sequence[Utterance]],
    seconds: Mapping[str, Sequence[float]],
    candidates: Mapping[str, Sequence[Utterance]],
    limit: float,
) -> dict[str, list[Utterance]]:
    """Further utterances up to ``limit`` seconds of speech in all, each in the language that has the least so far.

    How long a candidate will take follows from those that are spoken: seconds for each character, at its voice's rate.
    """
    pace = {
        language: sum(seconds[language]) / sum(len(u.text) / u.voice.rate for u in utterances)
        for language, utterances in spoken.items()
    }
    total = {language: float(sum(found)) for language, found in seconds.items()}
    left = {language: iter(found) for language, found in candidates.items()}
    chosen: dict[str, list[Utterance]] = {language: [] for language in candidates}
    while left:
        language = min(left, key=lambda x: (total[x], x))
        utterance = next(left[language], None)
        if utterance is None:
            del left[language]
            continue
        expected = pace[language] * len(utterance.text) / utterance.voice.rate
        if sum(total.values()) + expected > limit:
            break
        total[language] += expected
        chosen[language].append(utterance)
    return chosen


def _speak_held_out(corpus: Corpus, split: str, sizes: Sizes, seed: int, out: Path, workers: int) -> list[Row]:
    languages = [language for language in corpus.lines[split] if language != TARGET]
    lines = range(sizes.scaled(len(corpus.lines[split][TARGET])))
    said = {language: _utterances(corpus, split, language, lines, seed) for language in languages}
    everything = [utterance for utterances in said.values() for utterance in utterances]
    durations = speak_clips(out, everything, workers, f"speaking, {_MANIFESTS[split]}")
    return [
        _row(corpus, split, language, line, utterance, durations)
        for language in languages
        for line, utterance in zip(lines, said[language], strict=True)
    ]


def _utterances(corpus: Corpus, split: str, language: str, lines: Sequence[int], seed: int) -> list[Utterance]:
    texts = [(language, corpus.lines[split][language][line]) for line in lines]
    # Splits and languages have seeds of their own, far enough apart that no two clips have the same noise.
    place = [(name, x) for name in _VARIANTS for x in SOURCES].index((split, language))
    return speak(texts, 1_000_000 * (100 * seed + place), _VARIANTS[split], NOISY, RATES)


def _row(
    corpus: Corpus, split: str, language: str, line: int, said: Utterance, durations: Mapping[Utterance, float]
) -> Row:
    name = _MANIFESTS[split]
    return {
        "id": f"multi30k-speech/{name}/{language}/{line + 1:05d}",
        "audio": clip_name(said),
        "duration": round(durations[said], 3),
        "source_language": language,
        "target_language": TARGET,
        "transcript": said.text,
        "translation": corpus.lines[split][TARGET][line],
        "split": name,
        "speaker": said.voice.identifier,
        "provenance": f"Multi30k {split}, espeak-ng",
    }


def _text_rows(corpus: Corpus, division: Division) -> Iterator[Row]:
    texts = corpus.lines[TRAIN]
    for language in SOURCES:
        for line in sorted(division.pairs):
            yield {
                "id": f"multi30k/train/{language}/{line + 1:05d}",
                "source_language": language,
                "target_language": TARGET,
                "transcript": texts[language][line],
                "translation": texts[TARGET][line],
                "split": "train",
                "provenance": "Multi30k train",
            }


# ---------------------------------------------------------------------------------------------------------- reporting


def _notes(corpus: Corpus) -> list[str]:
    notes = []
    for split, official in OFFICIAL_LINES.items():
        if (found := len(corpus.lines[split][TARGET])) != official:
            notes.append(f"{split}: {found} lines, the published corpus has {official}")
    for split in (DEV, *TESTS):
        if blank := len(corpus.blank(split)):
            notes.append(f"{split}: {blank} lines say nothing in some language; they are spoken and scored as they are")
    return notes


def _overlap_of_held_out(corpus: Corpus) -> dict[str, dict[str, int]]:
    """Sentences of val that a test has as well: they cost the test nothing, but dev figures."""
    found: dict[str, dict[str, int]] = {}
    for test in TESTS:
        for language, texts in corpus.lines[test].items():
            held_out = set(map(normalise_basic, texts))
            dev = corpus.lines[DEV][language]
            found.setdefault(test, {})[language] = sum(normalise_basic(text) in held_out for text in dev)
    return found


def _hours(rows: Sequence[Row]) -> dict[str, float]:
    hours: Counter[str] = Counter()
    for row in rows:
        hours[row["source_language"]] += row["duration"] / 3600
    return {language: round(value, 3) for language, value in hours.items()}


def _report(facts: Mapping[str, Any], out: Path) -> None:
    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    for name, rows in facts["rows"].items():
        hours = facts["hours"].get(name)
        said = ", ".join(f"{x} {count}" + (f" ({hours[x]:.2f} h)" if hours else "") for x, count in rows.items())
        say(f"{out / name}.jsonl: {said or 'no rows'}")
    left_out = facts["training_lines_left_out"]
    overlaps = "; ".join(f"{split} {sum(found.values())}" for split, found in left_out["overlap"].items())
    say(f"left out of training: {left_out['all']} sentences ({left_out['blank']} blank; shared with {overlaps})")
    for note in facts["notes"]:
        say(f"note: {note}")
