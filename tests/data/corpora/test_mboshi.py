import json
from pathlib import Path

import pytest

from comsl.data.corpora.mboshi import CorpusError, prepare
from comsl.data.manifest import load_manifest
from tests.data.audio_files import cut, tone, write_sound


def utterance(folder: Path, name: str, mboshi: str = "Bísí lémi\n", french: str = "Un mot\n") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_sound(folder / f"{name}.wav", tone(0.1))
    (folder / f"{name}.mb").write_text(mboshi, encoding="utf-8")
    (folder / f"{name}.fr").write_text(french, encoding="utf-8")
    (folder / f"{name}.fr.cleaned").write_text("l &apos; autre\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """104 training and 4 dev utterances; two of dev's references are in train, one only but for its case."""
    corpus = tmp_path / "clone" / "full_corpus_newsplit"
    for number in range(104):
        utterance(corpus / "train", f"anna_2015_{number:03d}", french=f"L'autre, numéro {number} \n")
    for number, french in enumerate(("L'autre, numéro 3", "L'autre, numéro 101", "l'autre, numéro 5", "Neuf.")):
        utterance(corpus / "dev", f"bert_2016_{number}", french=french)
    return tmp_path / "clone"


@pytest.mark.parametrize("inner", [False, True])
def test_protocol(root: Path, tmp_path: Path, inner: bool) -> None:
    summary = prepare(root / "full_corpus_newsplit" if inner else root, tmp_path / "out")
    assert summary.rows == {"train": 4, "validation": 100, "test": 4, "test-novel": 2}
    manifests = {name: load_manifest(tmp_path / "out" / f"{name}.jsonl") for name in summary.rows}
    assert manifests["validation"]["id"][:] == [f"anna_2015_{number:03d}" for number in range(100)]
    assert manifests["train"]["id"][:] == [f"anna_2015_{number:03d}" for number in range(100, 104)]
    assert manifests["test-novel"]["translation"][:] == ["l'autre, numéro 5", "Neuf."]
    # Relative to the manifest, so that corpus and manifests can be moved together.
    written = json.loads((tmp_path / "out" / "train.jsonl").read_text().splitlines()[0])
    assert written["audio"] == "../clone/full_corpus_newsplit/train/anna_2015_100.wav"
    first = manifests["train"][0]
    assert {**first, "audio": str(Path(first["audio"]).resolve())} == {
        "id": "anna_2015_100",
        "audio": str(root / "full_corpus_newsplit" / "train" / "anna_2015_100.wav"),
        "duration": 0.1,
        "source_language": "mdw",
        "target_language": "fr",
        "transcript": "Bísí lémi",
        "translation": "L'autre, numéro 100",
        "split": "train",
        "speaker": "anna",
        "provenance": "mboshi-french-parallel-corpus/full_corpus_newsplit/train",
    }
    saved = json.loads((tmp_path / "out" / "prepare.json").read_text())
    assert saved["rows"] == summary.rows
    assert saved["hours"]["validation"] == pytest.approx(100 * 0.1 / 3600, abs=1e-4)
    assert saved["dropped"] == {"train": {}, "dev": {}}
    assert saved["speakers"]["test"] == {"bert": 4}
    assert "train: 104 usable utterances, the published corpus has 4616" in saved["notes"]
    assert "2 of the 4 test references occur in the corpus's train part too" in saved["notes"]


def test_nothing_is_dropped_in_silence(root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train = root / "full_corpus_newsplit" / "train"
    (train / "anna_2015_000.fr").unlink()
    (train / "anna_2015_001.wav").unlink()
    (train / "anna_2015_001.mb").unlink()
    cut(train / "anna_2015_002.wav", 0.01).replace(train / "anna_2015_002.wav")
    for number, (mboshi, french) in {200: (" \n", "x"), 201: ("x\ny\n", "x")}.items():
        utterance(train, f"carl_{number}", mboshi, french)
    dev = root / "full_corpus_newsplit" / "dev"
    (dev / "bert_2016_0.mb").write_bytes(b"\xff")
    summary = prepare(root, tmp_path / "out")
    assert summary.rows == {"train": 1, "validation": 100, "test": 3, "test-novel": 2}
    wav = summary.dropped["train"].pop("anna_2015_002")
    assert wav.startswith("the .wav file: ")
    assert summary.dropped == {
        "train": {
            "anna_2015_000": "no .fr file",
            "anna_2015_001": "no .wav and no .mb file",
            "carl_200": "the .mb file is empty",
            "carl_201": "the .mb file has more than one line",
        },
        "dev": {"bert_2016_0": "the .mb file is not UTF-8"},
    }
    assert "train: 5 left out, listed under dropped" in summary.notes
    assert "left out: dev/bert_2016_0: the .mb file is not UTF-8" in capfd.readouterr().err


def test_headers_that_announce_too_much_are_noted(root: Path, tmp_path: Path) -> None:
    path = root / "full_corpus_newsplit" / "train" / "anna_2015_103.wav"
    path.write_bytes(path.read_bytes()[:-726])
    summary = prepare(root, tmp_path / "out")
    assert any(note.startswith("train: 1 wav headers announce up to 23 ms more") for note in summary.notes)
    assert load_manifest(tmp_path / "out" / "train.jsonl")[3]["duration"] == pytest.approx(
        (1600 - 363) / 16_000, abs=1e-4
    )


def test_the_hash_is_of_the_contents(root: Path, tmp_path: Path) -> None:
    first = prepare(root, tmp_path / "1").sha256
    assert prepare(root / "full_corpus_newsplit", tmp_path / "2").sha256 == first
    (root / "full_corpus_newsplit" / "dev" / "bert_2016_0.fr").write_text("Autre chose\n")
    changed = prepare(root, tmp_path / "3").sha256
    assert changed["train"] == first["train"]
    assert changed["dev"] != first["dev"]


def test_wrong_roots(root: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="is not a directory; name the clone of"):
        prepare(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(CorpusError, match="holds neither full_corpus_newsplit/train nor train and dev"):
        prepare(tmp_path, tmp_path / "out")
    for path in (root / "full_corpus_newsplit" / "dev").glob("*.fr"):
        path.unlink()
    with pytest.raises(CorpusError, match=r"104 usable training and 0 dev .*first dev/bert_2016_0: no \.fr file"):
        prepare(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folds_share_no_french(root: Path, tmp_path: Path) -> None:
    corpus = root / "full_corpus_newsplit"
    for number in range(156):
        utterance(corpus / "train", f"zoe_2015_{number:03d}", french=f"l'AUTRE numéro {number % 130}.")
    summary = prepare(root, tmp_path / "out", folds=3)
    tests: list[str] = []
    for number in range(1, 4):
        parts = {
            name: load_manifest(tmp_path / "out" / f"fold-{number}" / f"{name}.jsonl")
            for name in ("train", "validation", "test")
        }
        numbers = {
            name: {text.rstrip(".").rsplit(" ")[-1] for text in part["translation"]} for name, part in parts.items()
        }
        assert not numbers["test"] & (numbers["train"] | numbers["validation"])
        assert len(parts["validation"]) == 100
        assert sum(map(len, parts.values())) == 260
        assert Path(parts["test"][0]["audio"]).is_file()
        assert summary.rows[f"fold-{number}/test"] == len(parts["test"])
        tests += parts["test"]["id"][:]
    assert sorted(tests) == sorted(path.stem for path in (corpus / "train").glob("*.wav"))
    assert summary.rows["train"] == 160  # as without folds
    with pytest.raises(CorpusError, match="fold-3 is of another cut"):
        prepare(root, tmp_path / "out", folds=2)


@pytest.mark.parametrize(("folds", "words"), [(1, "at least 2 folds"), (30, "too few for 30 folds")])
def test_folds_that_cannot_be(root: Path, tmp_path: Path, folds: int, words: str) -> None:
    with pytest.raises(CorpusError, match=words):
        prepare(root, tmp_path / "out", folds=folds)
