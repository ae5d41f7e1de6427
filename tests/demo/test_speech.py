"""Synthetic speech: the same arguments give the same samples, other arguments others."""

from __future__ import annotations

import builtins
import time
from dataclasses import replace

import numpy as np
import pytest

from comsl.demo.speech import (
    DEV_VARIANTS,
    DIALECTS,
    TEST_VARIANTS,
    TRAIN_VARIANTS,
    SpeechSynthesisError,
    Voice,
    add_noise,
    sample_voice,
    speak,
    synthesize,
)

VOICE = Voice("de", "f1")
TEXT = "Der Mann sieht den Hund."


def test_deterministic_whatever_was_said_before() -> None:
    first = synthesize(TEXT, VOICE)
    synthesize("¿Quién ve al zorro?", Voice("es", "m1", rate=190))
    assert np.array_equal(first, synthesize(TEXT, VOICE))


def test_a_breathy_voice_does_not_depend_on_the_time_of_day() -> None:
    first = synthesize(TEXT, Voice("de", "f5"))
    time.sleep(1.1)
    assert np.array_equal(first, synthesize(TEXT, Voice("de", "f5")))


def test_samples_are_mono_16_khz_float32() -> None:
    waveform = synthesize(TEXT, VOICE, silence=(0.2, 0.3))
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    assert 1.0 < len(waveform) / 16_000 < 4.0
    assert not waveform[:3200].any()
    assert not waveform[-4800:].any()
    assert 0.1 < np.abs(waveform).max() <= 0.9001


@pytest.mark.parametrize("change", [{"variant": "m1"}, {"rate": 200}, {"pitch": 80}, {"name": "fr"}])
def test_each_property_of_a_voice_is_heard(change: dict) -> None:
    one, other = synthesize(TEXT, VOICE), synthesize(TEXT, replace(VOICE, **change))
    assert len(one) != len(other) or not np.allclose(one, other)


def test_faster_speech_is_shorter() -> None:
    assert len(synthesize(TEXT, replace(VOICE, rate=220))) < 0.8 * len(synthesize(TEXT, replace(VOICE, rate=120)))


def test_noise_has_the_asked_for_power() -> None:
    waveform = np.sin(np.arange(16_000) / 5).astype(np.float32)
    noisy = add_noise(waveform, 10.0, np.random.default_rng(0))
    ratio = np.mean(waveform**2) / np.mean((noisy - waveform) ** 2)
    assert 10 * np.log10(ratio) == pytest.approx(10.0, abs=0.1)
    assert noisy.dtype == np.float32


def test_every_voice_speaks_every_dialect_and_no_split_shares_a_voice() -> None:
    assert not set(TRAIN_VARIANTS) & set(TEST_VARIANTS)
    assert not set(TRAIN_VARIANTS) & set(DEV_VARIANTS)
    assert not set(DEV_VARIANTS) & set(TEST_VARIANTS)
    for name in (name for names in DIALECTS.values() for name in names):
        assert len(synthesize("Anna", Voice(name, "m3"))) > 4000
    for variant in TRAIN_VARIANTS + TEST_VARIANTS + DEV_VARIANTS:
        assert len(synthesize("Anna", Voice("en", variant))) > 4000


def test_voices_are_drawn_from_the_given_list() -> None:
    rng = np.random.default_rng(0)
    voices = [sample_voice("fr", ("m1", "f1"), rng) for _ in range(40)]
    assert {voice.variant for voice in voices} == {"m1", "f1"}
    assert {voice.name for voice in voices} == {"fr", "fr-be", "fr-ch"}
    assert speak([("de", TEXT)] * 5, seed=3) == speak([("de", TEXT)] * 5, seed=3)


def test_unknown_voice() -> None:
    with pytest.raises(SpeechSynthesisError, match="no voice 'xx-nowhere'"):
        synthesize(TEXT, Voice("xx-nowhere"))


def test_missing_dependency_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def blocked(name: str, *arguments: object, **keywords: object) -> object:
        if name == "espeakng_loader":
            raise ImportError(name)
        return real(name, *arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(SpeechSynthesisError, match=r"comsl\[demo\]"):
        synthesize(TEXT, VOICE)
