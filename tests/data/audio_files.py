"""Real audio files of every kind, written by soundfile and FFmpeg."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import soundfile


def tone(seconds: float, rate: int = 16_000, frequency: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_sound(path: Path, waveform: np.ndarray, rate: int = 16_000, subtype: str | None = None) -> Path:
    """``waveform`` [samples] or [samples, channels] by libsndfile, in the format of the suffix."""
    soundfile.write(path, waveform, rate, subtype=subtype)
    return path


def write_av(
    path: Path, waveform: np.ndarray, rate: int, codec: str, quality: int | None = None, **options: str
) -> Path:
    """``waveform`` [samples] by FFmpeg, in the container of the suffix; with ``quality`` at a variable bitrate."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "mono"
        if quality is not None:
            stream.codec_context.qscale = True
            stream.codec_context.global_quality = 118 * quality  # FF_QP2LAMBDA
        frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(
            format=stream.format, layout="mono", rate=rate, frame_size=stream.frame_size or None
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


def cut(path: Path, share: float = 0.6) -> Path:
    """The first ``share`` of a file's bytes, beside it."""
    data = path.read_bytes()
    target = path.with_name("cut_" + path.name)
    target.write_bytes(data[: int(len(data) * share)])
    return target
