"""Confidences: the regression, the file beside the model, and the table."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from comsl.errors import ComSLError, UsageError
from comsl.evaluation import calibration
from comsl.evaluation.calibration import HEAD, calibrate, fit, judge, reliability, reliability_lines
from comsl.evaluation.records import FIELDS, read_records, write_json
from comsl.evaluation.settings import stamp
from comsl.inference.confidence import Calibration, evidence, load_calibration
from comsl.inference.decode import DecodingOptions, Hypothesis

GOOD, BAD = "the old man sees the house", "a cat"


def evaluation(folder: Path, beside: Path, rows: int = 60, **changes: Any) -> Path:
    """Every third row: the two systems disagree, and direct is wrong."""
    folder.mkdir(parents=True)
    records = []
    for number in range(rows):
        for system in ("direct", "cascade", "mixed"):
            wrong = system == "direct" and number % 3 == 0
            record: dict[str, Any] = dict.fromkeys(FIELDS)
            record |= {"id": str(number), "system": system, "source_language": "de", "target_language": "en"}
            record |= {"hypothesis": BAD if wrong else GOOD, "reference": GOOD, "score": -0.1, "truncated": False}
            records.append(record)
    (folder / "hypotheses.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    scores = {"rows": rows, "task": "translate", "lowercase": False, "transcription": {}, "failed": []}
    scores |= {"model": str(beside), "cascade_asr": None, "cascade_mt": None, "manifests": ["dev.jsonl"]}
    scores |= {"systems": {system: {} for system in ("direct", "cascade", "mixed")}}
    write_json(folder / "scores.json", {**scores, "decoding": {**vars(DecodingOptions()), "device": "cpu"}, **changes})
    return folder


def test_evidence_is_agreement_and_how_likely_either_is() -> None:
    found = evidence(Hypothesis("ab", math.log(0.5)), Hypothesis("ac", math.log(0.25)))
    assert found == pytest.approx([1.0, 0.25, 0.5, 0.25])  # chrF of tests/inference/test_mbr.py
    assert evidence(Hypothesis("ab", -0.1), Hypothesis("", 0.0))[1:] == pytest.approx([0.0, math.exp(-0.1), 0.0])
    # Precision 1 and recall 1/2 one way, the other way round the other: F2 is 5 p r / (4 p + r).
    one, other = 5 * 0.5 / 4.5, 5 * 0.5 / 3
    assert evidence(Hypothesis("a", 0.0), Hypothesis("aa", 0.0))[1] == pytest.approx((one + other) / 2)


def test_the_regression_finds_what_made_the_rows() -> None:
    """Many rows, so that the penalty does not matter: expectations are those that the labels were drawn from."""
    features = np.random.default_rng(0).random((20_000, 4))
    features[:, 0] = 1.0
    expected = 1 / (1 + np.exp(-features @ np.array([-1.0, 3.0, 0.5, -2.0])))
    assert fit(features, expected) == pytest.approx([-1.0, 3.0, 0.5, -2.0], abs=0.02)
    weights = fit(features[:200], np.random.default_rng(1).random(200))
    assert np.mean(1 / (1 + np.exp(-features[:200] @ weights))) == pytest.approx(
        np.random.default_rng(1).random(200).mean(), abs=1e-4
    )
    assert np.isfinite(fit(features, np.ones(20_000))).all()


def test_calibrate_writes_what_translating_reads(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    assert load_calibration(model) is None
    made, path = calibrate(evaluation(tmp_path / "dev", model))
    assert path == model / "confidence.json"
    assert load_calibration(model) == made
    assert (made.rows, made.manifests) == ({"direct": 60, "cascade": 60, "mixed": 60}, ["dev.jsonl"])
    agreeing, differing = ([1.0, share, math.exp(-0.1), math.exp(-0.1)] for share in (1.0, 0.1))
    assert made.confidence("direct", agreeing) > 0.85 > 0.5 > made.confidence("direct", differing)
    assert made.confidence("cascade", differing) > 0.95, "which was right all the same"
    made.check(DecodingOptions(batch_size=3), "mixed")
    with pytest.raises(UsageError, match="not calibrated for the mode pooled, only for direct, cascade, mixed"):
        made.check(DecodingOptions(), "pooled")
    with pytest.raises(UsageError, match="calibrated with beam 5, not 1: .* run comsl calibrate"):
        made.check(DecodingOptions(beam=1))
    assert made.memory is None
    listened = {"gap": 1.5, "likeness": 10.0}
    assert calibrate(evaluation(tmp_path / "memory", model, memory={"settings": listened}))[0].memory == listened
    assert load_calibration(model) != made


def test_pooled_is_judged_as_it_was_calibrated(tmp_path: Path) -> None:
    records = read_records(evaluation(tmp_path / "dev", tmp_path))
    for record in records:
        record["system"] = record["system"].replace("mixed", "pooled")
    without, with_one = (Calibration({"pooled": [0.0] * 4}, {}, [], {}, gap) for gap in (None, {"gap": 2.0}))
    assert reliability(records, without).keys() == reliability(records, with_one, {"gap": 2.0}).keys() == {"pooled"}
    assert reliability(records, without, {"gap": 2.0}) == reliability(records, with_one) == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"systems": {"direct": {}}}, "evaluate the systems direct and cascade together"),
        ({"decoding": None}, "evaluate the systems"),
        ({"cascade_mt": "other"}, "its cascade has models of its own"),
        ({"model": "hub/name"}, "hub/name is no directory: name one with --out"),
        ({"rows": 20}, "20 rows can be used, at least 50 are needed"),
    ],
)
def test_evaluations_that_nothing_can_be_learned_of(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = evaluation(tmp_path / "dev", tmp_path, **changes)
    with pytest.raises(UsageError, match=message):
        calibrate(folder)
    assert not (tmp_path / "confidence.json").exists()


def test_a_calibrated_model_is_the_same_model(tmp_path: Path) -> None:
    """An evaluation of it is not begun anew."""
    (tmp_path / "model.safetensors").write_text("weights")
    before = stamp(tmp_path)
    calibrate(evaluation(tmp_path / "dev", tmp_path))
    assert stamp(tmp_path) == before
    (tmp_path / "config.json").write_text("{}")
    assert stamp(tmp_path) != before


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"evidence": ["x"], "weights": {}}'])
def test_a_file_that_is_something_else_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "confidence.json").write_text(content)
    with pytest.raises(ComSLError, match="confidence.json is no calibration .*: run comsl calibrate again"):
        load_calibration(tmp_path)


def test_only_rows_that_both_translated_count(tmp_path: Path) -> None:
    records = read_records(evaluation(tmp_path / "dev", tmp_path, rows=10))
    records[0]["error"] = "no file"  # direct of row 0
    records[4]["score"] = None  # cascade of row 1
    records[8]["reference"] = None  # mixed of row 2, which the others have
    judged = judge(records)
    assert {system: len(quality) for system, (_, quality) in judged.items()} == {"direct": 8, "cascade": 8, "mixed": 7}


def test_the_table_says_how_confidence_and_quality_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten rows, of which direct is wrong in the first, fourth, seventh and tenth, and says so."""
    records = read_records(evaluation(tmp_path / "dev", tmp_path, rows=10))
    wrong = calibration.chrf(BAD, GOOD)
    monkeypatch.setattr(Calibration, "confidence", lambda self, mode, of: 0.25 if of[1] < 0.9 else 0.75)
    found = reliability(records, Calibration({"direct": [0.0] * 4}, {}, [], {}, None))
    assert list(found) == ["direct"]
    assert [part["rows"] for part in found["direct"]["bins"]] == [2] * 5
    assert [part["confidence"] for part in found["direct"]["bins"]] == [0.25, 0.25, 0.75, 0.75, 0.75]
    assert [part["chrf"] for part in found["direct"]["bins"]] == pytest.approx([wrong, wrong, 1, 1, 1])
    assert found["direct"]["error"] == pytest.approx((2 * abs(0.25 - wrong) + 3 * 0.25) / 5)
    assert found["direct"]["correlation"] == pytest.approx(1.0)
    lines = reliability_lines({"confidence": found})
    assert len(lines) == 6
    assert all(len(line) == len(HEAD) for line in lines)
    assert lines[2] == ("direct, part 3 of 5", "2", "0.75", "1.00", "")
    assert lines[5][:2] == ("direct, all, correlation 1.00", "10")
    assert reliability_lines({}) == reliability_lines({"confidence": {}}) == []
