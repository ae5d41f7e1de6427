"""Transcripts of an evaluation as training rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from comsl.data.manifest import load_manifest
from comsl.errors import UsageError
from comsl.evaluation.heard import heard
from comsl.evaluation.records import SCORED, write_json


def record(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"clip{number}",
        "system": "direct",
        "source_language": "de",
        "target_language": "en",
        "source": "Ein Hund.",
        "hypothesis": None,
        "reference": "A dog.",
        "truncated": False,
        "transcript_hypothesis": "Ein Hut.",
        "transcript_truncated": False,
        "score": None,
        "duration": 1.0,
        "segments": None,
        "error": None,
        **fields,
    }


def evaluation(folder: Path, *records: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "hypotheses.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    write_json(folder / "scores.json", {**dict.fromkeys(SCORED), "model": "runs/asr"})
    return folder


def test_rows_and_what_is_left_out(tmp_path: Path) -> None:
    folder = evaluation(
        tmp_path / "train",
        record(1),
        record(2, error="no such file", transcript_hypothesis=""),
        record(3, reference=None),
        record(4, transcript_truncated=True),
        record(5, transcript_hypothesis=" "),
        record(6, transcript_hypothesis="Zwei."),
    )
    counts = heard(folder, tmp_path / "heard.jsonl")
    assert counts == {"rows": 3, "truncated": 1, "failed": 1, "no_translation": 1, "empty": 1}
    rows = list(load_manifest(tmp_path / "heard.jsonl"))
    assert [row["transcript"] for row in rows] == ["Ein Hut.", "Ein Hut.", "Zwei."]
    assert rows[0]["translation"] == "A dog."
    assert (rows[0]["id"], rows[0]["audio"], rows[0]["provenance"]) == (
        "clip1/heard", None, "heard by runs/asr (direct)",
    )  # fmt: skip


def test_nothing_was_heard(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "text", record(1, system="text", transcript_hypothesis=None))
    with pytest.raises(UsageError, match="holds no transcripts of a system that hears clips: run comsl evaluate"):
        heard(folder, tmp_path / "heard.jsonl")
    with pytest.raises(UsageError, match="holds no transcripts of the system 'cascade'"):
        heard(folder, tmp_path / "heard.jsonl", "cascade")
    with pytest.raises(UsageError, match="holds no finished evaluation"):
        heard(tmp_path / "elsewhere", tmp_path / "heard.jsonl")
