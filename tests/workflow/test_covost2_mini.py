"""recipes/covost2-mini in a reduced form: every step by `comsl run`, three languages, a few steps of training each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LANGUAGES = ("fr", "fa", "cy")
SETTINGS = {
    "languages": f"[{','.join(LANGUAGES)}]", "scale": "0.02", "vocabulary": "300", "beam": "1",
    "text_steps": "110", "speech_steps": "2", "pieces_steps": "2", "joint_steps": "2", "again_steps": "2",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mini")
    run(folder)
    return folder


def run(folder: Path) -> str:
    settings = SETTINGS | {"corpus": str(folder / "corpus"), "out": str(folder / "out")}
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "comsl", "run", "recipes/covost2-mini", *words],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_table_has_a_row_a_language_and_counts_the_rows_that_failed(folder: Path) -> None:
    scores = json.loads((folder / "out" / "table" / "scores.json").read_text())
    for system in ("direct", "cascade", "mixed", "text", "lookup"):
        assert set(scores["systems"][system]["pairs"]) == {f"{code}-en" for code in LANGUAGES}
    assert scores["systems"]["direct"]["pairs"]["fr-en"]["rows"] == 6
    planted = json.loads((folder / "corpus" / "planted.json").read_text())["faults"]
    unheard = [f for f in planted if f["split"] == "test" and f["kind"] in ("missing", "undecodable")]
    assert len(unheard) == 2
    assert {failed["id"].rpartition("/")[2] for failed in scores["failed"]} == {
        fault["clip"].removesuffix(".mp3") for fault in unheard
    }
    table = (folder / "out" / "table" / "table.md").read_text()
    assert all(name in table for name in ("French", "Persian", "Welsh"))


def test_pseudo_labels_are_of_clips_that_covost_does_not_translate(folder: Path) -> None:
    faults = json.loads((folder / "corpus" / "planted.json").read_text())["faults"]
    leaks = {fault["clip"] for fault in faults if fault["kind"] == "untranslated-test-sentence"}
    directions = json.loads((folder / "out" / "pseudo" / "pseudo-label.json").read_text())["directions"]
    assert directions.keys() == {f"{code}_en" for code in LANGUAGES}
    for code in LANGUAGES:
        labelled = rows(folder / "out" / "pseudo" / f"{code}_en" / "train.jsonl")
        data = folder / "out" / "data"
        train, dev, test = (rows(data / f"{code}_en" / f"{split}.jsonl") for split in ("train", "dev", "test"))
        validated = (data / "clips" / code / "validated.tsv").read_text().splitlines()[1:]
        clips = {Path(row["audio"]).name for row in labelled}
        assert clips <= {line.split("\t")[1] for line in validated}
        assert not clips & {Path(row["audio"]).name for row in (*train, *dev, *test)}, "CoVoST translates it"
        assert not clips & leaks, "a test sentence, planted"
        assert all("text" in row["provenance"] for row in labelled)
        counts = directions[f"{code}_en"]
        assert counts["rows"] == len(validated) == counts["kept"] + sum(counts["left_out"].values())
        assert counts["kept"] == len(clips) == len(labelled) > 0
        assert counts["left_out"]["translated"] == len(train)
        assert counts["left_out"]["leak_clip"] == len(dev) + len(test)


def test_a_finished_run_has_nothing_left_to_do(folder: Path) -> None:
    assert run(folder).startswith("0 of 11 steps run, 11 finished before")
