import itertools
import time

import numpy as np
import pytest

from comsl.inference.segment import (
    CHUNK,
    SAMPLE_RATE,
    Segment,
    detect_speech,
    segment,
    speech_probabilities,
    steadiness,
)
from tests.inference.conftest import say

TIME = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE


def noise(seed: int, exponent: float = 0.0, seconds: float = 4.0) -> np.ndarray:
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE)))
    spectrum /= np.maximum(np.arange(spectrum.size), 1.0) ** exponent
    samples = np.fft.irfft(spectrum)
    return (0.5 * samples / np.abs(samples).max()).astype(np.float32)


def melody(seed: int, harmonics: int) -> np.ndarray:
    """Held notes of a scale, a quarter of a second each."""
    rng = np.random.default_rng(seed)
    notes = []
    for step in rng.choice([0, 2, 4, 5, 7, 9, 11, 12], size=16):
        time_ = np.arange(SAMPLE_RATE // 4) / SAMPLE_RATE
        pitch = 220 * 2 ** (step / 12)
        tone = sum(np.sin(2 * np.pi * pitch * k * time_) / k for k in range(1, harmonics + 1))
        notes.append(tone * np.minimum(time_ / 0.02, 1) * np.exp(-time_))
    return (0.2 * np.concatenate(notes)).astype(np.float32)


NOT_SPEECH = {
    "silence": np.zeros(4 * SAMPLE_RATE, np.float32),
    "constant": np.ones(SAMPLE_RATE, np.float32),
    "click": np.eye(1, SAMPLE_RATE, 5000, dtype=np.float32)[0],
    "white noise": noise(0),
    "pink noise": noise(1, 0.5),
    "brown noise": noise(2, 1.0),
    "hum": (0.3 * np.sign(np.sin(2 * np.pi * 50 * TIME))).astype(np.float32),
    "tone": (0.5 * np.sin(2 * np.pi * 440 * TIME)).astype(np.float32),
    "chirp": np.sin(2 * np.pi * (100 + 300 * TIME) * TIME).astype(np.float32),
    "chord": (sum(np.sin(2 * np.pi * f * TIME) for f in (220, 277, 330)) / 4).astype(np.float32),
    "melody of sines": melody(0, 1),
    "melody of strings": melody(1, 12),
    "melody of reeds": melody(2, 5),
}


@pytest.mark.parametrize("volume", [1.0, 0.01])
@pytest.mark.parametrize("kind", NOT_SPEECH)
def test_what_is_not_speech_gives_no_segment(kind, volume):
    assert segment(NOT_SPEECH[kind] * np.float32(volume)) == []


@pytest.mark.parametrize("samples", [0, 1, 100, 511, 512, 513, 1600])
def test_hardly_any_audio(samples):
    assert segment(np.full(samples, 0.1, np.float32)) == []


def test_a_short_clip_is_one_segment_and_stays_whole(sentences):
    for silence in (0.0, 0.1, 0.4):
        for sentence in sentences:
            edge = np.zeros(int(silence * SAMPLE_RATE), np.float32)
            clip = np.concatenate([edge, sentence, edge])
            assert segment(clip) == [Segment(0.0, len(clip) / SAMPLE_RATE)]


@pytest.mark.parametrize("variant", ["m3", "f2", "f4", "Andy", "Annie"])
@pytest.mark.parametrize("word", ["Ja.", "Nein!", "drei"])
def test_one_word_passes(word, variant):
    clip = say(word, variant, seconds=1.0)
    found = segment(clip)
    assert len(found) == 1
    assert 0.6 <= found[0].start <= 1.0
    assert len(clip) / SAMPLE_RATE - 1.0 <= found[0].end <= len(clip) / SAMPLE_RATE - 0.6


@pytest.mark.parametrize("snr", [20, 10, 5])
def test_speech_in_noise_passes(sentences, snr):
    for seed, sentence in enumerate(sentences):
        clip = np.pad(sentence, 8000)
        background = noise(seed, 0.3, len(clip) / SAMPLE_RATE + 0.1)[: len(clip)]
        background *= np.sqrt(np.mean(sentence**2) / np.mean(background**2)) / 10 ** (snr / 20)
        assert len(segment((clip + background).astype(np.float32))) == 1


def test_quiet_speech_passes(sentences):
    assert len(segment(sentences[0] * np.float32(0.002))) == 1


def test_pauses_cut(sentences):
    """Sentences with pauses of 1 s are segments; those with pauses of 0.3 s belong together."""
    pieces: list[np.ndarray] = []
    spans = []
    for index, sentence in enumerate(sentences):
        pieces.append(np.zeros(round((0.3 if index == 3 else 1.0) * SAMPLE_RATE), np.float32))
        start = sum(map(len, pieces)) / SAMPLE_RATE
        pieces.append(sentence)
        spans.append((start, start + len(sentence) / SAMPLE_RATE))
    found = segment(np.concatenate(pieces), max_joined=0.0)
    expected = [spans[0], spans[1], (spans[2][0], spans[3][1])]
    assert len(found) == 3
    for part, (start, end) in zip(found, expected, strict=True):
        assert start - 0.4 <= part.start <= start
        assert end - 0.1 <= part.end <= end + 0.4


def speech_with_pauses(
    sentences: list[np.ndarray], pauses: list[float]
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """The sentences by turns with ``pauses`` between, and where each one is, in seconds."""
    pieces = [sentences[0]]
    spans = [(0.0, len(sentences[0]) / SAMPLE_RATE)]
    for index, pause in enumerate(pauses, start=1):
        sentence = sentences[index % len(sentences)]
        pieces += [np.zeros(round(pause * SAMPLE_RATE), np.float32), sentence]
        end = sum(map(len, pieces)) / SAMPLE_RATE
        spans.append((end - len(sentence) / SAMPLE_RATE, end))
    return np.concatenate(pieces), spans


def test_neighbours_are_joined_over_the_shortest_pauses(sentences):
    """Sentences of 2 to 4 s; every pause would cut."""
    lasting = [sentence for sentence in sentences if len(sentence) > SAMPLE_RATE]
    waveform, spans = speech_with_pauses(lasting, [0.8, 1.6, 0.8])
    assert len(segment(waveform, max_joined=0.0)) == 4
    assert segment(waveform, max_joined=30.0) == [Segment(0.0, len(waveform) / SAMPLE_RATE)]
    pairs = segment(waveform, max_joined=9.0)
    assert len(pairs) == 2
    assert pairs[0].end - 0.5 < spans[1][1] < pairs[0].end < pairs[1].start < spans[2][0]
    assert len(segment(waveform, max_duration=9.0)) == 2  # no more than the model takes, whatever is joined


def test_long_pauses_always_cut(sentences):
    waveform, _ = speech_with_pauses(sentences, [2.5, 1.0])
    assert len(segment(waveform)) == 2


def covered(segments: list[Segment], start: float, end: float) -> float:
    """Share of [start, end) that lies in segments."""
    return sum(max(0.0, min(part.end, end) - max(part.start, start)) for part in segments) / (end - start)


@pytest.mark.parametrize("click", [0.5, 0.98, 1.3, 2.2])
def test_speech_beside_a_click_is_found(sentences, click):
    """A sentence at -50 dB; the click, at full scale, before, just before or within it."""
    clip = np.pad(sentences[0] * np.float32(10 ** (-50 / 20)), SAMPLE_RATE)
    clip[round(click * SAMPLE_RATE) :][:16] = 1.0
    assert covered(segment(clip), 1.0, len(clip) / SAMPLE_RATE - 1.0) > 0.95


@pytest.mark.parametrize("pause", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("decibels", [-30, -40, -50])
def test_somebody_quiet_after_somebody_loud_is_heard_from_the_first_word(sentences, pause, decibels):
    loud, quiet = sentences[0], say("Morgen kaufen wir drei rote Äpfel auf dem Markt.", "f2")
    silence = np.zeros(round(pause * SAMPLE_RATE), np.float32)
    clip = np.concatenate([loud, silence, quiet * np.float32(10 ** (decibels / 20)), silence, loud])
    start = len(loud) / SAMPLE_RATE + pause
    assert covered(detect_speech(clip), start + 0.1, start + 0.5) > 0.9
    assert covered(segment(clip), start, start + len(quiet) / SAMPLE_RATE) > 0.9


@pytest.mark.parametrize("decibels", [-25, -40])
@pytest.mark.parametrize("kind", [kind for kind in NOT_SPEECH if "melody" not in kind])
def test_what_is_quiet_after_speech_is_no_speech_for_that(sentences, kind, decibels):
    """More than a second after: what the detector hears sooner is taken for part of what was said."""
    loud = sentences[0]
    clip = np.concatenate([loud, np.zeros(2 * SAMPLE_RATE, np.float32), NOT_SPEECH[kind] * 10 ** (decibels / 20)])
    (found,) = segment(clip.astype(np.float32))
    assert found.end < len(loud) / SAMPLE_RATE + 0.6


def check_cover(waveform: np.ndarray, segments: list[Segment], max_duration: float) -> None:
    """In order, without overlap, within bounds, and all that the detector calls speech is inside."""
    borders = [border for part in segments for border in (part.start, part.end)]
    assert borders == sorted(borders)
    assert borders[0] >= 0
    assert borders[-1] <= len(waveform) / SAMPLE_RATE + 1e-9
    assert all(0 < part.duration <= max_duration + 1e-9 for part in segments)
    inside = np.zeros(len(waveform), bool)
    for part in segments:
        inside[round(part.start * SAMPLE_RATE) : round(part.end * SAMPLE_RATE)] = True
    probabilities = speech_probabilities(waveform)
    for part in detect_speech(waveform, probabilities=probabilities):
        assert inside[round(part.start * SAMPLE_RATE) : round(part.end * SAMPLE_RATE)].all()
    sure = np.repeat(probabilities >= 0.9, CHUNK)[: len(waveform)]
    assert inside[sure].all()


def test_speech_without_pause_is_cut_at_its_quietest(sentences):
    """Thirty words without a pause between: the cuts fall on the gaps of 60 ms, and nothing is lost."""
    words = [say(word) for word in ("Haus", "Garten", "Montag", "Berlin", "Lehrerin", "Markt")] * 5
    gap = np.zeros(960, np.float32)
    pieces, gaps = [], []
    for word in words:
        pieces += [word, gap]
        gaps.append((sum(map(len, pieces)) - 480) / SAMPLE_RATE)
    waveform = np.concatenate(pieces)
    found = segment(waveform, max_duration=5.0)
    check_cover(waveform, found, 5.0)
    assert all(part.duration > 1.25 for part in found)
    for before, after in itertools.pairwise(found):
        assert before.end == after.start
        assert min(abs(before.end - middle) for middle in gaps) < 0.1


def minute(sentences: list[np.ndarray]) -> np.ndarray:
    rng = np.random.default_rng(0)
    parts = [np.concatenate([np.zeros(int(rng.uniform(0.1, 1.5) * SAMPLE_RATE)), sentence]) for sentence in sentences]
    return np.resize(np.concatenate(parts), 60 * SAMPLE_RATE).astype(np.float32)


@pytest.mark.parametrize("max_duration", [3.0, 28.0])
def test_a_minute_of_sentences(sentences, max_duration):
    waveform = minute(sentences)
    check_cover(waveform, segment(waveform, max_duration), max_duration)


@pytest.mark.slow
def test_ten_minutes_take_ten_times_as_long(sentences):
    waveform = minute(sentences)
    started = time.process_time()
    segment(waveform, 10.0)
    one = time.process_time() - started
    waveform = np.tile(waveform, 10)
    started = time.process_time()
    found = segment(waveform, 10.0)
    assert time.process_time() - started < 20 * one + 1
    check_cover(waveform, found, 10.0)


def test_recordings_do_not_influence_each_other(sentences):
    first = speech_probabilities(sentences[0])
    speech_probabilities(sentences[3])
    assert np.array_equal(first, speech_probabilities(sentences[0]))


def test_steadiness(sentences):
    assert steadiness(NOT_SPEECH["tone"]) > 0.99
    assert steadiness(sentences[0]) < 0.8
    assert steadiness(np.zeros(100, np.float32)) == 0.0


def test_wrong_max_duration():
    with pytest.raises(ValueError, match="max_duration"):
        segment(np.zeros(16000, np.float32), max_duration=0.5)
