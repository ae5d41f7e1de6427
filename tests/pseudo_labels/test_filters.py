"""Every filter on literal rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from comsl.data.held_out import HeldOut
from comsl.data.manifest import write_manifest
from comsl.errors import UsageError
from comsl.pseudo_labels.filters import REASONS, Filters, LanguageIdentifier, repeats
from comsl.pseudo_labels.sources import covost_manifests


def labelled(**changes: Any) -> dict[str, Any]:
    """A row that every filter lets pass."""
    return {
        "id": "a",
        "duration": 2.0,
        "source_language": "de",
        "target_language": "en",
        "transcript": "Der Hund schläft.",
        "translation": "The dog sleeps.",
        "score": -0.4,
        "truncated": False,
        "source_tokens": 4,
        "target_tokens": 4,
    } | changes


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"duration": None}, None),
        ({"duration": 30.0}, None),
        ({"duration": 30.1}, "duration"),
        ({"duration": 0.02}, "duration"),
        ({"translation": " ", "target_tokens": 0}, "empty"),
        ({"truncated": True}, "truncated"),
        ({"source_tokens": 4, "target_tokens": 12}, None),
        ({"source_tokens": 4, "target_tokens": 13}, "length_ratio"),
        ({"source_tokens": 13, "target_tokens": 4}, "length_ratio"),
        ({"translation": "No, no, no!"}, None),
        ({"translation": "The dog, the dog, the dog, the dog sleeps."}, "repeated_ngram"),
        # The speaker repeats himself: so may the translation.
        ({"transcript": "Nein nein nein nein!", "translation": "No no no no!"}, None),
        ({"transcript": "Nein nein nein nein!", "translation": "No no no no no!"}, "repeated_ngram"),
        ({"score": -1.5}, None),
        ({"score": -1.6}, "score"),
        # The first reason counts.
        ({"score": -9.0, "truncated": True}, "truncated"),
    ],
)
def test_filters(changes: dict[str, Any], reason: str | None) -> None:
    assert Filters().reason(labelled(**changes)) == reason
    assert reason is None or reason in REASONS


def test_filters_can_be_switched_off() -> None:
    off = Filters(max_length_ratio=0, max_repeats=0, min_score=float("-inf"))
    row = labelled(target_tokens=99, translation="a a a a a a a", score=-50.0)
    assert off.reason(row) is None


@pytest.mark.parametrize(
    ("text", "language", "most"),
    [
        ("", "en", 0),
        ("...", "en", 0),
        ("one", "en", 1),
        ("one two three", "en", 1),
        ("So, so, so good", "en", 3),
        ("I am I am I am here", "en", 3),
        ("a b c d e f g h a b c d e f g h", "en", 2),
        ("the same again, and the same again", "en", 1),
        ("我们我们我们走", "zh", 3),
        ("はははは", "ja", 4),
    ],
)
def test_repeats(text: str, language: str, most: int) -> None:
    assert repeats(text, language) == most


@pytest.mark.parametrize(
    "setting",
    [{"max_length_ratio": 0.5}, {"max_repeats": -1}, {"max_seconds": 0.0}],
    ids=lambda setting: next(iter(setting)),
)
def test_bounds_that_make_no_sense(setting: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="--" + next(iter(setting)).replace("_", "-")):
        Filters(**setting)


@pytest.fixture
def held_out(tmp_path: Path) -> HeldOut:
    def row(
        name: str, source: str, target: str, source_language: str = "de", target_language: str = "en"
    ) -> dict[str, Any]:
        return {
            "id": name,
            "audio": f"clips/{name}.mp3",
            "source_language": source_language,
            "target_language": target_language,
            "transcript": source,
            "translation": target,
        }

    write_manifest([row("train-1", "Guten Tag!", "Good day!")], tmp_path / "de_en" / "train.jsonl")
    write_manifest([row("dev-1", "Wie geht es dir?", "How are you?")], tmp_path / "de_en" / "dev.jsonl")
    write_manifest([row("test-1", "„Straße“", "“Street”"), row("test-2", "…", "!")], tmp_path / "de_en" / "test.jsonl")
    write_manifest([row("test-3", "Merci.", "Thanks.", "fr")], tmp_path / "fr_en" / "test.jsonl")
    write_manifest([row("test-5", "می\u200cرود.", "She goes.", "fa")], tmp_path / "fa_en" / "test.jsonl")
    write_manifest([row("test-4", "Who knows?", "Wer weiß?", "en", "de")], tmp_path / "en_de" / "test.jsonl")
    return HeldOut.read(*covost_manifests(tmp_path))


@pytest.mark.parametrize(
    ("clip", "language", "transcript", "reason"),
    [
        ("new", "de", "Ein neuer Satz.", None),
        ("train-1", "de", "Guten Tag!", "translated"),
        ("new", "de", "Guten Tag!", None),  # a sentence of training is no leak
        ("dev-1", "de", "Ein neuer Satz.", "leak_clip"),
        ("test-1", "de", "Ein neuer Satz.", "leak_clip"),
        ("dev-1", "fr", "Une phrase.", None),  # another language's clip of that name
        ("new", "de", "wie geht es dir", "leak_source"),
        ("new", "de", "STRASSE", "leak_source"),
        ("new", "de", "straße", "leak_source"),
        ("new", "de", "WER   WEISS?", "leak_source"),
        ("new", "de", "wer weiß", "leak_source"),  # the reference of en-de's test
        ("new", "de", "!?", None),  # nothing but punctuation is no sentence
        ("new", "fr", "Wie geht es dir?", None),
        ("new", "fa", "می رود", "leak_source"),  # a blank where the other writer put a zero-width non-joiner
        (None, "de", "Wie geht es dir?", "leak_source"),
    ],
)
def test_leaks(held_out: HeldOut, clip: str | None, language: str, transcript: str, reason: str | None) -> None:
    audio = None if clip is None else f"/elsewhere/{clip}.wav"
    row = {"audio": audio, "source_language": language, "transcript": transcript, "translation": None}
    assert held_out.reason(row) == reason


@pytest.mark.parametrize(
    ("text", "language", "held"),
    [("thanks", "en", True), ("Who knows", "en", True), ("Good day!", "en", False), ("thanks", "fr", False)],
)
def test_translations_are_looked_up_in_the_references_of_every_direction(
    held_out: HeldOut, text: str, language: str, held: bool
) -> None:
    assert held_out.holds(text, language) is held


def test_counts_of_what_is_held_out(held_out: HeldOut) -> None:
    assert held_out.counts() == {"translated_clips": 1, "clips": 6, "sentences": {"de": 3, "en": 5, "fa": 1, "fr": 1}}


def test_a_folder_without_manifests(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--covost-manifests"):
        covost_manifests(tmp_path)


def test_language_identification() -> None:
    pytest.importorskip("lingua")
    identifier = LanguageIdentifier(["de", "fr"], "en")
    assert identifier.is_target("The dog sleeps in the garden of our neighbours.")
    assert not identifier.is_target("Der Hund schläft im Garten unserer Nachbarn.")
    assert identifier.is_target("1984")
    with pytest.raises(UsageError, match="mdw"):
        LanguageIdentifier(["de"], "mdw")
