"""recipes/covost2 itself, step by step, on a miniature corpus and tiny parts: its words, its files, its order.

Of the recipes only what a laptop cannot do is changed: how long is trained, on what and how precisely.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from comsl.model import load_model

ROOT = Path(__file__).parents[2]
PARTS = ROOT / "comsl" / "demo" / "models"
STEPS = ("prepare", "text", "speech", "joint", "pseudo-label", "again", "cascade", "table-joint", "table", "compare")


def comsl(*words: str) -> str:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "comsl", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def shorten(recipe: Path) -> None:
    settings = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    changes: dict[str, dict[str, Any]] = {
        "training": {"max_steps": 2, "eval_steps": 2, "logging_steps": 1, "use_cpu": True, "precision": "no"},
        "optimizer": {"warmup_steps": 0},
        "data": {"num_workers": 0, "max_batch_seconds": 20},
        "evaluation": {"max_rows": 4},
    }
    for group, values in changes.items():
        settings.setdefault(group, {}).update(values)
    if settings.get("objectives", {}).get("erm"):
        settings["objectives"]["erm"]["layer"] = 2  # of three
    recipe.write_text(yaml.safe_dump(settings), encoding="utf-8")


@pytest.mark.slow
def test_from_the_archives_to_the_table(tmp_path: Path) -> None:
    corpus, out, recipes = tmp_path / "corpus", tmp_path / "out", tmp_path / "recipes"
    comsl("demo", "--covost", str(corpus), "--languages", "fr", "cy", "--scale", "0.05", "--archives")
    shutil.copytree(ROOT / "recipes" / "covost2", recipes)
    for recipe in recipes.glob("*.yaml"):
        if recipe.name not in ("run.yaml", "fsdp.yaml"):
            shorten(recipe)
    settings = {
        "covost": corpus / "covost",
        "common_voice": corpus / "cv-corpus-4-2019-12-10",
        "languages": "[fr, cy]",
        "out": out,
        "speech": PARTS / "speech",
        "text": PARTS / "text",
        "gpus": 1,
        "beam": 1,
    }
    words = ["run", str(recipes), *(word for name, value in settings.items() for word in ("--set", f"{name}={value}"))]
    last = comsl(*words).splitlines()[-1]
    assert last == f"{len(STEPS)} of {len(STEPS)} steps run, 0 finished before; page: {out}/table/report.html"
    assert {path.stem for path in (out / "run").glob("*.json")} == set(STEPS)
    assert {path.stem for path in (out / "run").glob("*.log")} == set(STEPS)
    scores = json.loads((out / "table" / "scores.json").read_text())
    assert {"direct", "cascade", "text"} == set(scores["systems"])
    assert set(scores["systems"]["direct"]["pairs"]) == {"fr-en", "cy-en"}
    comparison = json.loads((out / "compare.json").read_text())
    assert comparison["pairs"].keys() == {"fr-en", "cy-en"}
    # The systems are those of the two pages, over the same rows.
    first = json.loads((out / "table-joint" / "scores.json").read_text())
    for pair, metrics in comparison["pairs"].items():
        for side, page in (("a", first), ("b", scores)):
            assert metrics["bleu"][side] == page["systems"]["direct"]["pairs"][pair]["bleu"]["score"]
    assert load_model(out / "again")[0].config.languages.keys() >= {"fr", "cy", "en"}
    pseudo = json.loads((out / "pseudo" / "pseudo-label.json").read_text())["directions"]
    assert pseudo.keys() == {"fr_en", "cy_en"}
    for name, counts in pseudo.items():
        manifest = out / "pseudo" / name / "train.jsonl"
        assert counts["kept"] == (len(manifest.read_text().splitlines()) if manifest.exists() else 0)
        train = (out / "data" / name / "train.jsonl").read_text().splitlines()
        assert counts["left_out"]["translated"] == len(train)
    assert any(counts["kept"] for counts in pseudo.values())
    assert comsl(*words).startswith(f"0 of {len(STEPS)} steps run")
