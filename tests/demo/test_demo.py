"""The demo from end to end, a few steps long: every stage runs, and a second call does nothing again."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from comsl.demo.demo import RECIPES, SYSTEMS, run_demo
from comsl.training.configuration import load_configuration


@pytest.mark.parametrize("recipe", sorted(path.name for path in RECIPES.glob("*.yaml")))
def test_recipes_hold_known_keys(recipe: str, tmp_path: Path) -> None:
    words = ["--model", "m", "--output_dir", str(tmp_path), "--data.train", "t.jsonl", "--data.dev", "d.jsonl"]
    load_configuration(RECIPES / recipe, words).validate()


@pytest.mark.slow
def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {"de": 12, "cy": 6}
    words = ("--training.max_steps", "2", "--training.eval_steps", "2", "--optimizer.warmup_steps", "1")
    summary = run_demo(tmp_path, sizes, words, beam=1, test_size=4)
    printed = capsys.readouterr().out
    for system in SYSTEMS:
        assert system.title in printed
        assert (tmp_path / "eval" / system.name / "report.html").is_file()
        assert set(summary["bleu"][system.name]) == set(sizes)
    assert "version:" in summary["bleu"]["signature"][0]
    assert json.loads((tmp_path / "demo.json").read_text()) == summary
    started = time.monotonic()
    again = run_demo(tmp_path, sizes, words, beam=1, test_size=4)
    assert again["bleu"] == summary["bleu"]
    assert again["seconds"]["train comsl"] == summary["seconds"]["train comsl"]
    assert time.monotonic() - started < summary["seconds"]["all"]
