"""A recording is the array that it was fed, in memory or in a temporary file."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soxr

from comsl.data import recording as module
from comsl.data.audio import AudioError, load_audio, load_recording
from comsl.data.errors import DataError
from comsl.data.recording import Recording
from tests.data.audio_files import write_sound


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples).astype(np.float32)


@pytest.fixture(params=["memory", "file"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "file":
        monkeypatch.setattr(module, "IN_MEMORY", 64)
    return request.param


def test_slices(place: str) -> None:
    samples = noise(1000)
    with Recording() as recording:
        for start in range(0, 1000, 300):
            recording.feed(samples[start : start + 300], 16_000)
        recording.finish()
        assert recording._file._rolled == (place == "file")  # type: ignore[attr-defined]
        assert len(recording) == 1000
        for part in (slice(None), slice(0, 512), slice(900, 2000), slice(999, 999), slice(2000, 3000), slice(-3, None)):
            np.testing.assert_array_equal(recording[part], samples[part])
            assert recording[part].flags.writeable
        with pytest.raises(ValueError, match="every sample"):
            recording[::2]


def test_a_run_of_one_rate_is_resampled_as_a_whole(place: str) -> None:
    """Blocks of 44.1 kHz, then of 16, then of 8: as if each run had been resampled at once."""
    runs = [(noise(30_000, 1), 44_100), (noise(5000, 2), 16_000), (noise(7000, 3), 8000)]
    with Recording() as recording:
        for samples, rate in runs:
            for start in range(0, len(samples), 1234):
                recording.feed(samples[start : start + 1234], rate)
        recording.finish()
        expected = [samples if rate == 16_000 else soxr.resample(samples, rate, 16_000) for samples, rate in runs]
        np.testing.assert_array_equal(recording[:], np.concatenate(expected))


def test_clear_forgets_what_was_there(place: str) -> None:
    with Recording() as recording:
        recording.feed(np.full(5000, np.nan, np.float32), 44_100)
        recording.clear()
        assert (len(recording), recording.finite) == (0, True)
        recording.feed(noise(100), 16_000)
        recording.finish()
        np.testing.assert_array_equal(recording[:], noise(100))


def test_no_room_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    with Recording() as recording:

        def full(_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(recording._file, "write", full)
        with pytest.raises(DataError, match="No space left on device.*TMPDIR"):
            recording.feed(noise(10), 16_000)


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_a_file_is_the_same_either_way(place: str, rate: int, tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.flac", noise(2 * rate), rate)
    with load_recording(path) as recording:
        np.testing.assert_array_equal(recording[:], load_audio(path))


def test_a_file_that_cannot_be_used_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Recording] = []

    class Watched(Recording):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr("comsl.data.audio.Recording", Watched)
    for source in bad_files(tmp_path):
        with pytest.raises(AudioError):
            load_recording(source, 0.025)
    assert len(made) == 3
    assert all(recording._file.closed for recording in made)


def bad_files(folder: Path) -> Iterator[Path]:
    yield folder / "missing.wav"
    (folder / "text.wav").write_text("not audio")
    yield folder / "text.wav"
    yield write_sound(folder / "short.wav", noise(100), 16_000)
