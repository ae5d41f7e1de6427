"""When a step is finished, and what makes it unfinished again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from comsl.workflow.markers import Markers, facts_of
from comsl.workflow.plan import Step


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Current directory: a recipe, manifests of two directions and a model; and a finished run of them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "joint.yaml").write_text("model: parts\ndata: {train: 'data/*_en/train.jsonl'}\n")
    for name in ("data/fr_en/train.jsonl", "data/de_en/train.jsonl", "dev.jsonl", "parts/model.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "runs" / "joint").mkdir(parents=True)
    return tmp_path


STEP = Step("joint", ("train", "joint.yaml", "--data.dev", "[dev.jsonl]", "--output_dir", "runs/joint"))


def finished(here: Path) -> Markers:
    markers = Markers(here)
    markers.set(STEP, facts_of(STEP), 1.0)
    assert markers.why_not_finished(STEP) is None
    return markers


def test_inputs_are_the_paths_of_words_and_recipes(here: Path) -> None:
    assert sorted(facts_of(STEP)["inputs"]) == [
        "data/de_en/train.jsonl",
        "data/fr_en/train.jsonl",
        "dev.jsonl",
        "parts",
    ]


def change(path: str) -> Callable[[Path], None]:
    return lambda here: (here / path).write_text("something else")


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (lambda here: (here / "joint.yaml").write_text("model: parts"), "joint.yaml has changed"),
        (change("data/fr_en/train.jsonl"), "data/fr_en/train.jsonl has changed"),
        (change("dev.jsonl"), "dev.jsonl has changed"),
        (change("parts/model.safetensors"), "parts has changed"),
        (lambda here: os.utime(here / "parts" / "model.safetensors", (1, 1)), "parts has changed"),
        (lambda here: (here / "data" / "de_en" / "train.jsonl").unlink(), "data/de_en/train.jsonl has changed"),
        (lambda here: (here / "runs" / "joint").rmdir(), "runs/joint is gone"),
        (change("joint.json"), "its marker is damaged"),
        (lambda here: (here / "joint.json").unlink(), "not done yet"),
        # None of its business: its own output, what lies deeper in a folder, when a recipe was written.
        (lambda here: os.utime(here / "joint.yaml", (1, 1)), None),
        (change("runs/joint/model.safetensors"), None),
        (lambda here: (here / "parts" / "test").mkdir(), None),
        (change("parts/confidence.json"), None),  # comsl calibrate, a later step
    ],
)
def test_what_a_finished_step_depends_on(here: Path, what: Callable[[Path], None], reason: str | None) -> None:
    markers = finished(here)
    what(here)
    assert markers.why_not_finished(STEP) == reason


def test_words_and_processes_count(here: Path) -> None:
    markers = finished(here)
    assert markers.why_not_finished(Step("joint", (*STEP.words, "--seed", "1"))) == "its words have changed"
    assert markers.why_not_finished(Step("joint", STEP.words, processes=2)) == "its processes have changed"
    assert markers.why_not_finished(Step("joint", STEP.words, writes=("extra",))) == "extra is gone"


def test_a_new_match_of_a_pattern_counts(here: Path) -> None:
    markers = finished(here)
    (here / "data" / "cy_en").mkdir()
    (here / "data" / "cy_en" / "train.jsonl").touch()
    assert markers.why_not_finished(STEP) == "data/cy_en/train.jsonl has changed"


def test_what_a_step_reads_beside_its_words_counts(here: Path) -> None:
    """A study's page: its words name the folder of the runs, and what it shows lies three folders deeper."""
    scores = here / "runs" / "joint" / "1" / "test" / "scores.json"
    scores.parent.mkdir(parents=True)
    scores.write_text("{}")
    words = ("study", "study.yaml", "--runs", "runs", "--out", "page.md")
    page = Step("page", words, reads=("runs/*/*/*/scores.json",))
    (here / "page.md").touch()
    markers = Markers(here)
    markers.set(page, facts_of(page), 1.0)
    assert markers.why_not_finished(page) is None
    scores.write_text('{"rows": 1}')
    assert markers.why_not_finished(page) == "runs/joint/1/test/scores.json has changed"
    scores.write_text("{}")
    markers.set(page, facts_of(page), 1.0)
    second = here / "runs" / "joint" / "2" / "test" / "scores.json"
    second.parent.mkdir(parents=True)
    second.touch()
    assert markers.why_not_finished(page) == "runs/joint/2/test/scores.json has changed"
