"""The faults planted in the CoVoST 2 miniature: what real releases have in their millions, a handful of each.

Every fault is in `planted.json`, so that a test can see whether the audit finds exactly these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .covost_plan import Clip
from .phrases import load_phrases

MISSING = "missing"
ZERO_LENGTH = "zero-length"
UNDECODABLE = "undecodable"
TOO_LONG = "too-long"
TOO_SHORT = "too-short"
OUTLIER = "outlier"
NOT_IN_RELEASE = "not-in-release"
SHARED = "shared-sentence"
LEAK = "untranslated-test-sentence"
NASTY = "nasty-row"

FAULTS: tuple[tuple[str, str | None], ...] = (
    (MISSING, "train"), (MISSING, "dev"), (MISSING, "test"), (ZERO_LENGTH, "train"), (ZERO_LENGTH, "dev"),
    (UNDECODABLE, "train"), (UNDECODABLE, "test"), (TOO_LONG, "train"), (TOO_LONG, "train"), (TOO_SHORT, "train"),
    (TOO_SHORT, "dev"), (OUTLIER, "train"), (OUTLIER, "train"), (NOT_IN_RELEASE, "train"), (NOT_IN_RELEASE, "dev"),
    (SHARED, "train"), (SHARED, "train"), (LEAK, None), (LEAK, None),
    *((NASTY, "train"),) * 7,
)  # fmt: skip
"""Kind and split; the n-th is planted in the n-th language, starting again after the last one."""

_NASTY = (
    ("NA", "NA"),
    ("null", "null"),
    ('"{sentence}"', '"{translation}"'),
    ('"{sentence}', '"{translation}'),
    ("{sentence}  2", "{translation}  2"),
    (r"{sentence} \ 1", r"{translation} \ 1"),
    (r"{sentence} C:\new\table", r"{translation} C:\new\table"),
)
"""Sentence and translation of the rows that a careless reader of TSV files changes or loses."""


def plant(clips: Mapping[str, Sequence[Clip]]) -> dict[str, list[Clip]]:
    """All clips by language, some of them turned into faulty ones; `clips` is left unchanged."""
    planted = {language: list(rows) for language, rows in clips.items()}
    languages, nasty = list(planted), iter(_NASTY)
    for turn, (kind, split) in enumerate(FAULTS):
        rows = planted[languages[turn % len(languages)]]
        place = max(i for i, clip in enumerate(rows) if clip.split == split and clip.fault is None)
        rows[place] = _faulty(rows[place], kind, rows, next(nasty) if kind == NASTY else ("", ""))
    return planted


def _faulty(clip: Clip, kind: str, rows: Sequence[Clip], nasty: tuple[str, str]) -> Clip:
    clip = replace(clip, fault=kind)
    if kind == OUTLIER:  # a transcript of 20 phrases on a clip of two
        everything = [(slot, n) for slot in ("action", "remark") for n in range(10)]
        long = {x: load_phrases().text(tuple(everything), x) for x in (clip.language, *clip.translations)}
        return replace(clip, sentence=long.pop(clip.language), translations=long)
    if kind in (SHARED, LEAK):
        test = next(other for other in rows if other.split == "test" and other.fault is None)
        said = replace(clip.said, text=test.said.text)
        return replace(clip, sentence=test.sentence, translations=test.translations if clip.split else {}, said=said)
    if kind == NASTY:
        sentence = nasty[0].format(sentence=clip.sentence)
        translations = {x: nasty[1].format(translation=text) for x, text in clip.translations.items()}
        said = clip.said if "{" in nasty[0] else replace(clip.said, text=sentence)
        return replace(clip, sentence=sentence, translations=translations, said=said)
    return clip


def describe(clip: Clip, name: str) -> dict[str, Any]:
    """The entry of a faulty clip in `planted.json`."""
    return {
        "kind": clip.fault,
        "language": clip.language,
        "split": clip.split,
        "clip": name,
        "sentence": clip.sentence,
        "translations": dict(clip.translations),
    }
