"""Whole labelling: files that do not depend on processes, kills and restarts."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import soundfile

import comsl.demo
from comsl import cli
from comsl.data.held_out import HeldOut
from comsl.data.manifest import load_manifest, write_manifest
from comsl.demo.grammar import generate
from comsl.errors import ComSLError, UsageError
from comsl.inference.decode import DecodingOptions, decode_text
from comsl.model import load_model
from comsl.pseudo_labels.filters import Filters
from comsl.pseudo_labels.label import Labelling, pseudo_label
from comsl.pseudo_labels.sources import from_manifests
from tests.tiny import waveform
from tests.training.processes import in_child, kill_self, together

KEPT = Filters(max_length_ratio=0, max_repeats=0, min_score=float("-inf"))
OPTIONS = DecodingOptions(beam=2, batch_size=3)
MODEL = Path(comsl.demo.__file__).parent / "models" / "composite"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """rows.jsonl with 11 German and 3 French rows; a test set. The model is the one that ships."""
    root = tmp_path_factory.mktemp("labelling")
    said = [(language, pair) for language, count in (("de", 11), ("fr", 3)) for pair in generate(language, count, 1)]
    rows: list[dict[str, Any]] = []
    for number, (language, pair) in enumerate(said):
        soundfile.write(root / f"{number}.wav", waveform(0.3, number), 16_000)
        rows.append(
            {
                "id": f"row-{number}",
                "audio": f"{number}.wav",
                "source_language": language,
                "transcript": pair.source,
                "speaker": f"speaker {number % 3}",
            }
        )
    rows[1]["translation"] = "a human made this"
    rows[2]["transcript"] = None
    (root / "3.wav").write_bytes(b"no audio")
    rows[4]["transcript"] = "Haus " * 600
    write_manifest(rows, root / "rows.jsonl")
    held_out = {"id": "t", "audio": "clips/5.mp3", "source_language": "de", "transcript": "Ein Satz."}
    write_manifest([held_out, held_out | {"id": "u", "audio": "x.mp3", "transcript": rows[6]["transcript"] + "!"}],
                   root / "test.jsonl")  # fmt: skip
    return root


def run(
    world: Path, out: Path, *, filters: Filters = KEPT, languages: list[str] | None = None
) -> dict[str, Any] | None:
    labelling = Labelling(
        str(MODEL),
        HeldOut.read([world / "test.jsonl"]),
        {"manifests": ["rows.jsonl"]},
        options=OPTIONS,
        filters=filters,
        device="cpu",
        shard_rows=2,
    )
    return pseudo_label(from_manifests([world / "rows.jsonl"], languages), labelling, out)


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def labelled(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "once"
    run(world, out)
    return out


def test_counts_and_reasons(labelled: Path) -> None:
    report = json.loads((labelled / "pseudo-label.json").read_text())
    german = report["directions"]["de_en"]
    assert german["rows"] == 11
    assert german["left_out"] == {
        "no_transcript": 1,
        "translated": 1,
        "leak_clip": 1,
        "leak_source": 1,
        "unreadable": 1,
        "text_too_long": 1,
    }
    assert german["kept"] == 5
    assert report["all"]["rows"] == 14
    assert report["all"]["kept"] == 8
    listed = [json.loads(line) for line in (labelled / "de_en" / "left-out.jsonl").read_text().splitlines()]
    assert [(row["id"], row["reason"]) for row in listed] == [("row-3", "unreadable"), ("row-4", "text_too_long")]
    assert "3.wav" in listed[0]["detail"]


def test_rows_are_the_models_own_translations(world: Path, labelled: Path) -> None:
    rows = load_manifest(labelled / "de_en" / "train.jsonl").to_list()
    assert [row["id"] for row in rows] == [f"pseudo/de_en/row-{number}" for number in (0, 7, 8, 9, 10)]
    model, processor = load_model(MODEL)
    for row in rows:
        (expected,) = decode_text(model, processor, [row["transcript"]], "de", "en", OPTIONS)
        assert row["translation"] == expected.text
        # Other neighbours in the batch round otherwise.
        assert float(row["provenance"].rpartition("score ")[2]) == pytest.approx(expected.score, abs=3e-4)
        assert row["target_language"] == "en"
        assert Path(row["audio"]).resolve() == world / f"{row['id'].rpartition('-')[2]}.wav"
        assert row["duration"] == pytest.approx(0.3)
        assert str(MODEL) in row["provenance"]
        assert "beam 2" in row["provenance"]


def test_a_second_run_translates_nothing(
    world: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "again"
    shutil.copytree(labelled, out)
    monkeypatch.setattr("comsl.pseudo_labels.label.load_decoder", lambda *_: pytest.fail("the model was loaded"))
    run(world, out)
    assert files(out).keys() == files(labelled).keys()
    # Other filters choose among the same translations.
    run(world, out, filters=Filters(max_length_ratio=0, max_repeats=0, min_score=0.0))
    report = json.loads((out / "pseudo-label.json").read_text())
    assert report["directions"]["de_en"]["left_out"]["score"] == 5
    assert not (out / "de_en" / "train.jsonl").exists()


def test_reasons_are_in_the_order_in_which_they_are_looked_for(world: Path, labelled: Path, tmp_path: Path) -> None:
    """Every clip is too long here, that of row 4 with a transcript that is too long as well."""
    out = tmp_path / "again"
    shutil.copytree(labelled, out)
    run(world, out, filters=Filters(max_seconds=0.2))
    left_out = json.loads((out / "pseudo-label.json").read_text())["directions"]["de_en"]["left_out"]
    assert left_out["text_too_long"] == 1
    assert list(left_out)[-3:] == ["unreadable", "text_too_long", "duration"]


def killed_at_the_second_shard(world: str, out: str) -> None:
    import comsl.pseudo_labels.label as label

    made = []
    translate = label.translate

    def dying(*args: Any) -> Any:
        if len(made) == 2:
            kill_self()
        made.append(1)
        return translate(*args)

    label.translate = dying
    run(Path(world), Path(out))


def test_killed_and_resumed(world: Path, labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    assert in_child(killed_at_the_second_shard, str(world), str(out)) == -9
    shards = sorted(path.name for path in (out / "translations" / "de_en").glob("*.jsonl"))
    assert shards == ["00000.jsonl", "00001.jsonl"]
    assert not (out / "pseudo-label.json").exists()
    run(world, out)
    assert same(out, labelled)


def as_one_of_two(rank: int, world_size: int, world: str, out: str) -> None:
    run(Path(world), Path(out))


def test_two_processes(world: Path, labelled: Path, tmp_path: Path) -> None:
    assert together(as_one_of_two, 2, str(world), str(tmp_path / "two")) == [0, 0]
    assert same(tmp_path / "two", labelled)


def test_all_folders_are_prepared_before_any_translating(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other processes give up waiting for a folder long before another language is translated."""
    out = tmp_path / "out"

    def prepared(*_: Any) -> Any:
        found = {path.parent.name for path in (out / "translations").glob("*/state.json")}
        raise InterruptedError(*sorted(found))

    monkeypatch.setattr("comsl.pseudo_labels.label.translate", prepared)
    with pytest.raises(InterruptedError) as first:
        run(world, out)
    assert first.value.args == ("de_en", "fr_en")


