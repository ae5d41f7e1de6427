import json
from pathlib import Path

import pytest

from comsl import cli
from comsl.data.corpora.pairs import prepare
from comsl.data.errors import CorpusError
from comsl.data.manifest import load_manifest, write_manifest
from comsl.errors import UsageError

LINES = "Go.\tVa\u202f!\tCC-BY\nHi.\tSalut !\nnothing\n\tVide\nI'm cold.\tJ'ai froid.\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "fra.txt"
    path.write_text("\ufeff" + LINES, encoding="utf-8")
    return path


def held_out(tmp_path: Path) -> Path:
    row = {
        "id": "1",
        "source_language": "mdw",
        "target_language": "fr",
        "transcript": "Go",
        "translation": "j’ai FROID",
    }
    write_manifest([row], tmp_path / "test.jsonl")
    return tmp_path / "test.jsonl"


def test_pairs_become_rows_and_what_is_left_out_is_counted(file: Path, tmp_path: Path) -> None:
    test = held_out(tmp_path)
    out = tmp_path / "out"
    words = ["--source-language", "English", "--target-language", "fr", "--held-out", str(test), "--out", str(out)]
    assert cli.main(["prepare", "pairs", str(file), *words]) == 0
    rows = load_manifest(out / "train.jsonl")
    # "Go." stays: the test set has it in another language.
    assert [(row["transcript"], row["translation"]) for row in rows] == [("Go.", "Va !"), ("Hi.", "Salut !")]
    assert {(row["source_language"], row["target_language"], row["audio"]) for row in rows} == {("en", "fr", None)}
    assert rows["id"][:] == ["fra.txt-1", "fra.txt-2"]
    summary = json.loads((out / "prepare.json").read_text())
    assert {name: summary[name] for name in ("lines", "rows", "empty", "held_out_lines")} == {
        "lines": 5, "rows": 2, "empty": 2, "held_out_lines": 1,
    }  # fmt: skip


def test_columns_may_stand_elsewhere(file: Path, tmp_path: Path) -> None:
    prepare([file], tmp_path / "out", ("fr", "en"), (2, 1))
    assert load_manifest(tmp_path / "out" / "train.jsonl")["transcript"][:] == ["Va !", "Salut !", "J'ai froid."]


def test_what_cannot_be_read_is_named(file: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"none\.txt: No such file"):
        prepare([tmp_path / "none.txt"], tmp_path / "out", ("en", "fr"))
    with pytest.raises(CorpusError, match=r"fra\.txt: no pair in 5 lines \(5 lack"):
        prepare([file], tmp_path / "out", ("en", "fr"), (7, 8))
    with pytest.raises(UsageError, match="two different places"):
        prepare([file], tmp_path / "out", ("en", "fr"), (2, 2))
    with pytest.raises(UsageError, match=r"two of the files are called fra\.txt"):
        prepare([file, file], tmp_path / "out", ("en", "fr"))
    file.write_bytes(b"caf\xe9\tcoffee\n")
    with pytest.raises(CorpusError, match="not UTF-8"):
        prepare([file], tmp_path / "out", ("en", "fr"))
    assert not (tmp_path / "out" / "train.jsonl").exists()
