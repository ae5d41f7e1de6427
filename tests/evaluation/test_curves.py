from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from comsl.evaluation.curves import MAX_POINTS, read_curves
from comsl.evaluation.evaluate import evaluate
from comsl.training.run import train
from tests.training.world import build_world, stage


def test_log_of_a_run(tmp_path: Path) -> None:
    entries = [
        {"step": 1, "epoch": 0.1, "kind": "train", "loss": 5.0, "st": 4.0, "st_count": 9, "mtp": 0, "mtp_count": 0},
        {"step": 2, "epoch": 0.2, "kind": "train", "loss": 4.0, "st": 3.0, "st_count": 9, "learning_rate": 1e-3},
        {"step": 2, "epoch": 0.2, "kind": "dev", "dev_loss": 4.5, "dev_bleu": 1.5},
    ]
    checkpoint = tmp_path / "checkpoints" / "step-000002"
    checkpoint.mkdir(parents=True)
    lines = [json.dumps(entry) for entry in entries]
    (tmp_path / "train_log.jsonl").write_text("\n".join([*lines, '{"step": 3, "lo']))
    expected = {
        "loss": {"training": [(1, 5.0), (2, 4.0)], "development set": [(2, 4.5)]},
        "objectives": {"st": [(1, 4.0), (2, 3.0)]},
        "development set": {"bleu": [(2, 1.5)]},
        "learning rate": {"learning rate": [(2, 1e-3)]},
    }
    assert read_curves(tmp_path) == expected
    assert read_curves(checkpoint) == expected


def test_a_real_run_has_its_curves_on_the_page(tmp_path: Path) -> None:
    world, run = build_world(tmp_path), tmp_path / "runs" / "st"
    train(stage(world, run, objectives={"asr": {}, "st": {}}, training__max_steps=2, training__eval_steps=1))
    settings: dict[str, Any] = {"beam": 1, "n_bootstrap": 0, "max_new_tokens": 3, "device": "cpu", "show": False}
    result = evaluate(run, world / "dev.jsonl", tmp_path / "scores", ["direct"], **settings)
    curves = result.scores["curves"]
    assert list(curves) == ["loss", "objectives", "development set", "learning rate"]
    assert [[step for step, _ in curves["loss"][name]] for name in ("training", "development set")] == [[1, 2], [1, 2]]
    assert set(curves["objectives"]) == {"asr", "st", "transcript_unknown", "translation_unknown"}
    assert {"asr", "st", "bleu"} <= set(curves["development set"])
    assert read_curves(run / "checkpoints" / "step-000002") == curves
    assert "Learning curves" in (tmp_path / "scores" / "report.html").read_text(encoding="utf-8")


def test_no_log(tmp_path: Path) -> None:
    assert read_curves(tmp_path / "nothing") == {}


def test_long_logs_are_thinned(tmp_path: Path) -> None:
    with (tmp_path / "train_log.jsonl").open("w") as file:
        for step in range(1, 10_001):
            file.write(json.dumps({"step": step, "kind": "train", "loss": 1.0}) + "\n")
    points = read_curves(tmp_path)["loss"]["training"]
    assert len(points) <= MAX_POINTS + 1
    assert (points[0][0], points[-1][0]) == (1, 10_000)
