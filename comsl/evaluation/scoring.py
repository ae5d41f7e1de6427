"""Records -> the scores of every system, direction and level, as ``scores.json`` holds them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from comsl.evaluation.metrics import (
    BOOTSTRAP_SAMPLES,
    TRANSLATION_METRICS,
    MetricScore,
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
    sets: Mapping[str, Iterable[Record]], *, lowercase: bool = False, n_bootstrap: int = BOOTSTRAP_SAMPLES
) -> dict[str, dict[str, Any]]:
    """Scores of sets of records, one a system, with progress on stderr.

    Returns:
        By name of the set ``{"pairs": {"de-en": Scores as a dict, with "truncated" and "failed"}, "averages": {"bleu":
        {"high": ...}, "chrf": ...}}``; rows without a reference or for which no translation was asked are not in it.
    """
    groups = {
        (name, pair): rows
        for name, records in sets.items()
        for pair, rows in _grouped((record for record in records if scorable(record)), direction)
    }
    jobs = [(*key, kind) for key in groups for kind in TRANSLATION_METRICS]
    found: dict[tuple[str, str], dict[str, MetricScore]] = {}
    for name, pair, kind in track(jobs, description="scoring", unit="scores"):
        rows = groups[name, pair]
        metric = translation_metric(kind, rows[0]["target_language"], lowercase)
        hypotheses, references = [row["hypothesis"] for row in rows], [row["reference"] for row in rows]
        found.setdefault((name, pair), {})[kind] = metric_score(metric, hypotheses, references, n_bootstrap)
    scores: dict[str, dict[str, Any]] = {name: {"pairs": {}} for name in sets}
    for (name, pair), metrics in found.items():
        rows = groups[name, pair]
        result = Scores(**metrics, rows=len(rows), empty=count_empty([row["hypothesis"] for row in rows]))
        truncated = sum(row["truncated"] for row in rows)
        scores[name]["pairs"][pair] = {**result.to_dict(), "truncated": truncated, "failed": _failed(rows)}
    for result_of in scores.values():
        result_of["averages"] = {
            kind: averages({pair: values[kind]["score"] for pair, values in result_of["pairs"].items()})
            for kind in TRANSLATION_METRICS
        }
    return scores


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


def unseen_rows(records: Iterable[Record], training_translations: Collection[str]) -> list[Record]:
    """The records whose reference does not stand, word for word, among the training translations."""
    known = {translation.strip() for translation in training_translations}
    return [
        record for record in records if record["reference"] is not None and record["reference"].strip() not in known
    ]


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
