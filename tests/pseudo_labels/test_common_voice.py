"""Common Voice clips that CoVoST does not translate, with real mp3 files, from a folder and from an archive."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

import comsl.demo
from comsl import cli
from comsl.data.held_out import HeldOut
from comsl.data.manifest import load_manifest, write_manifest
from comsl.demo.grammar import generate
from comsl.pseudo_labels import sources
from comsl.pseudo_labels.sources import covost_manifests
from tests.data.audio_files import write_sound
from tests.tiny import waveform

MODEL = Path(comsl.demo.__file__).parent / "models" / "composite"
NAMES = ("train", "dev", "test", "new", "same-text", "cut", "empty", "blank", "null")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cv-corpus-4/de, the manifests of CoVoST over it, and an archive of the same."""
    root = tmp_path_factory.mktemp("common-voice")
    folder = root / "cv" / "cv-corpus-4-2019-12-10" / "de"
    (folder / "clips").mkdir(parents=True)
    pairs = generate("de", len(NAMES), 3)
    sentences = dict(zip(NAMES, (pair.source for pair in pairs), strict=True))
    sentences |= {"same-text": f"»{sentences['test'].upper()}«", "blank": "  ", "null": "NA"}
    lines = ["client_id\tpath\tsentence\tup_votes"]
    for number, name in enumerate(NAMES):
        clip = folder / "clips" / f"{name}.mp3"
        write_sound(clip, waveform(1.0, number))
        lines.append(f"speaker-{number}\t{name}.mp3\t{sentences[name]}\t2")
    whole = (folder / "clips" / "cut.mp3").read_bytes()
    (folder / "clips" / "cut.mp3").write_bytes(whole[: len(whole) // 2])
    (folder / "clips" / "empty.mp3").write_bytes(b"")
    lines.append(lines[4])  # "new" once more
    (folder / "validated.tsv").write_text("\n".join(lines) + "\n")
    for name in ("train", "dev", "test"):
        row: dict[str, Any] = {
            "id": f"covost2/de_en/{name}",
            "audio": str(folder / "clips" / f"{name}.mp3"),
            "source_language": "de",
            "target_language": "en",
            "transcript": sentences[name],
            "translation": f"The {name} sentence.",
        }
        write_manifest([row], root / "covost2" / "de_en" / f"{name}.jsonl")
    (root / "archives").mkdir()
    with tarfile.open(root / "archives" / "de.tar.gz", "w:gz") as archive:
        archive.add(folder, "cv-corpus-4-2019-12-10/de")
    return root


def label(world: Path, release: str, out: Path, *more: str) -> int:
    words = ["--model", MODEL, "--common-voice", world / release, "--covost-manifests", world / "covost2", "--out", out]
    return cli.main(["pseudo-label", *map(str, words), "--max-repeats", "0", "--max-length-ratio", "0", *more])


@pytest.mark.parametrize("release", ["cv", "archives"])
def test_clips_that_covost_does_not_translate(world: Path, tmp_path: Path, release: str) -> None:
    assert label(world, release, tmp_path, "--min-score=-inf") == 0
    counts = json.loads((tmp_path / "pseudo-label.json").read_text())["directions"]["de_en"]
    assert counts["rows"] == len(NAMES) + 1
    assert counts["left_out"] == {
        "repeated": 1,
        "no_transcript": 1,
        "translated": 1,
        "leak_clip": 2,
        "leak_source": 1,
        "unreadable": 2,
    }
    rows = load_manifest(tmp_path / "de_en" / "train.jsonl").to_list()
    assert [row["id"] for row in rows] == ["pseudo/de_en/new", "pseudo/de_en/null"]
    assert rows[1]["transcript"] == "NA"
    for row in rows:
        assert row["duration"] == pytest.approx(1.0, abs=0.06)  # mp3 pads
        assert row["speaker"].startswith("speaker-")
        assert row["translation"]
        assert Path(row["audio"]).is_file()
    if release == "archives":  # what cannot be labelled was not unpacked
        unpacked = {path.name for path in (tmp_path / "clips" / "de" / "clips").iterdir()}
        assert unpacked == {"new.mp3", "cut.mp3", "empty.mp3", "null.mp3"}
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "clips").rglob("*")}
        assert label(world, release, tmp_path, "--min-score=-inf") == 0
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "clips").rglob("*")} == before


def test_an_archive_that_was_replaced(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own table says which clips are wanted, and no process waits for those of the old one."""
    old = world / "cv" / "cv-corpus-4-2019-12-10" / "de"
    new = tmp_path / "de"
    shutil.copytree(old, new)
    shutil.copy(old / "clips" / "new.mp3", new / "clips" / "newer.mp3")
    table = old / "validated.tsv"
    (new / table.name).write_text(table.read_text() + "speaker-9\tnewer.mp3\tEin neuer Satz.\t2\n")
    release = tmp_path / "release"
    release.mkdir()
    held_out = HeldOut.read(*covost_manifests(world / "covost2"))
    monkeypatch.setattr(sources.time, "sleep", lambda _: pytest.fail("waits for itself"))
    unpacked = []
    for folder in (old, new):
        with tarfile.open(release / "de.tar.gz", "w:gz") as archive:
            archive.add(folder, "de")
        (rows,) = sources.from_common_voice(release, ["de"], held_out, tmp_path / "clips").values()
        assert all(Path(row["audio"]).is_file() for row in rows() if held_out.reason(row) is None)
        unpacked.append({path.name for path in (tmp_path / "clips" / "de" / "clips").iterdir()})
    assert unpacked[1] - unpacked[0] == {"newer.mp3"}


def test_a_language_that_is_not_there(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert label(world, "cv", tmp_path, "--languages", "fr") == 1
    assert "no fr/validated.tsv" in capsys.readouterr().err


def test_no_manifests_of_the_target(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert label(world, "cv", tmp_path, "--target", "fr") == 2
    assert "--covost-manifests with <source>_fr/" in capsys.readouterr().err
