"""The command line: what it accepts, how it ends, and that asking it for help costs nothing."""

from __future__ import annotations

import argparse
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from comsl import __version__, cli
from comsl.errors import ComSLError, UsageError

COMMANDS = ("translate", "compose", "prepare", "train", "evaluate", "compare", "demo")
PREPARE = ["prepare", "mboshi", "--root", "corpus", "--out", "data"]


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(f"    {command} " in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_of_the_help_parse(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(command, capsys)
    examples = text.split("example:\n")[1].replace("\\\n", " ").splitlines()
    assert examples
    for example in examples:
        words = shlex.split(example)
        words = words[words.index("comsl") + 1 :]
        assert words[0] == command
        arguments, rest = cli.build_parser().parse_known_args(words)
        assert arguments.command == command
        assert not rest or command == "train"


def test_help_is_fast() -> None:
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "comsl", "--help"], check=True, capture_output=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)

    assert min(seconds() for _ in range(3)) < 0.3


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"comsl {__version__}\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "COMMAND"),
        (["translat"], "translat"),
        (["translate", "clip.wav"], "--source"),
        (["translate", "clip.wav", "--source", "de", "--formt", "srt"], "--formt"),
        (["translate", "clip.wav", "--source", "de", "--form", "srt"], "--form"),
        (["translate", "clip.wav", "--source", "de", "--format", "doc"], "doc"),
        (["translate", "clip.wav", "--source", "de", "--beam", "0"], "0 is not a positive number"),
        (["prepare", "covost", "--root", "a", "--out", "b"], "covost"),
        (["train"], "RECIPE"),
        (["compare", "runs/a/test"], "B"),
        (["evaluate", "--model", "m", "--manifest", "t.jsonl", "--out", "o", "--systems", "oracle"], "oracle"),
    ],
)
def test_wrong_usage_is_two(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert complaint in captured.err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ComSLError("a.wav: empty file"), 1, "comsl: a.wav: empty file\n"),
        (UsageError("unknown language 'xx'"), 2, "comsl: unknown language 'xx'\n"),
        (KeyboardInterrupt(), 130, "comsl: interrupted\n"),
    ],
)
def test_errors_are_one_line_and_a_code(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(cli, "_prepare", fail)
    assert cli.main(PREPARE) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == message


def test_debug_shows_where_an_error_comes_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise ComSLError("a.wav: empty file")

    monkeypatch.setattr(cli, "_prepare", fail)
    assert cli.main([*PREPARE, "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_what_nobody_expected_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_prepare", lambda _: {}["nothing"])
    assert cli.main(PREPARE) == 1
    captured = capsys.readouterr().err
    assert "Traceback" in captured
    assert "KeyError: 'nothing'" in captured


def test_a_reader_that_stops_reading_is_no_error() -> None:
    script = (
        "import sys; from comsl import cli; "
        "cli._prepare = lambda _: [print('line') for _ in range(100_000)] and 0; "
        f"sys.exit(cli.main({PREPARE!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 1


def test_train_hands_overrides_to_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[argparse.Namespace] = []
    monkeypatch.setattr(cli, "_train", lambda arguments: seen.append(arguments) or 0)
    words = ["train", "r.yaml", "--output_dir", "runs/a", "--optimizer.learning_rate", "1e-4", "--objectives.erm=null"]
    assert cli.main(words) == 0
    assert seen[0].recipe == Path("r.yaml")
    assert cli.overrides_of(seen[0]) == [
        "--optimizer.learning_rate", "1e-4", "--objectives.erm=null", "--output_dir", "runs/a",
    ]  # fmt: skip
