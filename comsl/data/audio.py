"""Audio files of any kind -> float32 mono samples at 16 kHz.

soundfile (libsndfile) reads wav, flac, ogg/opus, mp3 and more; PyAV (FFmpeg) reads what it refuses: m4a, mp4, webm,
aac, ... Channels are averaged, soxr resamples. What cannot be used raises an AudioError in one line that names the
file; in particular no file that is known to be cut short is passed off as a shorter clip (see
``comsl.data.truncation`` for what can be known).
"""

from __future__ import annotations

import contextlib
import io
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import soundfile

from comsl.data.constants import SAMPLE_RATE
from comsl.data.errors import DataError
from comsl.data.recording import Recording, Waveform
from comsl.data.truncation import WAV_SLACK, Bytes, Inspection, inspect

MIN_DURATION = 0.025
"""Seconds of the shortest clip that a model is given: one analysis window of 400 samples. Shorter audio loads, but the
wav2vec2 family makes no frame of it, and no speech is that short; datasets refuse it."""

Source = str | Path | bytes

# Samples per channel that are decoded at a time: many-channel files never stand in memory unmixed.
_BLOCK = 1 << 18
# Containers whose stated duration is that of the whole file and not guessed from its size.
_STATES_DURATION = ("mov", "matroska", "flac")
# Encoders round a stream's length to whole frames and state it with or without their delay (Opus: up to 0.1 s).
_DURATION_SLACK = 0.15


class AudioError(DataError):
    """An audio file that cannot be used; one line that names the file and what to do."""


def load_audio(source: Source) -> Waveform:
    """Decode, mix to mono and resample.

    Args:
        source: path of a file, or the bytes of one.

    Returns:
        [samples] float32 at 16 kHz, finite, at least one sample.

    Raises:
        AudioError: missing, a directory, empty, not audio, cut short, without samples, or with NaN or infinite ones.
    """
    with load_recording(source) as recording:
        return recording[:]


def load_clip(source: Source) -> Waveform:
    """``load_audio`` for a model: AudioError as well where the clip is shorter than ``MIN_DURATION``."""
    with load_recording(source, MIN_DURATION) as recording:
        return recording[:]


def load_recording(source: Source, min_duration: float = 0.0) -> Recording:
    """``load_audio`` for recordings of any length: decoded block by block into what does not lie in memory.

    Raises:
        AudioError: as of ``load_audio``, and where there are less than ``min_duration`` seconds.
        DataError: the folder of temporary files is full.
    """
    recording = Recording()
    try:
        _decode(source, recording)
        name = _name(source)
        if len(recording) == 0:
            raise AudioError(f"{name}: the file holds no audio samples; record it again or leave it out")
        if not recording.finite:
            raise AudioError(f"{name}: the file holds samples that are not numbers (NaN or infinite); convert it again")
        if len(recording) < min_duration * SAMPLE_RATE:
            raise AudioError(
                f"{name}: {1000 * len(recording) / SAMPLE_RATE:.0f} ms of audio; at least"
                f" {1000 * min_duration:.0f} ms are needed: record it again or leave it out"
            )
    except BaseException:
        recording.close()
        raise
    return recording


def _decode(source: Source, recording: Recording) -> None:
    name = _name(source)
    with _contents(source, name) as data:
        inspection = inspect(data)
        if inspection.cut_short:
            raise AudioError(f"{name}: the file is cut short ({inspection.cut_short}); copy or download it again")
        if not _decode_soundfile(source, name, inspection, recording):
            recording.clear()
            _decode_av(data, name, recording)
    recording.finish()


def audio_duration(source: Source) -> float:
    """Seconds, from the header where it says so and by decoding otherwise. Raises AudioError as ``load_audio``."""
    name = _name(source)
    with _contents(source, name) as data:
        inspection = inspect(data)
        if inspection.seconds is not None:
            return inspection.seconds
        with contextlib.suppress(soundfile.LibsndfileError, TypeError), _sound_file(source) as file:
            if file.frames > 0 and _knows_length(file, inspection):
                return file.frames / file.samplerate
        with contextlib.suppress(av.FFmpegError), _container(data) as container:
            stated = _stated_duration(container)
            if stated:
                return stated
    return load_audio(source).size / SAMPLE_RATE


def _name(source: Source) -> str:
    return f"audio of {len(source):,} bytes" if isinstance(source, bytes) else str(source)


