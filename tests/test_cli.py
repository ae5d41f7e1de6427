"""The command line: what it accepts, how it ends, and that asking it for help costs nothing."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import resource
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from comsl import __version__, cli
from comsl.arguments import build_parser
from comsl.commands.train import overrides_of
from comsl.errors import ComSLError, UsageError
from comsl.inference.decode import DecodingOptions

COMMANDS = (
    "translate",
    "compose",
    "trim",
    "prepare",
    "train",
    "evaluate",
    "score",
    "compare",
    "demo",
    "run",
    "pseudo-label",
)
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
    words = {line.split()[0] for line in text.splitlines() if line.startswith("    ") and line[4:5].strip()}
    assert words >= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_of_the_help_parse(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(command, capsys)
    examples = text.split("example:\n")[1].replace("\\\n", " ").splitlines()
    assert examples
    for example in examples:
        words = shlex.split(example)
        words = words[words.index("comsl") + 1 :]
        words = words[: words.index(">")] if ">" in words else words
        assert words[0] == command
        arguments, rest = build_parser().parse_known_args(words)
        assert arguments.command == command
        assert not rest or command == "train"


def test_help_is_fast() -> None:
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "comsl", "--help"], check=True, capture_output=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)

    assert min(seconds() for _ in range(3)) < 0.3


def modules_of(*words: str) -> set[str]:
    """What a command has imported when it ends."""
    code = (
        "import sys; from comsl.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return set(done.stderr.split())


def test_help_imports_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "numpy", "rich", "yaml", "av", "soundfile", "multiprocessing", "asyncio"}
    assert not modules_of("--help") & heavy
    assert not modules_of("translate", "--help") & heavy


def test_translating_imports_nothing_of_training_and_scoring() -> None:
    """transformers itself imports accelerate wherever that is installed; all else is ours to leave out."""
    clip = str(Path(__file__).parents[1] / "docs" / "clip.mp3")
    loaded = modules_of("translate", clip, "--source", "de", "--beam", "1")
    assert "transformers" in loaded
    heavy = "datasets pandas pyarrow matplotlib tensorboard sklearn scipy sacrebleu jiwer jsonargparse peft wandb"
    assert not loaded & set(heavy.split())


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
        (["trim", "--model", "m", "--out", "o", "--keep", "9", "--like", "d"], "--like"),
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

    monkeypatch.setitem(cli.HANDLERS, "prepare", fail)
    assert cli.main(PREPARE) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == message


def test_debug_shows_where_an_error_comes_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise ComSLError("a.wav: empty file")

    monkeypatch.setitem(cli.HANDLERS, "prepare", fail)
    assert cli.main([*PREPARE, "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_what_nobody_expected_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli.HANDLERS, "prepare", lambda _: {}["nothing"])
    assert cli.main(PREPARE) == 1
    captured = capsys.readouterr().err
    assert "Traceback" in captured
    assert "KeyError: 'nothing'" in captured


def test_a_reader_that_stops_reading_is_no_error() -> None:
    script = (
        "import sys; from comsl import cli; "
        "cli.HANDLERS['prepare'] = lambda _: [print('line') for _ in range(100_000)] and 0; "
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
    monkeypatch.setitem(cli.HANDLERS, "train", lambda arguments: seen.append(arguments) or 0)
    words = ["train", "r.yaml", "--output_dir", "runs/a", "--optimizer.learning_rate", "1e-4", "--objectives.erm=null"]
    assert cli.main(words) == 0
    assert seen[0].recipe == [Path("r.yaml")]
    assert overrides_of(seen[0]) == [
        "--optimizer.learning_rate", "1e-4", "--objectives.erm=null", "--output_dir", "runs/a",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ("speech", "text", "composite")),
        (["text"], ("text",)),
        (["text", "--out", "x"], ("text",)),
    ],
)
def test_pretrain_makes_the_parts_that_are_named(
    words: list[str], expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from comsl.demo import pretrain

    seen: list[tuple[Path, tuple[str, ...]]] = []
    monkeypatch.setattr(pretrain, "pretrain", lambda out, parts: seen.append((out, tuple(parts))))
    assert cli.main(["demo", "--pretrain", *words]) == 0
    assert seen == [(Path("x") if "x" in words else pretrain.MODELS, expected)]


# ------------------------------------------------------------------------------------------------- results and parts


class FakeTranslator:
    """Says what it was asked; a file called "broken" cannot be used, one called "endless" ends at its limit."""

    asked: dict[str, Any]
    calibration = None

    @classmethod
    def from_pretrained(cls, path: str | None, device: str | None, precision: str | None) -> FakeTranslator:
        made = cls()
        FakeTranslator.asked = {"path": path, "device": device, "precision": precision}
        return made

    def translate(self, files: list[str], source: str, target: str, task: str, **options: Any) -> Any:
        from comsl.inference.inputs import FileError
        from comsl.inference.subtitles import FileResult, SegmentResult

        FakeTranslator.asked |= {"source": source, "target": target, "task": task, **options}
        for file in files:
            if file == "broken":
                yield FileError(file, "broken: not audio")
            else:
                segments = [SegmentResult(0.0, 1.5, None, f"heard {file}", -0.5, truncated=file == "endless")]
                yield FileResult(file, source, target, 1.5, None, f"heard {file}", segments)


@pytest.fixture
def translator(monkeypatch: pytest.MonkeyPatch) -> type[FakeTranslator]:
    from comsl.inference import translate

    monkeypatch.setattr(translate, "Translator", FakeTranslator)
    return FakeTranslator


def test_translate_writes_results_and_complains_about_the_rest(
    translator: type[FakeTranslator], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["translate", "a", "broken", "b", "--source", "de", "--target", "fr", "--beam", "3", "--batch-size", "2"]
    assert cli.main(words) == 1
    captured = capsys.readouterr()
    assert captured.out == "heard a\n\nheard b\n"  # line n is input n
    assert captured.err == "comsl: broken: not audio\n"
    assert translator.asked == {
        "path": None, "device": None, "precision": None, "source": "de", "target": "fr", "task": "translate",
        "beam": 3, "batch_size": 2, "max_joined": 15.0, "progress": True, "mode": "direct", "confidence": False,
        "decoding": DecodingOptions(beam=3, batch_size=2), "memory": None,
    }  # fmt: skip


def test_translate_hands_on_the_modes_and_says_that_there_is_no_calibration(
    translator: type[FakeTranslator], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = "translate a --source de --mode pooled --mbr 4 --transcript ctc --mixed-memory both --confidence"
    assert cli.main(words.split()) == 0
    assert "comsl: the model is not calibrated: agreement without confidence" in capsys.readouterr().err
    assert (translator.asked["mode"], translator.asked["confidence"]) == ("pooled", True)
    assert translator.asked["decoding"] == DecodingOptions(mbr=4, transcript="ctc", mixed_memory="both")
    assert cli.main("translate a --source de --ctc-weight 0.3".split()) == 0
    assert translator.asked["decoding"] == DecodingOptions(ctc_weight=0.3)
    manifest = tmp_path / "memory.jsonl"
    row = {"id": "1", "source_language": "de", "target_language": "en", "transcript": "ja", "translation": "yes"}
    manifest.write_text(json.dumps(row))
    assert (
        cli.main([*"translate a --source de --mode memory".split(), "--memory", str(manifest), "--memory-gap", "0.5"])
        == 0
    )
    assert translator.asked["memory"].gap == 0.5
    assert translator.asked["memory"].has(("de", "en", "ja", "yes"))
    assert cli.main("translate a --source de --mbr 6".split()) == 2
    assert "mbr: 6 candidates are not between 0 and what a beam of 5 finds" in capsys.readouterr().err
    assert cli.main("translate a --source de --transcript ctc --ctc-weight 0.5".split()) == 2


def test_translate_says_what_was_cut_at_its_limit(
    translator: type[FakeTranslator], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["translate", "a", "endless", "--source", "de"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "heard a\nheard endless\n"
    assert captured.err == "comsl: endless: the text was cut at its token limit in 1 of 1 segments\n"


def test_translate_writes_to_a_file(
    translator: type[FakeTranslator], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "a.srt"
    assert cli.main(["translate", "a", "--source", "de", "--format", "srt", "--output", str(out)]) == 0
    assert out.read_text(encoding="utf-8") == "1\n00:00:00,000 --> 00:00:01,500\nheard a\n\n"
    assert capsys.readouterr().out == ""


def test_json_of_a_file_that_cannot_be_used(
    translator: type[FakeTranslator], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["translate", "a", "broken", "--source", "de", "--format", "json"]) == 1
    captured = capsys.readouterr()
    first, second = map(json.loads, captured.out.splitlines())
    assert first["translation"] == "heard a"
    assert second == {"file": "broken", "error": "broken: not audio"}
    assert captured.err == "comsl: broken: not audio\n"


@pytest.mark.parametrize("exists", [True, False])
def test_subtitles_of_several_files_go_into_a_directory(
    translator: type[FakeTranslator], tmp_path: Path, capsys: pytest.CaptureFixture[str], exists: bool
) -> None:
    folder = tmp_path / "subtitles"
    if exists:
        folder.mkdir()
    words = ["translate", "talks/a.mp3", "broken", "b.1.wav", "-", "--source", "de", "--format", "vtt", "--output"]
    assert cli.main([*words, str(folder) if exists else f"{folder}/"]) == 1
    assert capsys.readouterr().err == "comsl: broken: not audio\n"
    cue = "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nheard {}\n\n"
    assert {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()} == {
        "a.vtt": cue.format("talks/a.mp3"),
        "b.1.vtt": cue.format("b.1.wav"),
        "stdin.vtt": cue.format("-"),
    }
    assert translator.asked["max_joined"] == 0.0


def test_subtitles_of_several_files_are_not_mixed(
    translator: type[FakeTranslator], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["translate", "x/a.wav", "y/a.mp3", "--source", "de", "--format", "srt"]
    for output in ([], ["--output", str(tmp_path / "new.srt")]):
        assert cli.main([*words, *output]) == 2
        assert "2 inputs and --format srt" in capsys.readouterr().err
    assert cli.main([*words, "--output", str(tmp_path)]) == 2
    assert "x/a.wav and y/a.mp3 would both be written to a.srt" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_output_that_cannot_be_written_is_named(
    translator: type[FakeTranslator], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["translate", "a", "--source", "de", "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"comsl: --output {tmp_path}: cannot be written: Is a directory\n"


def test_a_device_that_is_not_there_is_wrong_usage(
    translator: type[FakeTranslator], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["translate", "a", "--source", "de", "--device", "gpu9"]) == 2
    assert "--device gpu9" in capsys.readouterr().err


def test_calibrate_names_what_is_no_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["calibrate", str(tmp_path)]) == 2
    assert "holds no finished evaluation" in capsys.readouterr().err


def test_compose_with_a_new_language_named_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compose", "--speech", "s", "--text", "t", "--out", str(tmp_path)]
    assert cli.main([*words, "--new-language", "cy=en", "--new-language", "cy=de"]) == 2
    assert capsys.readouterr().err == "comsl: --new-language: a language is named twice; name it once\n"


def test_compose_translate_and_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands against the library itself, on random parts and a second of silence."""
    from comsl.data.manifest import write_manifest
    from comsl.model.parts import PartSize, new_speech_part, new_text_part

    size = PartSize(width=16, encoder_layers=1, decoder_layers=1, heads=2)
    texts = ["wa amituunga obia itso", "bana bo baatusa ambange", "les enfants cueillent", "une foret"] * 5
    new_speech_part(tmp_path / "speech", size)
    new_text_part(tmp_path / "text", texts, size, vocabulary=34)
    capsys.readouterr()
    (tmp_path / "letters.txt").write_text("abc", encoding="utf-8")
    model, clip, manifest = tmp_path / "model", tmp_path / "clip.wav", tmp_path / "test.jsonl"
    words = ["compose", "--speech", tmp_path / "speech", "--text", tmp_path / "text", "--new-language", "mdw=fr"]
    assert cli.main([str(word) for word in [*words, "--ctc-characters", tmp_path / "letters.txt", "--out", model]]) == 0
    captured = capsys.readouterr()
    assert "mdw" in captured.out
    assert captured.err == f"loading {tmp_path / 'speech'} and {tmp_path / 'text'}\n"
    weights = []
    for name, seed in (("again", "0"), ("other", "3")):
        other = ["--ctc-characters", tmp_path / "letters.txt", "--seed", seed, "--out", tmp_path / name]
        assert cli.main([str(word) for word in [*words, *other]]) == 0
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert (model / "model.safetensors").read_bytes() == weights[0] != weights[1]
    assert cli.main([str(word) for word in [*words, "--out", model]]) == 2, "it would replace the model"
    assert (model / "model.safetensors").read_bytes() == weights[0]
    capsys.readouterr()
    assert json.loads((model / "config.json").read_text())["ctc_vocabulary"] == ["<blank>", " ", "a", "b", "c"]

    soundfile.write(clip, np.zeros(16_000, np.float32), 16_000)
    words = ["translate", clip, tmp_path / "none.wav", "--source", "mdw", "--target", "fr", "--model", model]
    assert cli.main([str(word) for word in [*words, "--format", "json"]]) == 1
    captured = capsys.readouterr()
    found, missing = map(json.loads, captured.out.splitlines())
    assert found["translation"] == ""
    assert set(missing) == {"file", "error"}
    assert captured.err.count("none.wav") == 1
    assert cli.main(["translate", str(clip), "--source", "german", "--target", "klingon", "--model", str(model)]) == 2

    row = {"id": "1", "audio": "clip.wav", "source_language": "mdw", "target_language": "fr", "duration": 1.0}
    write_manifest([{**row, "transcript": "wa", "translation": "une foret"}], manifest)
    words = ["evaluate", "--model", model, "--manifest", manifest, "--out", tmp_path / "scores", "--beam", "1"]
    assert cli.main([str(word) for word in words]) == 0
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert set(scores["systems"]) == {"direct", "cascade", "text"}
    comparison = tmp_path / "new" / "comparison.json"
    assert cli.main(["compare", *[str(tmp_path / "scores")] * 2, "--out", str(comparison)]) == 0
    assert json.loads(comparison.read_text())["pairs"]["mdw-fr"]["bleu"]["p"] is None

    write_manifest([{**row, "audio": "none.wav", "transcript": "wa", "translation": "une foret"}], manifest)
    words = [str(word) for word in [*words[:-3], tmp_path / "failed", "--beam", "1"]]
    assert cli.main(words) == 1
    assert cli.main([*words, "--allow-failed-rows"]) == 0
    assert "none.wav" in capsys.readouterr().err


