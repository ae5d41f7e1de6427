from __future__ import annotations

import json
from pathlib import Path

from benchmarks.scoring import write_world


def test_world_has_a_share_of_every_test_set(tmp_path: Path) -> None:
    sizes = write_world(tmp_path, 0.001)
    assert len(sizes) == 21
    assert (sizes["fr"], sizes["de"], sizes["sl"]) == (15, 14, 1), "of 14,760, 13,511 and 360 rows"
    for name in ("reference", "a", "b", "heard"):
        assert len((tmp_path / f"fr.{name}.txt").read_text(encoding="utf-8").splitlines()) == 15
    rows = [json.loads(line) for line in (tmp_path / "fr.jsonl").read_text(encoding="utf-8").splitlines()]
    said = (tmp_path / "fr.reference.txt").read_text(encoding="utf-8").splitlines()
    assert [row["translation"] for row in rows] == said
    assert rows[0]["source_language"] == "fr"
