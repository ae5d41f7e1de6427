from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from comsl.data.audio import AudioError, audio_duration, load_audio, load_clip
from tests.data.audio_files import cut, tone, write_av, write_sound

SOUNDFILE = [
    ("a.wav", None),
    ("a.flac", None),
    ("a.ogg", "VORBIS"),
    ("b.ogg", "OPUS"),
    ("a.mp3", None),
    ("a.aiff", None),
]
AV = [
    ("a.m4a", "aac", 44_100, {}),
    ("f.m4a", "aac", 16_000, {"movflags": "faststart"}),
    ("a.mp4", "aac", 48_000, {}),
    ("a.webm", "libopus", 48_000, {}),
    ("a.mkv", "libopus", 48_000, {}),
    ("a.opus", "libopus", 48_000, {}),
    ("a.aac", "aac", 16_000, {}),
    ("a.mp3", "libmp3lame", 44_100, {}),
    ("n.mp3", "libmp3lame", 16_000, {"write_xing": "0"}),
]


def strongest_frequency(waveform: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(waveform)).argmax() * 16_000 / waveform.size)


def check_tone(waveform: np.ndarray, seconds: float = 2.0) -> None:
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    assert waveform.size / 16_000 == pytest.approx(seconds, abs=0.12)  # lossy codecs add a part of a frame
    assert strongest_frequency(waveform) == pytest.approx(440, abs=2)
    assert waveform[4000:-4000].std() == pytest.approx(0.3 / 2**0.5, rel=0.05)


@pytest.mark.parametrize(("name", "subtype"), SOUNDFILE)
def test_formats_of_libsndfile(tmp_path: Path, name: str, subtype: str | None) -> None:
    path = write_sound(tmp_path / name, tone(2), subtype=subtype)
    check_tone(load_audio(path))
    check_tone(load_audio(path.read_bytes()))
    assert audio_duration(path) == pytest.approx(2, abs=0.12)
    np.testing.assert_array_equal(load_audio(str(path)), load_audio(path.read_bytes()))


@pytest.mark.parametrize(("name", "codec", "rate", "options"), AV)
def test_formats_of_ffmpeg(tmp_path: Path, name: str, codec: str, rate: int, options: dict[str, str]) -> None:
    path = write_av(tmp_path / name, tone(2, rate), rate, codec, **options)
    check_tone(load_audio(path))
    check_tone(load_audio(path.read_bytes()))
    assert audio_duration(path) == pytest.approx(2, abs=0.12)
    assert audio_duration(path.read_bytes()) == pytest.approx(2, abs=0.12)


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (11_025, 2), (44_100, 2), (48_000, 6), (192_000, 8)])
def test_any_rate_and_channels(tmp_path: Path, rate: int, channels: int) -> None:
    """Channels are averaged: with the tone in one of them its amplitude is that channel's share."""
    waveform = np.zeros((2 * rate, channels), np.float32)
    waveform[:, -1] = tone(2, rate) * channels
    loaded = load_audio(write_sound(tmp_path / "a.wav", waveform, rate, "FLOAT"))
    assert loaded.size == 32_000
    check_tone(loaded)


def test_16_khz_mono_is_untouched(tmp_path: Path) -> None:
    waveform = tone(0.5)
    np.testing.assert_array_equal(load_audio(write_sound(tmp_path / "a.wav", waveform, subtype="FLOAT")), waveform)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 192_000])
def test_10_ms_load(tmp_path: Path, rate: int) -> None:
    path = write_sound(tmp_path / "a.wav", tone(0.01, rate), rate)
    assert load_audio(path).size == pytest.approx(160, abs=1)


@pytest.mark.parametrize("share", [0.3, 0.61, 0.9])
@pytest.mark.parametrize(("name", "subtype"), SOUNDFILE[:5])
def test_truncated_soundfile_formats(tmp_path: Path, name: str, subtype: str | None, share: float) -> None:
    path = cut(write_sound(tmp_path / name, tone(2), subtype=subtype), share)
    with pytest.raises(AudioError, match=f"cut_{name}: the file is cut short"):
        load_audio(path)
    with pytest.raises(AudioError, match="cut short"):
        load_audio(path.read_bytes())