def test_prepare_names_what_is_not_the_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prepare", "mboshi", "--root", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 1
    assert "none" in capsys.readouterr().err


def test_prepare_that_leaves_something_out_fails_in_part(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    corpus = tmp_path / "full_corpus_newsplit"
    sound = io.BytesIO()
    soundfile.write(sound, np.zeros(1600, np.float32), 16_000, format="WAV")
    for folder, count in (("train", 103), ("dev", 2)):
        (corpus / folder).mkdir(parents=True)
        for number in range(count):
            place = corpus / folder / f"anna_{number:03d}"
            place.with_suffix(".wav").write_bytes(sound.getvalue())
            place.with_suffix(".mb").write_text("wa\n")
            place.with_suffix(".fr").write_text(f"un {number}\n")
    words = ["prepare", "mboshi", "--root", str(tmp_path), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 0
    (corpus / "train" / "anna_101.fr").write_text("")
    (corpus / "dev" / "anna_000.wav").unlink()
    capfd.readouterr()
    assert cli.main(words) == 1
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if "anna" in line] == [
        "left out: train/anna_101: the .fr file is empty",
        "left out: dev/anna_000: no .wav file",
    ]
    assert lines[-1] == f"comsl: 2 utterances were left out; {tmp_path / 'out' / 'prepare.json'} says why, one by one"
    assert json.loads((tmp_path / "out" / "prepare.json").read_text())["rows"]["test"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compose", "--speech", "s", "--text", "t", "--out", "/dev/null/x"], "--out /dev/null/x: cannot be written"),
        (
            ["evaluate", "--model", "m", "--manifest", "t", "--out", "/dev/null/x"],
            "--out /dev/null/x: cannot be written",
        ),
        (["demo", "--out", "/dev/null/x"], "--out /dev/null/x: cannot be written"),
    ],
)
def test_places_that_cannot_be_written_are_named_at_once(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 1
    assert capsys.readouterr().err == f"comsl: {message}: Not a directory\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "data/t.jsonl"), "data/t.jsonl: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), "data: No space left on device"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (ConnectionError("the host\ndoes not answer"), "the host does not answer"),
    ],
)
def test_trouble_with_files_is_one_line(
    error: OSError, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setitem(cli.HANDLERS, "prepare", fail)
    assert cli.main(PREPARE) == 1
    assert capsys.readouterr().err == f"comsl: {line}\n"
    assert cli.main([*PREPARE, "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
def test_a_full_stdout_is_one_line() -> None:
    script = (
        "import sys; from comsl import cli; cli.HANDLERS['prepare'] = lambda _: print('line') or 0; "
        f"sys.exit(cli.main({PREPARE!r}))"
    )
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, env=buffered
        )
    assert done.returncode == 1
    assert done.stderr == "comsl: stdout: No space left on device\n"


def test_train_names_an_unknown_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.yaml").write_text("modle: parts/medium\n", encoding="utf-8")
    assert cli.main(["train", str(tmp_path / "r.yaml"), "--output_dir", str(tmp_path / "run")]) == 2
    captured = capsys.readouterr().err
    assert "modle" in captured
    assert "model" in captured


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["tranlate", "a.mp3"], "did you mean translate?"),
        (["prepare", "mbosi", "--out", "x"], "did you mean mboshi?"),
        (
            ["evaluate", "--model", "m", "--manifest", "t", "--out", "x", "--sytems", "direct"],
            "did you mean --systems?",
        ),
        (["calibrate", "x", "--confidence"], "unrecognized arguments: --confidence"),  # another command's
        (["compare", "a", "b", "--systme=direct"], "--systme: did you mean --system?"),
        (["prepare", "mboshi", "--root", "r", "--out", "x", "--fold", "5"], "--fold: did you mean --folds?"),
    ],
)
def test_what_may_have_been_meant(words: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.rstrip().endswith(hint)
