"""Synthetic speech from espeak-ng, through the library inside the `espeakng-loader` wheel.

espeak-ng is a formant synthesiser: robotic, but it speaks over a hundred languages, needs no model files
beyond the wheel and runs several hundred times faster than real time, which is what a demonstration that has
to run anywhere needs. The same arguments give the same samples, whatever was
said before; calls within a process take turns, several processes may speak at once.

N samples.
"""

from __future__ import annotations

import _ctypes
import ctypes
import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import soxr

from comsl.data.constants import SAMPLE_RATE
from comsl.errors import ComSLError
from comsl.languages import get_language

# From espeak-ng's public header speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_LOCK = threading.Lock()
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class SpeechSynthesisError(ComSLError):
    """espeak-ng is missing or refused a voice."""


@dataclass(frozen=True)
class Voice:
    """One synthetic speaker.

    Attributes:
        name: espeak-ng voice, a language or dialect ("de", "es-419", "en-gb").
        variant: espeak-ng voice variant ("m1", "f2", "Andy", ...), or "" for the plain voice.
        rate: words per minute, 80 to 450.
        pitch: base pitch, 0 to 100.
        range: liveliness of the intonation, 0 (monotone) to 100.
    """

    name: str
    variant: str = ""
    rate: int = 165
    pitch: int = 50
    range: int = 50

    @property
    def identifier(self) -> str:
        """The name espeak-ng wants: voice+variant."""
        return f"{self.name}+{self.variant}" if self.variant else self.name


# Dialects by language: they differ in vowels, not only in timbre.
DIALECTS: dict[str, tuple[str, ...]] = {
    "de": ("de",),
    "es": ("es", "es-419"),
    "fr": ("fr", "fr-be", "fr-ch"),
    "cy": ("cy",),
    "en": ("en", "en-us"),
}

# No variant is in both lists: whoever speaks in a test set is never heard in training.
TRAIN_VARIANTS: tuple[str, ...] = (
    "", "m1", "m2", "m4", "m5", "m6", "m7", "f1", "f3", "f5", "Alex", "Andrea", "Denis", "Gene", "Hugo", "Jacky",
    "Lee", "Marco", "Michael", "adam", "anika", "antonio", "belinda", "benjamin", "david", "edward",
    "ian", "john", "linda", "marcelo", "max", "miguel", "pablo", "rob", "sandro", "shelby", "steph", "travis", "victor",
)  # fmt: skip
DEV_VARIANTS: tuple[str, ...] = ("m8", "Mario")
TEST_VARIANTS: tuple[str, ...] = ("m3", "f2", "f4", "Andy", "Annie", "Diogo", "Henrique", "Mike")


class _Espeak:
    """One freshly loaded copy of the library.

    espeak-ng carries oscillator phases from one utterance into the next and offers no call that resets them, so
    the same text differs sample by sample from call to call. Loading the library anew (about 5 ms) resets
    them; the random numbers behind breathy voices, seeded with the time of day, are seeded anew too.
    """

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise SpeechSynthesisError(
                "the speech synthesiser espeak-ng is not installed: pip install 'comsl[demo]'"
            ) from error
        try:
            self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        except OSError as error:
            raise SpeechSynthesisError(f"cannot load espeak-ng: {error}") from error
        self.chunks: list[np.ndarray] = []
        path = espeakng_loader.get_data_path().encode()
        self.rate = int(self.library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, path, _INITIALIZE_DONT_EXIT))
        if self.rate <= 0:
            raise SpeechSynthesisError(f"espeak-ng did not start with its data in {path.decode()}")
        self.library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self._callback = _CALLBACK(self._receive)  # kept alive: C holds only the pointer
        self.library.espeak_SetSynthCallback(self._callback)
        self.library.espeak_Synth.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
            ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip

    def _receive(self, wave: Any, samples: int, _events: Any) -> int:
        if samples > 0 and wave:
            self.chunks.append(np.ctypeslib.as_array(wave, shape=(samples,)).copy())
        return 0

    def say(self, text: str, voice: Voice) -> np.ndarray:
        """int16 [N] at the library's own rate."""
        if self.library.espeak_SetVoiceByName(voice.identifier.encode()) != 0:
            raise SpeechSynthesisError(f"espeak-ng has no voice {voice.identifier!r}")
        settings = {_RATE: voice.rate, _VOLUME: 100, _PITCH: voice.pitch, _RANGE: voice.range}
        for parameter, value in settings.items():
            self.library.espeak_SetParameter(parameter, int(value), 0)
        data = text.encode()
        status = self.library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _CHARS_UTF8, None, None)
        self.library.espeak_Synchronize()
        if status != 0:
            raise SpeechSynthesisError(f"espeak-ng could not say {text!r} (status {status})")
        return np.concatenate(self.chunks) if self.chunks else np.zeros(0, dtype=np.int16)

    def close(self) -> None:
        self.library.espeak_Terminate()
        unload = getattr(_ctypes, "dlclose", None) or getattr(_ctypes, "FreeLibrary", None)
        if unload is not None:
            unload(self.library._handle)


