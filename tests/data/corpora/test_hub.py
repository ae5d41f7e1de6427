"""Any data set of the ``datasets`` library: bytes and files, nested columns, what fails, going on, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from comsl import cli
from comsl.data.corpora import clips as clips_module
from comsl.data.corpora import hub
from comsl.data.corpora.hub import Columns, Location, prepare
from comsl.data.manifest import load_manifest
from comsl.errors import ComSLError, UsageError
from tests.data.corpora.covost import mp3

SENTENCES = ["NA", 'null "x"  y', "\\ tres"]
COLUMNS = Columns.parse("audio=sound,transcript=said,translation=text.en,speaker=who", "es", "en")


def data(sounds: list[Any]) -> dict[str, list[Any]]:
    count = len(sounds)
    return {
        "sound": sounds,
        "said": SENTENCES[:count],
        "text": [{"en": f"N/A {number}", "de": "x"} for number in range(count)],
        "who": ["ana", "bob", None][:count],
        "unused": list(range(count)),
    }


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """A folder of Parquet files whose audio is bytes, as most data sets on the hub."""
    features = datasets.Features(
        {
            "sound": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
            "said": datasets.Value("string"),
            "text": {"en": datasets.Value("string"), "de": datasets.Value("string")},
            "who": datasets.Value("string"),
            "unused": datasets.Value("int64"),
        }
    )
    for split, contents in {
        "train": [mp3(0.5), b"not audio", mp3(1)],
        "validation": [mp3(0.5)],
        "test": [mp3(0.5), b""],
    }.items():
        sounds = [{"bytes": content, "path": f"{number}.mp3"} for number, content in enumerate(contents)]
        part = datasets.Dataset.from_dict(data(sounds), features=features)
        # The Audio feature, as it is saved; making it from examples would need torchcodec.
        part = part.cast_column("sound", datasets.Audio(decode=False))
        (tmp_path / "set").mkdir(exist_ok=True)
        part.to_parquet(tmp_path / "set" / f"{split}.parquet")
    return tmp_path / "set"


def test_bytes(parquet: Path, tmp_path: Path) -> None:
    audit = prepare(Location(str(parquet)), COLUMNS, tmp_path / "out")
    assert audit["manifests"] == {"train": "train.parquet", "dev": "dev.parquet", "test": "test.parquet"}
    train = load_manifest(tmp_path / "out" / "train.parquet").to_list()
    assert [(row["id"], row["transcript"], row["translation"], row["speaker"]) for row in train] == [
        ("set/train/0", "NA", "N/A 0", "ana"),
        ("set/train/2", "\\ tres", "N/A 2", None),
    ]
    assert [row["audio"] for row in train] == [mp3(0.5), mp3(1)]
    assert train[1] | {"audio": None, "duration": 1} == {
        "id": "set/train/2",
        "audio": None,
        "duration": 1,
        "source_language": "es",
        "target_language": "en",
        "transcript": "\\ tres",
        "translation": "N/A 2",
        "split": "train",
        "speaker": None,
        "provenance": str(parquet),
    }
    assert train[1]["duration"] == pytest.approx(1, abs=0.08)
    test = load_manifest(tmp_path / "out" / "test.parquet")
    assert test["duration"][:] == [pytest.approx(0.5, abs=0.08), None]  # the empty one stays, to fail in evaluation
    lines = map(json.loads, (tmp_path / "out" / "failed.jsonl").read_text().splitlines())
    assert {(row["id"], row["kind"], row["kept"]) for row in lines} == {
        ("set/train/1", "undecodable", False),
        ("set/test/1", "zero-length", True),
    }
    assert audit["splits"]["train"]["losses"] == {"undecodable": 1}
    assert audit["shared_with_train"]["test"] == {"transcripts": 2, "translations": 2, "both": 2, "speakers": 2}


def test_files_of_a_saved_data_set(tmp_path: Path) -> None:
    """Paths stay paths, relative to the data set; one split under its own name; ids and languages from columns."""
    folder = tmp_path / "saved"
    rows = {
        "sound": ["a.mp3", "b.mp3"],
        "said": ["Eins", "Deux"],
        "key": ["one", "two"],
        "lang": ["deu_Latn", "French"],
    }
    datasets.Dataset.from_dict(rows, split="test").save_to_disk(str(folder))
    (folder / "a.mp3").write_bytes(mp3(0.5))
    columns = Columns.parse("audio=sound,transcript=said,id=key,source_language=lang", None, None)
    audit = prepare(Location(str(folder)), columns, tmp_path / "out")
    assert audit["manifests"] == {"test": "test.jsonl"}
    manifest = load_manifest(tmp_path / "out" / "test.jsonl")
    assert manifest["audio"][:] == [str(folder / "a.mp3"), str(folder / "b.mp3")]
    assert manifest["id"][:] == ["one", "two"]
    assert manifest["source_language"][:] == ["de", "fr"]
    assert manifest["translation"][:] == [None, None]
    assert audit["splits"]["test"]["losses"] == {"missing": 1}


def test_a_repaired_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It and nothing else is decoded again, whether the run before was finished or not."""
    folder = tmp_path / "saved"
    names = ["good.mp3", "cut.mp3", "absent.mp3"]
    rows = {"sound": names, "said": ["Eins", "Zwei", "Drei"]}
    datasets.Dataset.from_dict(rows, split="train").save_to_disk(str(folder))
    (folder / "good.mp3").write_bytes(mp3(0.5))
    (folder / "cut.mp3").write_bytes(mp3(0.5)[:100])
    decoded = []

    def check(source: str) -> clips_module.Clip:
        decoded.append(Path(source).name)
        return clips_module.check_clip(source)

    monkeypatch.setattr(hub, "check_clip", check)

    def written() -> list[str]:
        decoded.clear()
        columns = Columns.parse("audio=sound,transcript=said", "de", None)
        audit = prepare(Location(str(folder)), columns, tmp_path / "out")
        rows = load_manifest(tmp_path / "out" / "train.jsonl")
        assert audit["splits"]["train"]["written"] == len(rows)
        return [Path(name).name for name in rows["audio"]]

    assert (written(), decoded) == (["good.mp3"], names)
    assert (written(), decoded) == (["good.mp3"], [])
    (folder / "cut.mp3").write_bytes(mp3(0.5))
    assert (written(), decoded) == (["good.mp3", "cut.mp3"], ["cut.mp3"])
    (folder / "absent.mp3").write_bytes(mp3(0.5))
    (tmp_path / "out" / "audit.json").unlink()
    assert (written(), decoded) == (names, ["absent.mp3"])
    assert (written(), decoded) == (names, [])


