"""Are two systems different, or is it luck? A paired bootstrap over the same rows.

The test is sacreBLEU's (Moses' script): rows are drawn with replacement, both systems are scored on the same draw, and
p is the share of draws whose difference, centred, exceeds the real one. Its p of two nearly equal systems is about 0.4
rather than 1; two systems with the very same outputs get 1 here, where sacreBLEU would report its smallest value. A
small p is that of one side: for "do they differ, whichever is better", double it (``comsl.study`` asks both sides).

Over several directions, each is one more chance to find a difference that is none: ``p_holm`` is p after Holm's
step-down correction over the directions of one metric. The macro-average, the number that papers print, is tested
as it is computed: rows are drawn within each direction, and the mean over directions is taken of every draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text
from sacrebleu.metrics.base import Metric

from comsl.errors import ComSLError, UsageError
from comsl.evaluation.bootstrap import (
    SEED,
    Counts,
    Floats,
    corpus_score,
    interval,
    p_value,
    resample_together,
    scores_of,
    signature,
)
from comsl.evaluation.metrics import BOOTSTRAP_SAMPLES, TRANSLATION_METRICS, bleu_tokenizer, translation_metric
from comsl.evaluation.notes import some
from comsl.evaluation.records import SCORES, Record, read_records, read_scores, write_json
from comsl.evaluation.scoring import count_rows, direction, scorable
from comsl.progress import track

OVERALL = "all rows"
MACRO = "mean of directions"
LEAST_ROWS = 20
"""Below it the resamples are so alike that the test calls every difference significant."""
LEVEL = 0.05
"""Below it a p gets its star."""


class ComparisonError(ComSLError):
    """Two evaluations that are not about the same rows."""


@dataclass(frozen=True)
class MetricComparison:
    """One metric of two systems on the same rows.

    Attributes:
        a, b: scores, 0 to 100.
        a_ci, b_ci: half the width of their 95% intervals.
        p: of the null hypothesis that they do not differ; None for fewer than ``LEAST_ROWS`` rows.
        p_holm: the same after Holm's correction over the directions that have a p; None where there is nothing to
            correct for (a single direction, or a score over all of them).
    """

    a: float
    b: float
    a_ci: float
    b_ci: float
    p: float | None
    signature: str
    p_holm: float | None = None

    @property
    def difference(self) -> float:
        return self.b - self.a


@dataclass(frozen=True)
class Comparison:
    """Two systems compared: ``pairs`` by translation direction, each ``{"bleu": ..., "chrf": ...}``.

    ``macro`` is the mean over directions, None where there is only one; without p where one has too few rows for it.
    ``overall`` pools the rows of all directions, so that large test sets weigh more; None where they are scored with
    different tokenisers.
    """

    a: str
    b: str
    rows: dict[str, int]
    pairs: dict[str, dict[str, MetricComparison]]
    overall: dict[str, MetricComparison] | None
    macro: dict[str, MetricComparison] | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def write(self, path: str | Path) -> None:
        """As JSON; missing folders are made. ComSLError if it cannot be written."""
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, self.to_dict())
        except OSError as error:
            raise ComSLError(f"{path}: cannot be written ({error.strerror or error})") from error

    def render(self) -> Group:
        """A table for the terminal, with the signatures below; ``report.show`` prints it."""
        table = Table(title=f"{self.b} against {self.a}", title_justify="left")
        corrected = any(metric.p_holm is not None for metrics in self.pairs.values() for metric in metrics.values())
        for name in ("direction", "rows", "metric", "a", "b", "b - a", "p", *(["p (Holm)"] if corrected else [])):
            table.add_column(name, justify="left" if name in ("direction", "metric") else "right", no_wrap=True)
        lines = list(self.pairs.items())
        if len(self.pairs) > 1:
            lines += [(name, found) for name, found in ((MACRO, self.macro), (OVERALL, self.overall)) if found]
        for name, metrics in lines:
            rows = str(self.rows.get(name, sum(self.rows.values())))
            table.add_row(name, rows, "BLEU", *_cells(metrics["bleu"], corrected))
            table.add_row("", "", "chrF++", *_cells(metrics["chrf"], corrected))
        signatures = dict.fromkeys(m.signature for _, metrics in lines for m in metrics.values())
        notes = [f"a: {self.a}", f"b: {self.b}", *signatures, f"*: p < {LEVEL} (paired bootstrap; ±: 95% interval)"]
        if corrected:
            notes.append("Holm: corrected for the number of directions, each metric on its own")
        if self.macro is not None:
            notes.append(f"{MACRO}: rows are drawn within each direction, which all weigh the same")
        if any(metric.p is None for _, metrics in lines for metric in metrics.values()):
            notes.append(f"-: fewer than {LEAST_ROWS} rows, too few for a test")
        return Group(table, *(Text(note, style="dim") for note in notes))


def _cells(metric: MetricComparison, corrected: bool) -> list[str]:
    cells = [
        f"{metric.a:.1f} ± {metric.a_ci:.1f}",
        f"{metric.b:.1f} ± {metric.b_ci:.1f}",
        f"{metric.difference:+.1f}",
        _starred(metric.p),
    ]
    return [*cells, "" if metric.p_holm is None else _starred(metric.p_holm)] if corrected else cells


def _starred(p: float | None) -> str:
    return "-" if p is None else f"{p:.3f}{'*' if p < LEVEL else ' '}"


def compare(
    a: str | Path,
    b: str | Path,
    system: str = "direct",
    system_b: str | None = None,
    *,
    n_samples: int = BOOTSTRAP_SAMPLES,
) -> Comparison:
    """Compare a system of one evaluation with a system of another (or of the same).

    Args:
        a, b: folders that ``evaluate`` or ``score`` wrote, or folders of such folders (one a direction, for example).
        system: name of the system in both ("direct", "cascade", "text", "lookup").
        system_b: name of the system in ``b``, where it differs.
        n_samples: bootstrap resamples.

    Raises:
        ComparisonError: the folders do not hold the same rows, or not the same references, or differ in lower-casing.
        UsageError: a folder holds no finished evaluation, or lacks the system.
    """
    lowercase = {bool(read_scores(folder)["lowercase"]) for side in (a, b) for folder in evaluations(side)}
    if len(lowercase) > 1:
        raise ComparisonError(
            f"{a} and {b}: one was scored with case and the other without; evaluate one of them again"
        )
    rows_a, rows_b = _rows(a, system), _rows(b, system_b or system)
    check_aligned(rows_a, rows_b, str(a), str(b))
    name_a, name_b = f"{a} ({system})", f"{b} ({system_b or system})"
    return compare_rows(rows_a, rows_b, name_a, name_b, lowercase=lowercase.pop(), n_samples=n_samples)


def compare_rows(
    rows_a: Mapping[str, Record],
    rows_b: Mapping[str, Record],
    name_a: str,
    name_b: str,
    *,
    lowercase: bool = False,
    n_samples: int = BOOTSTRAP_SAMPLES,
) -> Comparison:
    """Compare two sets of scored rows by id; they must be aligned (``check_aligned``)."""
    groups: dict[str, list[str]] = {}
    for row_id, row in rows_a.items():
        groups.setdefault(direction(row), []).append(row_id)
    sides = {name: [[rows[row_id] for row_id in ids] for rows in (rows_a, rows_b)] for name, ids in groups.items()}
    counts: dict[str, dict[str, list[Counts]]] = {}
    pairs: dict[str, dict[str, MetricComparison]] = {}
    for name in track(sides, description="bootstrap", unit="directions"):
        counts[name] = count_rows(sides[name], lowercase)
        pairs[name] = _compare_counts(counts[name], _metrics(name, lowercase), n_samples)
    rows = {name: len(ids) for name, ids in groups.items()}
    if len(groups) == 1:
        return Comparison(name_a, name_b, rows, pairs, next(iter(pairs.values())))
    overall = None
    if len({bleu_tokenizer(name.split("-")[1]) for name in groups}) == 1:
        pooled = {
            kind: [np.vstack([counts[name][kind][side] for name in groups]) for side in (0, 1)]
            for kind in TRANSLATION_METRICS
        }
        overall = _compare_counts(pooled, _metrics(next(iter(groups)), lowercase), n_samples)
    drawn_together = strata({name: rows for name, (rows, _) in sides.items()})
    macro = _compare_means(counts, drawn_together, pairs, lowercase, n_samples)
    return Comparison(name_a, name_b, rows, _corrected(pairs), overall, macro)


def _metrics(name: str, lowercase: bool) -> dict[str, Metric]:
    return {kind: translation_metric(kind, name.split("-")[1], lowercase) for kind in TRANSLATION_METRICS}


def _compare_counts(
    counts: Mapping[str, Sequence[Counts]], metrics: Mapping[str, Metric], n_samples: int
) -> dict[str, MetricComparison]:
    """Both metrics of two systems, from the counts of their rows."""
    drawn = _resampled(counts, metrics, n_samples, SEED)
    found = {}
    for kind, metric in metrics.items():
        a, b = counts[kind]
        scores = corpus_score(metric, a.sum(0).tolist()), corpus_score(metric, b.sum(0).tolist())
        found[kind] = _comparison(scores, drawn[kind], np.array_equal(a, b), signature(metric, n_samples))
        if len(a) < LEAST_ROWS:
            found[kind] = replace(found[kind], p=None)
    return found


def _resampled(
    counts: Mapping[str, Sequence[Counts]], metrics: Mapping[str, Metric], n_samples: int, seed: int | Sequence[int]
) -> dict[str, list[Floats]]:
    """Scores of the resamples, [S], of both systems, by metric: all of them from the same draws."""
    drawn = iter(resample_together([part for kind in metrics for part in counts[kind]], n_samples, seed))
    return {kind: [scores_of(metric, next(drawn)) for _ in counts[kind]] for kind, metric in metrics.items()}


def _comparison(scores: tuple[float, float], drawn: Sequence[Floats], equal: bool, how: str) -> MetricComparison:
    a, b = scores
    p = 1.0 if equal else p_value(drawn[0], drawn[1], b - a)
    return MetricComparison(a, b, interval(drawn[0]), interval(drawn[1]), p, how)


def strata(groups: Mapping[str, Sequence[Record]]) -> dict[str, int]:
    """By group of rows (a direction, say), the number of its draws. Groups of the very same sentences share them, as
    their rows are not independent: those with the same transcripts (CoVoST 2 from English) or with the same references
    (one test set in several languages into English), row by row."""
    numbers: dict[tuple[str, ...], int] = {}
    found: dict[str, int] = {}
    for name, rows in groups.items():
        keys = [(field, *(row[field] or f"{name} {row['id']}" for row in rows)) for field in ("source", "reference")]
        known = [numbers[key] for key in keys if key in numbers]
        found[name] = known[0] if known else len(found)
        for key in keys:
            numbers.setdefault(key, found[name])
    return found


def _compare_means(
    counts: Mapping[str, Mapping[str, Sequence[Counts]]],
    strata: Mapping[str, int],
    pairs: Mapping[str, Mapping[str, MetricComparison]],
    lowercase: bool,
    n_samples: int,
) -> dict[str, MetricComparison]:
    """The mean over directions (macro-average) of both metrics, by a bootstrap that is stratified by direction."""
    every = [_resampled(counts[name], _metrics(name, lowercase), n_samples, (SEED, strata[name])) for name in counts]
    found = {}
    for kind in TRANSLATION_METRICS:
        drawn = [np.mean([resampled[kind][side] for resampled in every], axis=0) for side in (0, 1)]
        of = [metrics[kind] for metrics in pairs.values()]
        scores = float(np.mean([metric.a for metric in of])), float(np.mean([metric.b for metric in of]))
        equal = all(np.array_equal(a, b) for a, b in (counts[name][kind] for name in counts))
        signatures = " and ".join(dict.fromkeys(metric.signature for metric in of))
        found[kind] = _comparison(scores, drawn, equal, signatures)
        if any(metric.p is None for metric in of):
            found[kind] = replace(found[kind], p=None)
    return found


def _corrected(pairs: Mapping[str, Mapping[str, MetricComparison]]) -> dict[str, dict[str, MetricComparison]]:
    """With ``p_holm``, metric by metric over the directions that have a p."""
    found = {name: dict(metrics) for name, metrics in pairs.items()}
    for kind in TRANSLATION_METRICS:
        tested = {name: metrics[kind].p for name, metrics in pairs.items()}
        corrected = holm({name: p for name, p in tested.items() if p is not None})
        for name, p in corrected.items():
            found[name][kind] = replace(found[name][kind], p_holm=p)
    return found


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's (1979) step-down correction: the k-th smallest of m p-values times m - k + 1, never less than the one
    before it nor more than 1. Below a level it rejects what keeps the chance of any false rejection below that level.
    """
    ordered = sorted(p_values, key=lambda name: p_values[name])
    corrected, least = {}, 0.0
    for place, name in enumerate(ordered):
        least = max(least, min(1.0, (len(ordered) - place) * p_values[name]))
        corrected[name] = least
    return {name: corrected[name] for name in p_values}


