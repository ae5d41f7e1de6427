"""Confidences: fitted on the rows of one evaluation, measured on those of another.

Both read records of the systems direct and cascade of the same model, so nothing is decoded for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from comsl.errors import ComSLError, UsageError
from comsl.evaluation.records import Record, read_records, read_scores
from comsl.evaluation.scoring import scorable
from comsl.inference import MODES
from comsl.inference.confidence import CALIBRATION, COMPARED, EVIDENCE, Calibration, evidence
from comsl.inference.decode import DecodingOptions, Hypothesis
from comsl.inference.mbr import chrf

LEAST_ROWS = 50
"""To fit four weights on."""
PENALTY = (1e-3, 0.1, 0.1, 0.1)
"""On the squares of the weights, which without it grow without end where the evidence tells good from bad perfectly:
evidence from 0 to 1 seldom moves the log-odds by more than 0.1 ** -0.5 = 3."""
BINS = 5
HEAD = ("confidence of", "rows", "confidence", "chrF", "error")

Judged = dict[str, tuple[np.ndarray, np.ndarray]]
"""By system, evidence [N, 4] and quality [N] of its rows."""


def calibrate(folder: str | Path, out: str | Path | None = None) -> tuple[Calibration, Path]:
    """Fit the confidences of a model on an evaluation of it and write them where translating finds them.

    Args:
        folder: that ``evaluate`` wrote, of a manifest that the model was not trained on.
        out: directory to write ``confidence.json`` to; None: the model's own.

    Raises:
        UsageError: an evaluation without the two systems, of two models, or of too few rows.
    """
    scores, records = read_scores(folder), read_records(folder)
    decoding = scores["decoding"]
    missing = [system for system in COMPARED if system not in scores["systems"]]
    if missing or decoding is None:
        raise UsageError(
            f"{folder}: evaluate the systems {' and '.join(COMPARED)} together: their agreement is compared"
        )
    if not one_model(scores):
        raise UsageError(
            f"{folder}: its cascade has models of its own; evaluate without --cascade-asr and --cascade-mt"
        )
    where = Path(scores["model"] if out is None else out)
    if not where.is_dir():
        raise UsageError(f"{where} is no directory: name one with --out to write {CALIBRATION} to")
    judged = judge(records)
    fitted = {system: rows for system, rows in judged.items() if len(rows[1]) >= LEAST_ROWS}
    if not set(COMPARED) <= fitted.keys():
        most = max((len(quality) for _, quality in judged.values()), default=0)
        raise UsageError(f"{folder}: {most} rows can be used, at least {LEAST_ROWS} are needed: take a larger manifest")
    settings = {name: decoding[name] for name in DecodingOptions().outcome()}
    weights = {system: fit(*rows) for system, rows in fitted.items()}
    counts = {system: len(quality) for system, (_, quality) in fitted.items()}
    memory = (scores.get("memory") or {}).get("settings")
    calibration = Calibration(weights, settings, scores["manifests"], counts, memory)
    calibration.save(where / CALIBRATION)
    return calibration, where / CALIBRATION


def reliability(
    records: Sequence[Record], calibration: Calibration, memory: dict[str, float] | None = None
) -> dict[str, dict[str, Any]]:
    """By system, how confidences and qualities go together; of those that it was made for.

    Args:
        memory: settings of the translation memory that pooled listened to, if it had one.

    Returns:
        ``bins``: as many rows in each, from the least confident on, with the means of confidence and chrF;
        ``error``: mean distance of the two over the bins; ``correlation`` of the two over the rows, None where either
        is the same everywhere.
    """
    found = {}
    for system, (features, quality) in judge(records).items():
        if system not in calibration.weights or (system == "pooled" and memory != calibration.memory):
            continue
        sure = np.array([calibration.confidence(system, row) for row in features.tolist()])
        parts = [part for part in np.array_split(np.argsort(sure, kind="stable"), BINS) if len(part)]
        bins = [
            {"rows": len(part), "confidence": float(sure[part].mean()), "chrf": float(quality[part].mean())}
            for part in parts
        ]
        error = sum(each["rows"] * abs(each["confidence"] - each["chrf"]) for each in bins) / len(sure)
        flat = bool(np.ptp(sure) == 0 or np.ptp(quality) == 0)
        correlation = None if flat else float(np.corrcoef(sure, quality)[0, 1])
        found[system] = {"rows": len(sure), "bins": bins, "error": float(error), "correlation": correlation}
    return found


def reliability_lines(scores: dict[str, Any]) -> list[tuple[str, ...]]:
    """Cells of ``HEAD``: a line a bin, the least confident first, and one for all rows of a system."""
    lines: list[tuple[str, ...]] = []
    for system, found in (scores.get("confidence") or {}).items():
        for number, each in enumerate(found["bins"], start=1):
            values = f"{each['confidence']:.2f}", f"{each['chrf']:.2f}"
            lines.append((f"{system}, part {number} of {len(found['bins'])}", str(each["rows"]), *values, ""))
        related = "" if found["correlation"] is None else f", correlation {found['correlation']:.2f}"
        lines.append((f"{system}, all{related}", str(found["rows"]), "", "", f"{found['error']:.3f}"))
    return lines


def judge(records: Sequence[Record]) -> Judged:
    """The rows that both compared systems translated and that have a reference."""
    by_system: dict[str, dict[str, Record]] = {}
    for record in records:
        if record["error"] is None and scorable(record):
            by_system.setdefault(record["system"], {})[record["id"]] = record
    direct, cascade = (by_system.get(system, {}) for system in COMPARED)
    seen = {
        row: evidence(_hypothesis(direct[row]), _hypothesis(cascade[row]))
        for row in direct
        if row in cascade and None not in (direct[row]["score"], cascade[row]["score"])
    }
    judged: Judged = {}
    for system in MODES:
        rows = [row for row in by_system.get(system, {}) if row in seen]
        if rows:
            made = by_system[system]
            quality = [chrf(made[row]["hypothesis"], made[row]["reference"]) for row in rows]
            judged[system] = np.array([seen[row] for row in rows]), np.array(quality)
    return judged


def fit(features: np.ndarray, quality: np.ndarray) -> list[float]:
    """Weights of a logistic regression by Newton's method; fractions as labels (Papke and Wooldridge 1996).

    Args:
        features: [N, K], the first of them 1.
        quality: [N], from 0 to 1.
    """
    penalty = np.diag(PENALTY)
    weights = np.zeros(features.shape[1])
    for _ in range(100):
        expected = 1 / (1 + np.exp(-features @ weights))
        slope = features.T @ (quality - expected) - penalty @ weights
        curvature = (features.T * (expected * (1 - expected))) @ features + penalty
        step = np.linalg.solve(curvature, slope)
        weights += step
        if np.abs(step).max() < 1e-9:
            return [float(weight) for weight in weights]
    raise ComSLError(f"the weights of {', '.join(EVIDENCE)} did not settle: are the rows of the manifest all alike?")


def one_model(scores: dict[str, Any]) -> bool:
    """Whether the model under evaluation plays both parts of the cascade."""
    return all(scores.get(role) in (None, scores["model"]) for role in ("cascade_asr", "cascade_mt"))


def _hypothesis(record: Record) -> Hypothesis:
    return Hypothesis(record["hypothesis"], record["score"])
