"""Is an audio file cut short? Decoders play what there is and say nothing; the container often knows better.

What can be told from the bytes alone, without decoding:

* WAV (RIFF): the data chunk says how many bytes follow (``WAV_SLACK`` is forgiven).
* Ogg (Opus, Vorbis): each page says how long it is, so a cut inside a page shows.
* MP3: the Xing/Info header, where the encoder wrote one, holds the number of frames; a cut inside a frame always shows.
* AAC in ADTS: a cut inside a frame.

FLAC, MP4/M4A, WebM and Matroska state a length that ``comsl.data.audio`` compares with what was decoded. A cut exactly
between two frames of an MP3 without a Xing header, between two pages of an Ogg stream or in a live WebM recording
without a duration leaves a valid shorter file: nothing can tell.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass

Bytes = bytes | mmap.mmap

WAV_SLACK = 0.1
"""Seconds that a WAV file may lack: recorders that stop before their last buffers are written leave a header that
announces some 50 ms too much (78 files of the Mboshi corpus have one), and nothing of the speech is lost."""

# RIFF writers that cannot seek back put one of the largest numbers here instead of a length.
_STREAMED_WAV = 0x7FFF_0000

_MP3_BITRATES = {  # kbit/s by bitrate index; layer III of MPEG 1 and of MPEG 2 / 2.5
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_MP3_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


@dataclass(frozen=True)
class Inspection:
    """What the bytes of a file say without being decoded."""

    cut_short: str | None = None
    """Why the file cannot be complete ("its header announces ..."), or None if nothing says so."""
    libsndfile_knows_length: bool = True
    """False where libsndfile would take a guess for the length, and drop what lies beyond it or make up what does not:
    MP3 without a Xing/Info header that counts its frames, and several Ogg streams one after the other."""
    seconds: float | None = None
    """Length, for MP3, whose frames were counted."""


def inspect(data: Bytes) -> Inspection:
    """Look a file's structure through."""
    magic = data[:12]
    if magic[:4] == b"RIFF" and magic[8:12] == b"WAVE":
        return Inspection(_wav(data))
    if magic[:4] == b"OggS":
        return _ogg(data)
    if magic[:3] == b"ID3" or (len(magic) > 1 and magic[0] == 0xFF and magic[1] & 0xE0 == 0xE0):
        start = _after_id3(data)
        if start + 2 <= len(data) and data[start + 1] & 0x06 == 0:
            return Inspection(_adts(data, start))
        return _mp3(data, start)
    return Inspection()


def wav_shortfall(data: Bytes) -> tuple[int, int, float] | None:
    """(bytes of samples announced, bytes there, seconds that are missing), or None if that is not stated."""
    position, size, bytes_per_second = 12, len(data), 0
    while position + 8 <= size:
        chunk = data[position : position + 4]
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        if chunk == b"fmt " and position + 20 <= size:
            bytes_per_second = int.from_bytes(data[position + 16 : position + 20], "little")
        if chunk == b"data":
            there = size - position - 8
            if length >= _STREAMED_WAV or not bytes_per_second:
                return None
            return length, there, max(0, length - there) / bytes_per_second
        position += 8 + length + (length & 1)
    return None


def _wav(data: Bytes) -> str | None:
    shortfall = wav_shortfall(data)
    if shortfall is not None and shortfall[2] > WAV_SLACK:
        return f"its header announces {shortfall[0]:,} bytes of samples, {shortfall[1]:,} are there"
    return None


def _ogg(data: Bytes) -> Inspection:
    position, size = 0, len(data)
    is_chained = in_stream = False
    while data[position : position + 4] == b"OggS":
        segments = data[position + 26] if position + 27 <= size else 0
        table = data[position + 27 : position + 27 + segments]
        starts_stream = position + 27 <= size and bool(data[position + 5] & 2)
        is_chained |= in_stream and starts_stream
        in_stream |= not starts_stream
        position += 27 + segments + sum(table)
        if position > size:
            return Inspection("its last Ogg page is incomplete")
    return Inspection(libsndfile_knows_length=not is_chained)


def _after_id3(data: Bytes) -> int:
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    length = data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9]
    return 10 + length + (10 if data[5] & 0x10 else 0)


def _adts(data: Bytes, start: int) -> str | None:
    position, size = start, len(data)
    while position + 7 <= size and data[position] == 0xFF and data[position + 1] & 0xF6 == 0xF0:
        length = (data[position + 3] & 3) << 11 | data[position + 4] << 3 | data[position + 5] >> 5
        if length < 7:
            return None
        position += length
        if position > size:
            return "its last AAC frame is incomplete"
    if position < size < position + 7 and data[position] == 0xFF:
        return "its last AAC frame is incomplete"
    return None


def _mp3_frame(data: Bytes, position: int) -> int:
    """Bytes of the layer III frame whose header stands at ``position``; 0 if none stands there."""
    header = int.from_bytes(data[position : position + 4], "big")
    version, layer = header >> 19 & 3, header >> 17 & 3
    rate_index = header >> 10 & 3
    if header >> 21 != 0x7FF or version == 1 or layer != 1 or rate_index == 3:
        return 0
    kilobits = _MP3_BITRATES[version == 3][header >> 12 & 15]
    samples_by_8 = 144 if version == 3 else 72
    return samples_by_8 * 1000 * kilobits // _MP3_RATES[version][rate_index] + (header >> 9 & 1)


def _mp3_seconds(data: Bytes, position: int) -> float:
    """Of the frame whose header stands at ``position``."""
    header = int.from_bytes(data[position : position + 4], "big")
    version = header >> 19 & 3
    return (1152 if version == 3 else 576) / _MP3_RATES[version][header >> 10 & 3]


def _xing_frames(data: Bytes, position: int, length: int) -> int | None:
    """Number of audio frames that the Xing/Info header in the file's first frame states."""
    frame = data[position : position + min(length, 200)]
    for tag in (b"Xing", b"Info"):
        at = frame.find(tag)
        if at >= 0 and len(frame) >= at + 12 and frame[at + 7] & 1:
            return int.from_bytes(frame[at + 8 : at + 12], "big")
    return None


def _next_mp3_frame(data: Bytes, position: int) -> int:
    """Where the next two whole frames in a row start, after damage or before a tag; -1 if none do."""
    while (position := data.find(b"\xff", position)) >= 0:
        length = _mp3_frame(data, position)
        following = position + length
        if length and (second := _mp3_frame(data, following)) and following + second <= len(data):
            return position
        position += 1
    return -1


def _mp3(data: Bytes, start: int) -> Inspection:
    position, size, frames = start, len(data), 0
    announced: int | None = None
    seconds = 0.0
    while 0 <= position and position + 4 <= size:
        length = _mp3_frame(data, position)
        if length == 0:
            position = _next_mp3_frame(data, position)
            continue
        if position + length > size:
            return Inspection("its last MP3 frame is incomplete")
        if frames == 0:
            announced = _xing_frames(data, position, length)
        if frames > 0 or announced is None:
            seconds += _mp3_seconds(data, position)
        position += length
        frames += 1
    # The header's own frame is not audio, but some writers count it.
    if announced is not None and frames < announced:
        return Inspection(f"its header announces {announced} MP3 frames, {max(frames - 1, 0)} are there")
    return Inspection(None, announced in (frames - 1, frames), seconds or None)