@pytest.mark.parametrize("share", [0.61, 0.9])
@pytest.mark.parametrize(("name", "codec", "rate", "options"), AV)
def test_truncated_ffmpeg_formats(
    tmp_path: Path, name: str, codec: str, rate: int, options: dict[str, str], share: float
) -> None:
    path = cut(write_av(tmp_path / name, tone(2, rate), rate, codec, **options), share)
    with pytest.raises(AudioError, match=f"cut_{name}: "):
        load_audio(path)


def test_mp3_cut_between_frames_is_told_by_its_header(tmp_path: Path) -> None:
    """No byte of a frame is missing, but the Xing header counts more of them."""
    data = write_sound(tmp_path / "a.mp3", tone(2)).read_bytes()
    assert b"Xing" in data[:100] or b"Info" in data[:100]
    starts = [i for i in range(len(data) - 1) if data[i] == 0xFF and data[i + 1] & 0xFE == 0xF2]
    (tmp_path / "cut.mp3").write_bytes(data[: starts[len(starts) // 2]])
    with pytest.raises(AudioError, match=r"its header announces .* MP3 frames"):
        load_audio(tmp_path / "cut.mp3")


def test_mp3_with_tags_is_whole(tmp_path: Path) -> None:
    data = write_sound(tmp_path / "a.mp3", tone(2)).read_bytes()
    front = b"ID3\x04\x00\x00\x00\x00\x02\x00" + b"\x00" * 256
    (tmp_path / "tags.mp3").write_bytes(front + data + b"TAG" + b"\x20" * 125)
    check_tone(load_audio(tmp_path / "tags.mp3"))


def test_wav_of_a_stream_states_no_length(tmp_path: Path) -> None:
    data = bytearray(write_sound(tmp_path / "a.wav", tone(2)).read_bytes())
    at = data.index(b"data")
    data[4:8] = data[at + 4 : at + 8] = b"\xff\xff\xff\xff"
    check_tone(load_audio(bytes(data)))


@pytest.mark.parametrize(("missing", "fine"), [(1500, True), (3100, True), (3400, False), (8000, False)])
def test_wav_that_lacks_a_recorders_last_buffers(tmp_path: Path, missing: int, fine: bool) -> None:
    data = write_sound(tmp_path / "a.wav", tone(2)).read_bytes()[:-missing]
    if fine:
        assert load_audio(data).size == 32_000 - missing // 2
    else:
        with pytest.raises(AudioError, match="cut short"):
            load_audio(data)


def one_line(error: pytest.ExceptionInfo[AudioError], *parts: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_missing_directory_empty(tmp_path: Path) -> None:
    with pytest.raises(AudioError) as error:
        load_audio(tmp_path / "none.wav")
    one_line(error, str(tmp_path / "none.wav"), "no such file")
    with pytest.raises(AudioError) as error:
        load_audio(tmp_path)
    one_line(error, str(tmp_path), "directory")
    (tmp_path / "empty.wav").touch()
    with pytest.raises(AudioError) as error:
        load_audio(tmp_path / "empty.wav")
    one_line(error, "empty.wav", "empty")
    with pytest.raises(AudioError) as error:
        load_audio(b"")
    one_line(error, "0 bytes")
    with pytest.raises(AudioError, match="no such file"):
        audio_duration(tmp_path / "none.wav")


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.m4a", "a.raw"])
@pytest.mark.parametrize("content", ["just some words\n" * 20, "#EXTM3U\n#EXTINF:1,\nhttp://localhost:1/a.ts\n", "x"])
def test_text_is_not_audio(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(AudioError) as error:
        load_audio(tmp_path / name)
    one_line(error, name, "not an audio file")


@pytest.mark.parametrize("name", ["a.wav", "a.aiff"])
def test_no_samples(tmp_path: Path, name: str) -> None:
    path = write_sound(tmp_path / name, np.zeros(0, np.float32))
    with pytest.raises(AudioError) as error:
        load_audio(path)
    one_line(error, name, "no audio samples")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_a_number(tmp_path: Path, value: float) -> None:
    waveform = tone(0.5, 8_000)
    waveform[77] = value
    path = write_sound(tmp_path / "a.wav", waveform, 8_000, "FLOAT")
    with pytest.raises(AudioError) as error:
        load_audio(path)
    one_line(error, "a.wav", "NaN or infinite")


def test_video_without_sound(tmp_path: Path) -> None:
    path = tmp_path / "silent.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(AudioError, match=r"silent.mp4: the file has no audio track"):
        load_audio(path)


def test_files_of_this_test_are_what_they_say(tmp_path: Path) -> None:
    """libsndfile really refuses the formats that the PyAV branch is there for."""
    path = write_av(tmp_path / "a.m4a", tone(1), 16_000, "aac")
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.SoundFile(str(path))


@pytest.mark.parametrize("loud_first", [True, False])
def test_variable_bitrate_mp3_without_header_is_read_to_its_end(tmp_path: Path, loud_first: bool) -> None:
    """libsndfile guesses such a file's length from its first frames: a fifth or one and a half times of what it is."""
    noise = (0.3 * np.random.default_rng(0).standard_normal(80_000)).astype(np.float32)
    halves = [noise, np.zeros(80_000, np.float32)]
    waveform = np.concatenate(halves if loud_first else halves[::-1])
    path = write_av(tmp_path / "v.mp3", waveform, 16_000, "libmp3lame", quality=5, write_xing="0")
    guess = soundfile.SoundFile(str(path)).frames
    assert guess < 100_000 if loud_first else guess > 200_000
    for source in (path, path.read_bytes()):
        loaded = load_audio(source)
        assert loaded.size == pytest.approx(160_000, abs=2000)
        assert np.abs(loaded).max() < 2
        start = 0 if loud_first else 80_000
        assert loaded[start + 5000 : start + 75_000].std() > 0.2  # the codec leaves out the highest frequencies
        assert loaded[85_000 - start : 155_000 - start].std() < 0.01
        assert audio_duration(source) == pytest.approx(10, abs=0.12)


@pytest.mark.parametrize(("name", "subtype"), [("a.mp3", None), ("a.ogg", "VORBIS"), ("a.ogg", "OPUS")])
def test_files_one_after_the_other_are_read_to_the_last(tmp_path: Path, name: str, subtype: str | None) -> None:
    """The first one's header speaks for itself alone."""
    data = write_sound(tmp_path / name, tone(1), subtype=subtype).read_bytes()
    loaded = load_audio(data + write_sound(tmp_path / name, tone(1.5), subtype=subtype).read_bytes())
    assert loaded.size / 16_000 == pytest.approx(2.5, abs=0.2)  # each file adds its codec's padding
    assert strongest_frequency(loaded) == pytest.approx(440, abs=2)
    assert loaded[-16_000:-4000].std() == pytest.approx(0.3 / 2**0.5, rel=0.1)


def test_samples_are_those_of_the_file_and_nothing_else(tmp_path: Path) -> None:
    """The same bytes give the same samples, all of which were decoded from them."""
    path = write_av(tmp_path / "n.mp3", tone(2), 16_000, "libmp3lame", write_xing="0")
    first = load_audio(path)
    assert np.abs(first).max() < 0.5
    for _ in range(5):
        np.testing.assert_array_equal(load_audio(path.read_bytes()), first)


def test_a_clip_for_a_model_has_at_least_one_window(tmp_path: Path) -> None:
    long, short = (write_sound(tmp_path / f"{samples}.wav", np.full(samples, 0.1), 16_000) for samples in (400, 320))
    assert load_clip(long).size == 400
    with pytest.raises(AudioError, match=r"320.wav: 20 ms of audio; at least 25 ms are needed"):
        load_clip(short)
    with pytest.raises(AudioError, match=r"gone.wav: no such file; check the path$"):
        load_clip(tmp_path / "gone.wav")
