"""Records -> the scores of every system, direction and level, as ``scores.json`` holds them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from comsl.evaluation.bootstrap import Counts, resample_together, row_counts
from comsl.evaluation.metrics import (
    BOOTSTRAP_SAMPLES,
    TRANSLATION_METRICS,
    Scores,
    averages,
    count_empty,
    metric_score,
    pair_name,
    translation_metric,
    word_error_rate,
)
from comsl.evaluation.records import Record
from comsl.languages import get_language
from comsl.progress import track


def translation_scores(
    systems: Mapping[str, Iterable[Record]],
    training_translations: Collection[str] = (),
    *,
    lowercase: bool = False,
    n_bootstrap: int = BOOTSTRAP_SAMPLES,
) -> dict[str, dict[str, Any]]:
    """Scores of the records of systems, with progress on stderr.

    Args:
        training_translations: where a reference stands among them word for word, its row is no part of ``unseen``.

    Returns:
        By system ``{"pairs": {"de-en": Scores as a dict, with "truncated" and "failed"}, "averages": {"bleu": {"high":
        ...}, "chrf": ...}}``, and the same again as "unseen" over the rows whose reference is not in training, where
        these are some but not all. Rows without a reference or for which no translation was asked are not in it.
    """
    known = {translation.strip() for translation in training_translations}
    groups = _by_direction(systems)
    whole: dict[str, dict[str, Any]] = {system: {} for system in systems}
    unseen: dict[str, dict[str, Any]] = {system: {} for system in systems}
    for name, rows_of in track(groups.items(), description="scoring", unit="directions"):
        for rows in _with_the_same_rows(rows_of):
            counts = count_rows(list(rows.values()), lowercase)
            some = next(iter(rows.values()))
            new = np.array([row["reference"].strip() not in known for row in some])
            for found, chosen in ((whole, np.ones_like(new)), (unseen, new)):
                if chosen.any():
                    parts = {kind: [part[chosen] for part in counts[kind]] for kind in counts}
                    for system, scores in _scores(rows, chosen, parts, lowercase, n_bootstrap).items():
                        found[system][name] = scores
    result = {}
    for system in systems:
        result[system] = _with_averages(whole[system])
        sizes = [sum(pair["rows"] for pair in found[system].values()) for found in (whole, unseen)]
        if known and 0 < sizes[1] < sizes[0]:
            result[system]["unseen"] = _with_averages(unseen[system])
    return result


def count_rows(systems: Sequence[Sequence[Record]], lowercase: bool) -> dict[str, list[Counts]]:
    """Counts of every row (``bootstrap``) of systems that translated the same rows, by metric."""
    references, target = [row["reference"] for row in systems[0]], systems[0][0]["target_language"]
    hypotheses = [[row["hypothesis"] for row in rows] for rows in systems]
    return {
        kind: row_counts(functools.partial(translation_metric, kind, target, lowercase), hypotheses, references)
        for kind in TRANSLATION_METRICS
    }


def _scores(
    rows_of: Mapping[str, Sequence[Record]],
    chosen: np.ndarray,
    counts: Mapping[str, Sequence[Counts]],
    lowercase: bool,
    n_bootstrap: int,
) -> dict[str, dict[str, Any]]:
    """Of one direction, by system; ``counts``, of the ``chosen`` rows [R], has the order of the systems."""
    every = [part for kind in TRANSLATION_METRICS for part in counts[kind]]
    drawn = iter(resample_together(every, n_bootstrap)) if n_bootstrap > 1 else None
    target = next(iter(rows_of.values()))[0]["target_language"]
    metrics: dict[str, dict[str, Any]] = {system: {} for system in rows_of}
    for kind in TRANSLATION_METRICS:
        metric = translation_metric(kind, target, lowercase)
        for system, part in zip(rows_of, counts[kind], strict=True):
            metrics[system][kind] = metric_score(metric, part, None if drawn is None else next(drawn))
    found = {}
    for system, every_row in rows_of.items():
        rows = [row for row, is_chosen in zip(every_row, chosen, strict=True) if is_chosen]
        result = Scores(**metrics[system], rows=len(rows), empty=count_empty([row["hypothesis"] for row in rows]))
        found[system] = {
            **result.to_dict(),
            "truncated": sum(row["truncated"] for row in rows),
            "failed": _failed(rows),
        }
    return found


def _by_direction(systems: Mapping[str, Iterable[Record]]) -> dict[str, dict[str, list[Record]]]:
    groups: dict[str, dict[str, list[Record]]] = {}
    for system, records in systems.items():
        for name, rows in _grouped(filter(scorable, records), direction):
            groups.setdefault(name, {})[system] = rows
    return groups


def _with_the_same_rows(rows_of: Mapping[str, list[Record]]) -> list[dict[str, list[Record]]]:
    """Systems that share their rows (as a rule, all of a direction) are counted and resampled together."""
    groups: dict[tuple[str, ...], dict[str, list[Record]]] = {}
    for system, rows in rows_of.items():
        groups.setdefault(tuple(row["id"] for row in rows), {})[system] = rows
    return list(groups.values())


def _with_averages(pairs: dict[str, Any]) -> dict[str, Any]:
    means = {
        kind: averages({name: pair[kind]["score"] for name, pair in pairs.items()}) for kind in TRANSLATION_METRICS
    }
    return {"pairs": pairs, "averages": means}


def transcription_scores(records: Iterable[Record], *, normaliser: str = "basic") -> dict[str, Any]:
    """Error rates of one system's transcripts, in the shape of ``translation_scores`` but by language ("de");
    rows without a reference transcript or for which no transcript was made are not in it."""
    pairs = {}
    heard = (row for row in records if row["source"] is not None and row["transcript_hypothesis"] is not None)
    for name, rows in _grouped(heard, lambda row: get_language(row["source_language"]).code):
        hypotheses, references = [row["transcript_hypothesis"] for row in rows], [row["source"] for row in rows]
        rates = word_error_rate(hypotheses, references, rows[0]["source_language"], normaliser=normaliser)
        truncated = sum(row["transcript_truncated"] for row in rows)
        pairs[name] = {**rates.to_dict(), "truncated": truncated, "failed": _failed(rows)}
    metrics = {key: averages({name: pair[key] for name, pair in pairs.items()}) for key in ("wer", "cer")}
    return {"pairs": pairs, "averages": metrics}


def scorable(record: Record) -> bool:
    """Whether there is a translation and something to score it against."""
    return all(record[field] is not None for field in ("reference", "hypothesis", "target_language"))


def direction(record: Record) -> str:
    """ "de-en"."""
    return pair_name(record["source_language"], record["target_language"])


def _grouped(records: Iterable[Record], key: Callable[[Record], str]) -> list[tuple[str, list[Record]]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return list(groups.items())


def _failed(rows: Iterable[Record]) -> int:
    return sum(row["error"] is not None for row in rows)
