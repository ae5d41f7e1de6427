"""A waveform of any length in little memory."""

from __future__ import annotations

import tempfile
from types import TracebackType

import numpy as np
import numpy.typing as npt
import soxr

from comsl.data.constants import SAMPLE_RATE
from comsl.data.errors import DataError

Waveform = npt.NDArray[np.float32]

IN_MEMORY = 1 << 24
"""Bytes (four minutes) from which on a recording lies in a temporary file. An hour takes 230 MB of it."""


class Recording:
    """Samples [N] at 16 kHz, mono, float32: ``len(recording)`` and slices as of an array, each slice a copy of its own.

    What is read block by block (the speech detector) or in pieces (segments) needs no more memory for five hours than
    for five minutes.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - closed by close()
        self._rate: int | None = None
        self._resampler: soxr.ResampleStream | None = None
        self._samples = 0
        self.finite = True
        """No sample is NaN or infinite."""

    def feed(self, block: Waveform, rate: int) -> None:
        """Append samples of any rate; each run of blocks of one rate is resampled as the whole that it is."""
        if rate != self._rate:
            self.finish()
            self._rate = rate
            # The same samples as soxr.resample gives for all blocks at once.
            self._resampler = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, "float32")
        self._append(block if self._resampler is None else self._resampler.resample_chunk(block))

    def finish(self) -> None:
        """Append what the resampler still holds back."""
        if self._resampler is not None:
            self._append(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        self._rate = self._resampler = None

    def _append(self, block: Waveform) -> None:
        self.finite = self.finite and bool(np.isfinite(block).all())
        try:
            self._file.write(np.ascontiguousarray(block, np.float32).data)
        except OSError as error:
            raise DataError(
                f"{tempfile.gettempdir()}: no room for a recording's samples, 230 MB an hour ({error.strerror}); "
                "set TMPDIR to a folder that has it"
            ) from error
        self._samples += block.size

    def clear(self) -> None:
        """Forget everything."""
        self._file.seek(0)
        self._file.truncate()
        self._rate = self._resampler = None
        self._samples, self.finite = 0, True

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, part: slice) -> Waveform:
        start, stop, step = part.indices(self._samples)
        if step != 1:
            raise ValueError("a recording is read forwards, every sample")
        samples = np.empty(max(0, stop - start), np.float32)
        self._file.seek(start * samples.itemsize)
        self._file.readinto(samples.data)
        return samples

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