@contextlib.contextmanager
def _contents(source: Source, name: str) -> Iterator[Bytes]:
    """The file's bytes, mapped rather than read. The errors of files that cannot be opened are raised here."""
    if isinstance(source, bytes):
        if not source:
            raise AudioError("audio of 0 bytes: there is nothing to decode; leave the row out or fill it in")
        yield source
        return
    path = Path(source)
    try:
        if path.is_dir():
            raise AudioError(f"{name}: is a directory, not an audio file; name the files in it")
        if path.stat().st_size == 0:
            raise AudioError(f"{name}: the file is empty (0 bytes); copy or download it again")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
    except FileNotFoundError:
        raise AudioError(f"{name}: no such file; check the path") from None
    except OSError as error:
        raise AudioError(f"{name}: cannot be read ({error.strerror or error})") from None


def _sound_file(source: Source) -> soundfile.SoundFile:
    return soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else str(source))


def _knows_length(file: soundfile.SoundFile, inspection: Inspection) -> bool:
    """Whether libsndfile can be trusted with this file's length. MPEG audio in whatever wrapping it only estimates."""
    checked = inspection.seconds is not None or not file.subtype.startswith("MPEG")
    return checked and inspection.libsndfile_knows_length


def _decode_soundfile(source: Source, name: str, inspection: Inspection, recording: Recording) -> bool:
    """False if libsndfile does not know the format or fails on the way."""
    there = 0
    try:
        with _sound_file(source) as file:
            if not _knows_length(file, inspection):
                return False
            rate, frames, is_mpeg = file.samplerate, file.frames, file.subtype.startswith("MPEG")
            # Not file.blocks(), which hands out as many samples as announced, decoded or not.
            while (block := file.read(_BLOCK, dtype="float32", always_2d=True)).size:
                recording.feed(_mono(block.T), rate)
                there += len(block)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: headerless ".raw", which needs a rate to be told
        return False
    if there + WAV_SLACK * rate < frames and not is_mpeg:
        raise AudioError(
            f"{name}: the file is cut short or damaged (its header announces {frames:,} samples, {there:,} could be"
            " decoded); copy or download it again"
        )
    return True


def _container(data: Bytes) -> Any:
    """FFmpeg's view of the file. No protocol is allowed, so that a playlist cannot make it open something else."""
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    file.seek(0)
    return av.open(file, mode="r", options={"protocol_whitelist": ""}, metadata_errors="replace")


def _stated_duration(container: Any) -> float | None:
    """Seconds of the first audio stream as the container states them; None where it would be a guess."""
    if not container.streams.audio or not container.format.name.startswith(_STATES_DURATION):
        return None
    stream = container.streams.audio[0]
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and not container.streams.video:
        return float(container.duration) / av.time_base
    return None


def _decode_av(data: Bytes, name: str, recording: Recording) -> None:
    """The first audio stream, whose rate may change on the way."""
    packets = seconds = 0.0
    try:
        with _container(data) as container:
            if not container.streams.audio:
                raise AudioError(f"{name}: the file has no audio track")
            stream = container.streams.audio[0]
            stated, announced = _stated_duration(container), stream.frames
            for packet in container.demux(stream):
                packets += packet.size > 0
                for frame in packet.decode():
                    recording.feed(_frame_samples(frame), frame.sample_rate)
                    seconds += frame.samples / frame.sample_rate
    except av.InvalidDataError as error:
        if seconds:
            raise AudioError(
                f"{name}: the file is cut short or damaged (decoding stops after {seconds:.2f} s);"
                " copy or download it again"
            ) from None
        raise AudioError(
            f"{name}: not an audio file that can be read ({error.strerror}); if it plays elsewhere, convert it to wav"
        ) from None
    except av.FFmpegError as error:
        raise AudioError(f"{name}: cannot be decoded ({error.strerror}); convert it to wav") from None
    if packets < announced or (stated is not None and seconds < stated - _DURATION_SLACK):
        length = f"{stated:.2f} s" if stated is not None else f"{announced} packets"
        raise AudioError(
            f"{name}: the file is cut short or damaged (its header announces {length}, {seconds:.2f} s could be"
            " decoded); copy or download it again"
        )


def _frame_samples(frame: Any) -> Waveform:
    """One decoded FFmpeg frame -> mono float32 [samples]."""
    values = frame.to_ndarray()
    channels = frame.layout.nb_channels
    if not frame.format.is_planar:
        values = values.reshape(-1, channels).T
    if values.dtype == np.uint8:
        return _mono((values.astype(np.float32) - 128.0) / 128.0)
    if np.issubdtype(values.dtype, np.integer):
        return _mono(values.astype(np.float32) / -float(np.iinfo(values.dtype).min))
    return _mono(values.astype(np.float32))


def _mono(channels: npt.NDArray[np.float32]) -> Waveform:
    """[channels, samples] -> [samples]."""
    if channels.shape[0] == 1:
        return np.array(channels[0])
    with np.errstate(over="ignore", invalid="ignore"):  # reported as not finite later
        return channels.mean(axis=0, dtype=np.float32)