@pytest.mark.parametrize("layout", ["a file a split", "one file"])
def test_a_folder_of_audio_files(tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    for name in ("train/a.mp3", "train/b.mp3", "test/c.mp3"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(mp3(0.5))
    if layout == "one file":
        (folder / "metadata.csv").write_text("file_name,said\ntrain/a.mp3,NA\ntest/c.mp3,null\ntrain/b.mp3,007\n")
    else:
        (folder / "train" / "metadata.csv").write_text("file_name,said\na.mp3,NA\nb.mp3,007\n")
        (folder / "test" / "metadata.jsonl").write_text('{"file_name": "c.mp3", "said": "null"}\n')
    columns = Columns.parse("audio=audio,transcript=said", "es", None)
    audit = prepare(Location(str(folder)), columns, tmp_path / "out")
    assert audit["manifests"] == {"train": "train.jsonl", "test": "test.jsonl"}
    train, test = (load_manifest(tmp_path / "out" / f"{split}.jsonl") for split in ("train", "test"))
    assert (train["transcript"][:], test["transcript"][:]) == (["NA", "007"], ["null"])
    assert test["audio"][:] == [str(folder / "test" / "c.mp3")]
    monkeypatch.setattr(hub, "_check", None)
    assert prepare(Location(str(folder)), columns, tmp_path / "out") == json.loads(
        (tmp_path / "out" / "audit.json").read_text()
    )


def test_going_on(parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    check = clips_module.check_clip

    def count(source: Any) -> Any:
        decoded.append(source)
        if len(decoded) == 5:
            raise KeyboardInterrupt
        return check(source)

    monkeypatch.setattr(hub, "check_clip", count)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        prepare(Location(str(parquet)), COLUMNS, out)
    assert not (out / "audit.json").exists()
    first = prepare(Location(str(parquet)), COLUMNS, out)
    assert len(decoded) == 5 + 2  # train and dev were known, test was begun
    monkeypatch.setattr(hub, "_check", None)
    assert prepare(Location(str(parquet)), COLUMNS, out)["splits"] == first["splits"]


def test_command(parquet: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["prepare", "dataset", str(parquet), "--columns", "audio=sound,transcript=said", "--source-language", "es"]
    words += ["--out", str(tmp_path / "out")]
    assert cli.main([*words, "--split", "validation"]) == 0
    assert capfd.readouterr().out == f"{tmp_path / 'out' / 'dev.parquet'}\n"
    assert cli.main([*words, "--strict"]) == 1
    assert f"--strict: 2 rows are lost or fail; {tmp_path / 'out' / 'failed.jsonl'} says" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("audio", "'audio' is not of the form field=column"),
        ("audio=a,transcrip=b", "no field 'transcrip'; there are audio, .*; is transcript meant"),
        ("transcript=b", "says nothing of audio"),
        ("audio=a,translation=b", "--target-language: missing"),
    ],
)
def test_wrong_mappings(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Columns.parse(text, "de", None)


@pytest.mark.parametrize(
    ("location", "columns", "message"),
    [
        ({"name": "none"}, "audio=sound", "none: .*"),
        ({"splits": ["trian"]}, "audio=sound", '"trian"'),
        ({"config": "fr"}, "audio=sound", "'fr' not found"),
        ({}, "audio=audio", "no column 'audio' for audio; it has sound, said, text, who, unused"),
        ({}, "audio=unused", "column 'unused' is .*; audio is a file, its bytes or its path"),
        ({}, "audio=sound,id=text.de", "the id 'x' occurs twice"),
    ],
)
def test_wrong_data_sets(location: dict[str, Any], columns: str, message: str, parquet: Path, tmp_path: Path) -> None:
    with pytest.raises(ComSLError, match=message) as error:
        prepare(Location(**{"name": str(parquet), **location}), Columns.parse(columns, "es", None), tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "out").rglob("*.parquet"))
