"""A look-alike of Multi30k of thirty sentences, spoken: what is in which manifest, and that a second run makes nothing
anew."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from comsl.data.audio import load_audio
from comsl.data.manifest import load_manifest
from comsl.demo.multi30k_speech import prepare
from comsl.demo.speech import DEV_VARIANTS, TEST_VARIANTS, TRAIN_VARIANTS
from comsl.errors import UsageError

WORDS = {"en": "dog", "de": "Hund", "fr": "chien", "cs": "pes"}
TRIPLES = {"de": 6, "fr": 3, "cs": 1}
SPLITS = {"train": 30, "val": 2, "test_2016_flickr": 2, "test_2017_flickr": 2}


def write_corpus(root: Path) -> None:
    folder = root / "data" / "task1" / "raw"
    folder.mkdir(parents=True)
    for split, count in SPLITS.items():
        for language, word in WORDS.items():
            if (split, language) == ("test_2017_flickr", "cs"):
                continue
            lines = [f"{word} {split.replace('_', ' ')} {number}." for number in range(count)]
            if split == "train":
                lines[7] = f"{WORDS[language]} VAL 1"  # val has it, but for case and full stop
            (folder / f"{split}.{language}.gz").write_bytes(gzip.compress("".join(f"{x}\n" for x in lines).encode()))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("multi30k")
    write_corpus(folder / "corpus")
    out = folder / "out"
    facts = prepare(folder / "corpus", out, triples=TRIPLES, hours_limit=0.01, workers=1)
    return folder / "corpus", out, facts


def rows(out: Path, name: str) -> list[dict[str, Any]]:
    return list(load_manifest(out / f"{name}.jsonl"))


def test_counts(made: tuple[Path, Path, dict[str, Any]]) -> None:
    _, out, facts = made
    counts = {name: len(rows(out, name)) for name in ("train", "dev", "test_2016_flickr", "test_2017_flickr", "text")}
    assert counts == {"train": 10, "dev": 6, "test_2016_flickr": 6, "test_2017_flickr": 4, "text": 3 * 29}
    assert facts["rows"]["train"] == TRIPLES
    assert facts["training_lines_left_out"]["all"] == 1
    assert facts["training_lines_left_out"]["overlap"]["val"] == {"en": 1, "de": 1, "fr": 1, "cs": 1}
    assert json.loads((out / "prepare.json").read_text())["rows"] == facts["rows"]


def test_no_training_sentence_is_held_out_and_no_two_languages_share_one(
    made: tuple[Path, Path, dict[str, Any]],
) -> None:
    _, out, _ = made
    train, further = rows(out, "train"), rows(out, "further")
    translations = [row["translation"] for row in train]
    assert len(set(translations)) == len(translations) == 10
    assert all(row["translation"] is None for row in further)
    assert not {row["transcript"] for row in further} & {row["transcript"] for row in train}
    assert all("VAL" not in (row["transcript"] or "") for row in [*train, *further, *rows(out, "text")])


def test_voices_of_tests_are_unheard(made: tuple[Path, Path, dict[str, Any]]) -> None:
    _, out, _ = made

    def variants(name: str) -> set[str]:
        return {row["speaker"].partition("+")[2] for row in rows(out, name)}

    assert variants("train") | variants("further") <= set(TRAIN_VARIANTS)
    assert variants("dev") <= set(DEV_VARIANTS)
    assert variants("test_2016_flickr") | variants("test_2017_flickr") <= set(TEST_VARIANTS)


def test_further_clips_stay_within_the_limit_and_go_where_there_is_least(
    made: tuple[Path, Path, dict[str, Any]],
) -> None:
    _, out, facts = made
    spoken = sum(row["duration"] for name in ("train", "further") for row in rows(out, name))
    assert 30 < spoken < 40  # of 36 seconds
    assert facts["rows"]["further"].get("cs", 0) >= facts["rows"]["further"].get("de", 0)


def test_clips_are_what_the_rows_say(made: tuple[Path, Path, dict[str, Any]]) -> None:
    _, out, _ = made
    for row in rows(out, "train")[:3]:
        assert len(load_audio(row["audio"])) / 16_000 == pytest.approx(row["duration"], abs=1e-3)


def test_again(made: tuple[Path, Path, dict[str, Any]]) -> None:
    """The same manifests, and no clip written twice; one that is missing is made again, to the sample."""
    corpus, out, _ = made
    clips = {path: path.stat().st_mtime_ns for path in out.glob("audio/*/*.flac")}
    lost = sorted(clips)[0]
    before, manifest = lost.read_bytes(), (out / "train.jsonl").read_bytes()
    lost.unlink()
    prepare(corpus, out, triples=TRIPLES, hours_limit=0.01, workers=1)
    assert lost.read_bytes() == before
    assert (out / "train.jsonl").read_bytes() == manifest
    again = {path: path.stat().st_mtime_ns for path in out.glob("audio/*/*.flac")}
    assert {path for path in clips if again[path] != clips[path]} == {lost}
    assert again.keys() == clips.keys()


def test_more_than_there_is(made: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="40 triples are wanted, but there are 29 usable sentences"):
        prepare(made[0], tmp_path, triples={"de": 38, "fr": 1, "cs": 1}, workers=1)
    with pytest.raises(UsageError, match="--scale 2: must be above 0 and at most 1"):
        prepare(made[0], tmp_path, scale=2.0)
