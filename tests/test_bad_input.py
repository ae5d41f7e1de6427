"""Bad input through the commands: one line on stderr that names it, the rest is done, exit code 1 (2: wrong usage)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import yaml

from comsl import cli
from comsl.data.manifest import write_manifest
from comsl.demo.speech import Voice, synthesize
from tests.data.audio_files import cut, tone, write_av, write_sound
from tests.inference.conftest import talkative
from tests.tiny import tiny_comsl
from tests.training.world import OBJECTIVES, build_world

BAD_AUDIO = {
    "missing.wav": "no such file",
    "void": "director",
    "empty.wav": "empty",
    "text.wav": "not an audio file",
    "cut_whole.mp3": "cut short",
    "zero.wav": "no audio samples",
    "blip.wav": "10 ms",
    "nan.wav": "not numbers",
}
"""File -> what is said about it."""
GOOD_AUDIO = ("first.wav", "last.wav")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random, but it answers with words."""
    path = tmp_path_factory.mktemp("model") / "comsl"
    composed, processor = tiny_comsl(path, languages=["de", "en", "fr"], new_languages=None)
    talkative(composed, processor)
    composed.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good files, a good one of 192 kHz and 8 channels, and everything that is bad."""
    path = tmp_path_factory.mktemp("audio")
    for name, text in zip(GOOD_AUDIO, ("Der kleine Hund schläft.", "Wir kaufen rote Äpfel."), strict=True):
        write_sound(path / name, synthesize(text, Voice("de")))
    wide = soxr.resample(soundfile.read(path / "first.wav", dtype="float32")[0], 16_000, 192_000)
    write_sound(path / "wide.wav", np.repeat(wide[:, None], 8, axis=1), 192_000)
    (path / "void").mkdir()
    (path / "void" / "notes.txt").write_text("nothing to hear")
    (path / "empty.wav").touch()
    (path / "text.wav").write_text("this is not audio\n" * 100)
    cut(write_av(path / "whole.mp3", tone(2), 16_000, "libmp3lame"))
    write_sound(path / "zero.wav", np.zeros(0, np.float32))
    write_sound(path / "blip.wav", tone(0.01))
    write_sound(path / "nan.wav", np.full(16_000, np.nan, np.float32), subtype="FLOAT")
    return path


def run(capfd: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, list[str]]:
    """Exit code, stdout, and the lines of stderr that are complaints; none of it may be a traceback.

    That a text reached its token limit is left out: a random model has no other way to end.
    """
    capfd.readouterr()
    code = cli.main([str(word) for word in words])
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    return code, out, [line for line in err.splitlines() if line.startswith("comsl: ") and "token limit" not in line]


# ------------------------------------------------------------------------------------------------------------- audio


def test_translate_does_the_rest(model: Path, audio: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = ("--source", "de", "--model", model, "--beam", 1, "--format", "json")
    alone = []
    for name in (*GOOD_AUDIO, "wide.wav"):
        code, out, complaints = run(capfd, "translate", audio / name, *options)
        assert (code, complaints) == (0, [])
        alone.append(json.loads(out))
    assert all(result["translation"] for result in alone)
    files = [audio / name for name in (GOOD_AUDIO[0], *BAD_AUDIO, GOOD_AUDIO[1], "wide.wav")]
    code, out, complaints = run(capfd, "translate", *files, *options)
    assert code == 1
    together = [result for result in map(json.loads, out.splitlines()) if "error" not in result]
    assert [Path(result["file"]).name for result in together] == [*GOOD_AUDIO, "wide.wav"]
    assert [result["translation"] for result in together] == [result["translation"] for result in alone]
    assert len(complaints) == len(BAD_AUDIO)
    for line, (name, reason) in zip(complaints, BAD_AUDIO.items(), strict=True):
        assert line.startswith(f"comsl: {audio / name}: ")
        assert reason in line


def test_evaluate_keeps_and_counts_the_rows(
    model: Path, audio: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = [GOOD_AUDIO[0], *BAD_AUDIO, GOOD_AUDIO[1], "wide.wav"]
    texts = {"source_language": "de", "target_language": "en", "transcript": "ein Haus", "translation": "a house"}
    write_manifest(
        [{"id": f"row of {name}", "audio": str(audio / name), **texts} for name in names], tmp_path / "m.jsonl"
    )
    words = ("--model", model, "--manifest", tmp_path / "m.jsonl", "--beam", 1, "--systems", "direct")
    code, _, complaints = run(capfd, "evaluate", *words, "--task", "translate", "--out", tmp_path / "out")
    assert code == 1
    assert len(complaints) == len(BAD_AUDIO)
    for line, (name, reason) in zip(complaints, BAD_AUDIO.items(), strict=True):
        assert line.startswith(f"comsl: row of {name} (direct): ")
        assert reason in line
    records = [json.loads(line) for line in (tmp_path / "out" / "hypotheses.jsonl").read_text().splitlines()]
    assert [record["id"] for record in records] == [f"row of {name}" for name in names]
    assert [record["error"] is not None for record in records] == [name in BAD_AUDIO for name in names]
    assert all(bool(record["hypothesis"]) == (record["error"] is None) for record in records)
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["rows"] == scores["systems"]["direct"]["pairs"]["de-en"]["rows"] == len(names)
    assert len(scores["failed"]) == len(BAD_AUDIO)


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (("--source", "german-ish"), 2, ("german-ish",)),
        (("--source", "de", "--target", "es"), 2, ("es", "de, en, fr")),
        (("--source", "de", "--model", "{parts}/speech"), 1, ("speech", "whisper", "not a ComSL model")),
        (("--source", "de", "--model", "{parts}/none"), 1, ("none", "no such directory")),
    ],
)
def test_translate_that_cannot_begin(
    words: tuple[str, ...],
    code: int,
    parts: tuple[str, ...],
    model: Path,
    audio: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    given = [word.format(parts=f"{model}-parts") for word in words]
    got, out, complaints = run(capfd, "translate", audio / "first.wav", "--model", model, *given)
    assert (got, out, len(complaints)) == (code, "", 1)
    assert all(part in complaints[0] for part in parts)


# ---------------------------------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_world(tmp_path_factory.mktemp("world"))


def recipe(world: Path, **changes: Any) -> dict[str, Any]:
    return {
        "compose": {"speech": str(world / "speech"), "text": str(world / "text"), "languages": ["de", "en"]},
        "objectives": {name: OBJECTIVES[name] for name in ("asr", "st")},
        "data": {"train": str(world / "train.jsonl"), "max_batch_seconds": 2.0, "num_workers": 0},
        "optimizer": {"learning_rate": 1e-3, "warmup_steps": 0},
        "training": {"max_steps": 1, "use_cpu": True},
        **changes,
    }


def written(tree: dict[str, Any], path: Path) -> Path:
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("seed: 1\ndata: {train: a.jsonl\nmodel: m\n", ("r.yaml, line 3", "malformed YAML")),
        ("seed: 1\nobjectives: {asr: {}}\n\tmodel: m\n", ("r.yaml, line 3", "malformed YAML")),
        ("optimizer: {learning_rat: 1}\n", ("r.yaml", "`optimizer.learning_rat`", "`optimizer.learning_rate`")),
        ("objectives: {stt: {}}\nmodel: m\ndata: {train: t.jsonl}\n", ("'stt'", "did you mean")),
        ("- model\n", ("r.yaml", "mapping")),
        (None, ("r.yaml", "No such file")),
    ],
)
def test_recipes_that_make_no_sense(
    text: str | None, parts: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / "r.yaml").write_text(text)
    code, out, complaints = run(capfd, "train", tmp_path / "r.yaml", "--output_dir", tmp_path / "run")
    assert (code, out, len(complaints)) == (2, "", 1)
    assert all(part in complaints[0] for part in parts), complaints
    assert not (tmp_path / "run").exists()


Rows = list[dict[str, Any]]


def spoil(number: int, **fields: Any) -> Callable[[Rows], None]:
    return lambda rows: rows[number].update(fields)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (spoil(4, translation=None), ("'row-4'", "translation")),
        (spoil(4, translation=" "), ("'row-4'", "translation")),
        (spoil(4, target_language=None), ("'row-4'", "target_language")),
        (spoil(5, id="row-2"), ("bad.jsonl:6", "bad.jsonl:3", "'row-2'")),
        (spoil(3, source_language="klingon"), ("bad.jsonl:4", "'row-3'", "source_language", "klingon")),
        (spoil(3, source_language="fr"), ("'row-3'", "'fr'", "de, en")),
        (spoil(6, audio="none.wav", duration=None), ("'row-6'", "none.wav")),
        (spoil(6, audio="none.wav"), ("'row-6'", "none.wav")),
    ],
)
def test_manifests_that_cannot_be_trained_on(
    change: Callable[[Rows], None],
    parts: tuple[str, ...],
    world: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    rows = [json.loads(line) for line in (world / "train.jsonl").read_text().splitlines()]
    for row in rows:
        row["audio"] = str(world / row["audio"])
    change(rows)
    write_manifest(rows, tmp_path / "bad.jsonl")
    tree = recipe(world)
    tree["data"]["train"] = str(tmp_path / "bad.jsonl")
    tree["training"]["max_steps"] = 9
    code, _, complaints = run(capfd, "train", written(tree, tmp_path / "r.yaml"), "--output_dir", tmp_path / "run")
    assert (code, len(complaints)) == (1, 1), complaints
    assert all(part in complaints[0] for part in parts), complaints


def test_a_model_of_another_kind_is_named(world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tree = recipe(world, model=str(world / "speech"))
    del tree["compose"]
    code, _, complaints = run(capfd, "train", written(tree, tmp_path / "r.yaml"), "--output_dir", tmp_path / "run")
    assert (code, len(complaints)) == (1, 1)
    assert f"{world / 'speech'} is a whisper model, not a ComSL model" in complaints[0]


def test_a_checkpoint_of_another_model_is_named(
    world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = recipe(world, training={"max_steps": 2, "save_steps": 1, "use_cpu": True})
    words = ("train", written(tree, tmp_path / "r.yaml"), "--output_dir", tmp_path / "run")

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("comsl.training.callbacks.RunLog.on_save", interrupted)
        assert run(capfd, *words)[::2] == (130, ["comsl: interrupted"])
    (checkpoint,) = (tmp_path / "run" / "checkpoints").glob("step-*")
    tiny_comsl(tmp_path / "other", adapter_strides=(2, 2, 2))
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tmp_path / "other" / name, checkpoint)
    code, _, complaints = run(capfd, *words)
    assert (code, len(complaints)) == (1, 1)
    assert f"{checkpoint}: a checkpoint of another model" in complaints[0]