def same(out: Path, reference: Path) -> bool:
    """Paths of clips are relative to the manifest, and both folders lie equally deep only by chance."""

    def content(folder: Path) -> dict[str, bytes]:
        found = files(folder)
        for name in found:
            if name.endswith("train.jsonl"):
                rows = load_manifest(folder / name).to_list()
                clips = [os.path.realpath(row.pop("audio")) for row in rows]
                found[name] = json.dumps([rows, clips]).encode()
        return found

    return content(out) == content(reference)


def test_other_decoding_begins_anew(
    world: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "other"
    shutil.copytree(labelled, out)
    labelling = Labelling(str(MODEL), HeldOut(), {}, options=DecodingOptions(beam=1), device="cpu")
    pseudo_label(from_manifests([world / "rows.jsonl"]), labelling, out)
    assert "begun anew, other decoding" in capsys.readouterr().err
    assert json.loads((out / "translations" / "de_en" / "state.json").read_text())["decoding"]["beam"] == 1


def test_directions_that_were_not_asked_for_are_an_error(world: Path, labelled: Path) -> None:
    with pytest.raises(UsageError, match="pseudo-labels of fr_en"):
        run(world, labelled, languages=["de"])


def test_languages_that_are_not_there(world: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no row of .* is in 'es'; there are de, fr"):
        run(world, tmp_path / "es", languages=["es"])
    labelling = Labelling(str(MODEL), HeldOut(), {}, target="tr", device="cpu")
    with pytest.raises(ComSLError, match="tr"):
        pseudo_label(from_manifests([world / "rows.jsonl"]), labelling, tmp_path / "out")


def test_the_command(world: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "pseudo-label",
        "--model",
        str(MODEL),
        "--manifest",
        str(world / "rows.jsonl"),
        "--out",
        str(tmp_path / "out"),
    ]
    words += ["--held-out", str(world / "test.jsonl"), "--beam", "2", "--max-repeats", "0", "--max-length-ratio", "0"]
    assert cli.main([*words, "--min-score=-inf", "--device", "cpu"]) == 0
    for direction in ("de_en", "fr_en"):
        made, expected = (load_manifest(folder / direction / "train.jsonl") for folder in (tmp_path / "out", labelled))
        assert made["translation"] == expected["translation"]
    assert "left-out" not in capsys.readouterr().err
    assert cli.main([*words[:-2], "--max-repeats", "-1"]) == 2
    assert "--max-repeats -1" in capsys.readouterr().err
    assert cli.main([*words, "--languages", "es"]) == 2
    assert "no row of" in capsys.readouterr().err


def test_without_held_out_sets_a_line_says_so(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--manifest",
        str(world / "rows.jsonl"),
        "--out",
        str(tmp_path / "out"),
        "--languages",
        "fr",
        "--beam",
        "1",
    ]
    assert cli.main(["pseudo-label", "--model", str(MODEL), *words]) == 0
    assert "nothing is checked for leaks" in capsys.readouterr().err