def check_aligned(rows_a: Mapping[str, Record], rows_b: Mapping[str, Record], name_a: str, name_b: str) -> None:
    """ComparisonError, naming ids, unless both sides have the same rows with the same languages and references."""
    for here, there, name, other in ((rows_a, rows_b, name_a, name_b), (rows_b, rows_a, name_b, name_a)):
        missing = [row_id for row_id in here if row_id not in there]
        if missing:
            raise ComparisonError(f"{len(missing)} rows of {name} are missing in {other}: {some(missing)}")
    for field in ("reference", "source_language", "target_language"):
        differing = [row_id for row_id in rows_a if rows_a[row_id][field] != rows_b[row_id][field]]
        if differing:
            raise ComparisonError(
                f"{name_a} and {name_b} differ in the {field} of {len(differing)} rows: {some(differing)}"
            )


def evaluations(folder: str | Path) -> list[Path]:
    """The folder itself, or the evaluations that lie side by side in it (one a direction, for example)."""
    folder = Path(folder)
    if (folder / SCORES).is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"*/{SCORES}")) or [folder]


def _rows(folder: str | Path, system: str) -> dict[str, Record]:
    records = [record for part in evaluations(folder) for record in read_records(part) if scorable(record)]
    of = [record for record in records if record["system"] == system]
    rows = {record["id"]: record for record in of}
    if not rows:
        systems = sorted({record["system"] for record in records})
        raise UsageError(
            f"{folder} holds no scored rows of the system {system!r}: it has {', '.join(systems) or 'none'}"
        )
    if len(rows) < len(of):
        raise ComparisonError(f"{folder}: {len(of) - len(rows)} rows occur in more than one of its evaluations")
    return rows
