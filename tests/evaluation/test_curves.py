from __future__ import annotations

import json
from pathlib import Path

from comsl.evaluation.curves import MAX_POINTS, read_curves


def test_log_of_a_run(tmp_path: Path) -> None:
    entries = [
        {"step": 1, "epoch": 0.1, "kind": "train", "loss": 5.0, "st": 4.0, "st_count": 9, "learning_rate": 1e-3},
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
    }
    assert read_curves(tmp_path) == expected
    assert read_curves(checkpoint) == expected


def test_no_log(tmp_path: Path) -> None:
    assert read_curves(tmp_path / "nothing") == {}


def test_long_logs_are_thinned(tmp_path: Path) -> None:
    with (tmp_path / "train_log.jsonl").open("w") as file:
        for step in range(1, 10_001):
            file.write(json.dumps({"step": step, "kind": "train", "loss": 1.0}) + "\n")
    points = read_curves(tmp_path)["loss"]["training"]
    assert len(points) <= MAX_POINTS + 1
    assert (points[0][0], points[-1][0]) == (1, 10_000)
