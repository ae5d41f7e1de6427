import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from comsl.errors import UsageError
from comsl.inference.inputs import AudioInput, FileError, StdinError, expand_inputs, output_names


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    names = [
        "b.wav",
        "a.MP3",
        "notes.txt",
        "sub/c.m4a",
        "sub/.hidden.wav",
        ".cache/d.wav",
        "sub/deep/a.flac",
        "x[1].wav",
    ]
    for name in [*names, "texts/readme.md"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_files_directories_and_globs_in_the_order_named(tree, monkeypatch):
    monkeypatch.chdir(tree)
    found = expand_inputs(["sub", "notes.txt", "b.wav", "*.wav", "missing.wav", Path("sub/c.m4a"), "-"])
    assert found == [
        AudioInput(name)
        for name in (
            os.path.join("sub", "c.m4a"),
            os.path.join("sub", "deep", "a.flac"),
            "notes.txt",
            "b.wav",
            "b.wav",
            "x[1].wav",
            "missing.wav",
            os.path.join("sub", "c.m4a"),
            "-",
        )
    ]
    assert expand_inputs("x[1].wav") == [AudioInput("x[1].wav")]
    assert expand_inputs([]) == []


def test_globs_into_directories(tree, monkeypatch):
    monkeypatch.chdir(tree)
    deep = os.path.join("sub", "deep", "a.flac")
    assert expand_inputs("sub*") == [AudioInput(os.path.join("sub", "c.m4a")), AudioInput(deep)]
    assert expand_inputs("**/*.flac") == [AudioInput(deep)]


def test_nothing_found_is_an_error_in_its_place(tree, monkeypatch):
    monkeypatch.chdir(tree)
    first, second, third = expand_inputs(["texts", "*.opus", "b.wav"])
    assert isinstance(first, FileError)
    assert first.message.startswith("texts: the directory holds no audio file (.3gp, .aac, ")
    assert second == FileError("*.opus", "*.opus: no file matches; check the pattern")
    assert third == AudioInput("b.wav")


def test_stdin(monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"RIFF"), isatty=lambda: False))
    assert AudioInput("-").read() == b"RIFF"
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(StdinError, match="nothing is piped in"):
        AudioInput("-").read()


def test_output_names():
    inputs = [AudioInput("x/a.wav"), FileError("gone.mp3", "gone.mp3: no such file"), AudioInput("-")]
    assert output_names(inputs, ".srt") == ["a.srt", "gone.srt", "stdin.srt"]
    with pytest.raises(UsageError, match=r"x/a.wav and a.mp4 would both be written to a.srt"):
        output_names([*inputs, AudioInput("a.mp4")], ".srt")
