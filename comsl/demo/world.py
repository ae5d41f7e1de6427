"""The demo world on disk: synthetic speech and manifests of speech-translation triples.

    OUT/audio/<language>/<hash>.flac     16 kHz mono; the name is a hash of everything that was said and how
    OUT/train.jsonl dev.jsonl test.jsonl one manifest row a clip, every language in one file
    OUT/world.json                       sizes, seed, share of test sentences unseen in training, voices

Test and dev sentences are in no training set of the demo, not even that of its pretrained parts, and are spoken by
voices that nobody hears in training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comsl.errors import UsageError
from comsl.files import write_atomically

from .clips import clip_name, speak_clips
from .grammar import DEV_PAIRS, TEST_PAIRS, Pair, generate, held_out, held_out_sentences
from .speech import DEV_VARIANTS, TEST_VARIANTS, TRAIN_VARIANTS, Utterance, speak

DEFAULT_SIZES = {"de": 3000, "es": 1200, "fr": 1200, "cy": 400}
"""Training triples: a language that is high, two that are mid and one that is low in resources."""

TEST_SIZE, DEV_SIZE = 100, 30
_VOICES = {"train": TRAIN_VARIANTS, "dev": DEV_VARIANTS, "test": TEST_VARIANTS}
_SPLIT_SEEDS = {"train": 11, "dev": 12, "test": 13}


@dataclass(frozen=True)
class World:
    """Where the manifests are, and what `world.json` says about them."""

    train: Path
    dev: Path
    test: Path
    facts: dict[str, Any]


def build_world(
    out: Path | str,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    test_size: int = TEST_SIZE,
    dev_size: int = DEV_SIZE,
    workers: int = 2,
) -> World:
    """Make the world, or what is missing of it: clips that exist are kept.

    Args:
        out: directory.
        sizes: language ("de", "es", "fr", "cy") -> number of training triples; None: `DEFAULT_SIZES`.
        seed: of the training sentences and of every voice.
        test_size: test triples a language, at most 300.
        dev_size: dev triples a language, at most 200.
        workers: processes that speak.

    Raises:
        SpeechSynthesisError: espeak-ng is missing.
        UsageError: a dev or test set larger than what is held out.
    """
    for name, size, most in (("test_size", test_size, TEST_PAIRS), ("dev_size", dev_size, DEV_PAIRS)):
        if not 0 < size <= most:
            raise UsageError(f"{name}: {size} is not between 1 and {most}, which is what is kept out of training")
    out, sizes = Path(out), dict(DEFAULT_SIZES if sizes is None else sizes)
    plans = {
        split: _plan(
            split,
            {x: n if split == "train" else {"dev": dev_size, "test": test_size}[split] for x, n in sizes.items()},
            seed,
        )
        for split in ("train", "dev", "test")
    }
    facts = {"sizes": sizes, "seed": seed, "dev_size": dev_size, "test_size": test_size, **_facts(plans)}
    done = out / "world.json"
    train, dev, test = (out / f"{split}.jsonl" for split in plans)
    world = World(train, dev, test, facts)
    if done.exists() and json.loads(done.read_text()) == facts and all(p.exists() for p in (train, dev, test)):
        return world
    out.mkdir(parents=True, exist_ok=True)
    everything = [utterance for plan in plans.values() for _, utterance in plan]
    durations = speak_clips(out, everything, workers)
    for split, plan in plans.items():
        rows = [_row(split, index, pair, said, durations[said]) for index, (pair, said) in enumerate(plan)]
        _write_lines(out / f"{split}.jsonl", rows)
    write_atomically(done, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    return world


def _plan(split: str, sizes: Mapping[str, int], seed: int) -> list[tuple[Pair, Utterance]]:
    """What is said, by whom."""
    plan: list[tuple[Pair, Utterance]] = []
    for language, size in sizes.items():
        if split == "train":
            pairs = generate(language, size, 1000 + seed, held_out_sentences())
        else:
            pairs = list(held_out(language, split)[:size])
        noisy = 0.3 if split == "train" else 0.0
        voice_seed = 100 * seed + 10 * _SPLIT_SEEDS[split]
        said = speak([(language, pair.source) for pair in pairs], voice_seed, _VOICES[split], noisy)
        plan += zip(pairs, said, strict=True)
    return plan


def _facts(plans: Mapping[str, Sequence[tuple[Pair, Utterance]]]) -> dict[str, Any]:
    """Share of test rows whose source sentence, and whose English sentence, does not occur in training."""
    sources = {(pair.language, pair.source) for pair, _ in plans["train"]}
    english = {pair.english for pair, _ in plans["train"]}
    test = [pair for pair, _ in plans["test"]]
    return {
        "test_sources_unseen": _share([(pair.language, pair.source) not in sources for pair in test]),
        "test_translations_unseen": _share([pair.english not in english for pair in test]),
        "voices": {split: sorted({said.voice.variant for _, said in plan}) for split, plan in plans.items()},
    }


def _share(flags: Sequence[bool]) -> float:
    return round(sum(flags) / max(1, len(flags)), 4)


def _row(split: str, index: int, pair: Pair, said: Utterance, duration: float) -> dict[str, Any]:
    return {
        "id": f"demo-{split}-{pair.language}-{index:05d}",
        "audio": clip_name(said),
        "duration": round(duration, 3),
        "source_language": pair.language,
        "target_language": "en",
        "transcript": pair.source,
        "translation": pair.english,
        "split": split,
        "speaker": said.voice.identifier,
        "provenance": "demo grammar, espeak-ng",
    }


def _write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