def _say(text: str, voice: Voice) -> tuple[np.ndarray, int]:
    with _LOCK:
        engine = _Espeak()
        try:
            return engine.say(text, voice), engine.rate
        finally:
            engine.close()


RATES = (135, 200)
"""Words per minute: the slowest voice, and what the fastest stays below."""


def sample_voice(
    language: str, variants: tuple[str, ...], rng: np.random.Generator, rates: tuple[int, int] = RATES
) -> Voice:
    """A random speaker of `language` out of `variants`, with a random rate, pitch and liveliness."""
    names = DIALECTS.get(language) or (get_language(language).espeak or language,)
    return Voice(
        name=names[int(rng.integers(len(names)))],
        variant=variants[int(rng.integers(len(variants)))],
        rate=int(rng.integers(*rates)),
        pitch=int(rng.integers(30, 71)),
        range=int(rng.integers(30, 75)),
    )


def add_noise(waveform: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Noise with a random colour between white and pink at `snr_db` decibels below the speech. float32 [N] -> [N]."""
    if waveform.size == 0:
        return waveform
    spectrum = np.fft.rfft(rng.standard_normal(waveform.size))
    spectrum /= np.maximum(np.arange(spectrum.size), 1.0) ** rng.uniform(0.0, 0.5)
    noise = np.fft.irfft(spectrum, waveform.size)
    power = float(np.mean(waveform**2)) / 10 ** (snr_db / 10)
    noise *= np.sqrt(power / max(float(np.mean(noise**2)), 1e-12))
    return (waveform + noise).astype(np.float32)


def synthesize(
    text: str,
    voice: Voice,
    *,
    snr_db: float | None = None,
    silence: tuple[float, float] = (0.1, 0.1),
    seed: int = 0,
) -> np.ndarray:
    """Say `text`.

    Args:
        text: what to say, with its punctuation.
        voice: who says it.
        snr_db: signal-to-noise ratio of added noise in decibels, None for none.
        silence: seconds of silence before and after the speech (espeak-ng's own silence is cut off).
        seed: of the noise.

    Returns:
        float32 [N], mono, 16 kHz, peak at most 0.9.

    Raises:
        SpeechSynthesisError: espeak-ng is missing, or does not know the voice.
    """
    raw, rate = _say(text, voice)
    samples = raw.astype(np.float32) / 32768.0
    if samples.size:
        samples = soxr.resample(samples, rate, SAMPLE_RATE).astype(np.float32)
        loud = np.flatnonzero(np.abs(samples) > 1e-3)
        samples = samples[loud[0] : loud[-1] + 1] if loud.size else samples[:0]
    peak = float(np.abs(samples).max()) if samples.size else 0.0
    if peak > 0.9:
        samples = samples * np.float32(0.9 / peak)
    before, after = (np.zeros(int(seconds * SAMPLE_RATE), dtype=np.float32) for seconds in silence)
    waveform = np.concatenate([before, samples, after])
    return waveform if snr_db is None else add_noise(waveform, snr_db, np.random.default_rng(seed))


@dataclass(frozen=True)
class Utterance:
    """A sentence and how it is spoken."""

    language: str
    text: str
    voice: Voice
    snr_db: float | None
    silence: tuple[float, float]
    seed: int

    @property
    def digest(self) -> str:
        """SHA-256 of everything that is said and how."""
        content = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()


def speak(
    texts: Sequence[tuple[str, str]],
    seed: int,
    variants: tuple[str, ...] = TRAIN_VARIANTS,
    noisy: float = 0.3,
    rates: tuple[int, int] = RATES,
) -> list[Utterance]:
    """Give each (language, text) a random voice, noise (with probability `noisy`) and silence."""
    rng = np.random.default_rng([seed, 2])
    utterances = []
    for index, (language, text) in enumerate(texts):
        voice = sample_voice(language, variants, rng, rates)
        snr = float(rng.uniform(8, 35)) if rng.random() < noisy else None
        silence = (float(rng.uniform(0.02, 0.3)), float(rng.uniform(0.02, 0.3)))
        utterances.append(Utterance(language, text, voice, snr, silence, seed + index))
    return utterances


def render(utterance: Utterance) -> np.ndarray:
    """float32 [samples], 16 kHz."""
    return synthesize(
        utterance.text, utterance.voice, snr_db=utterance.snr_db, silence=utterance.silence, seed=utterance.seed
    )
