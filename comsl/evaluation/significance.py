"""Are two systems different, or is it luck? A paired bootstrap over the same rows.

The test is sacreBLEU's (Moses' script): rows are drawn with replacement, both systems are scored on the same draw, and
p is the share of draws whose difference, centred, exceeds the real one. Its p of two nearly equal systems is about 0.4
rather than 1; two systems with the very same outputs get 1 here, where sacreBLEU would report its smallest value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from rich.console import Group
from rich.table import Table
from rich.text import Text
from sacrebleu.metrics.base import Metric
from sacrebleu.significance import PairedTest

from comsl.errors import ComSLError, UsageError
from comsl.evaluation.metrics import BOOTSTRAP_SAMPLES, TRANSLATION_METRICS, bleu_tokenizer, translation_metric
from comsl.evaluation.records import Record, read_records, read_scores, write_json
from comsl.evaluation.scoring import direction, scorable
from comsl.progress import track

NAMED_IDS = 5
OVERALL = "all rows"
LEAST_ROWS = 20
"""Below it the resamples are so alike that the test calls every difference significant."""


class ComparisonError(ComSLError):
    """Two evaluations that are not about the same rows."""


@dataclass(frozen=True)
class MetricComparison:
    """One metric of two systems on the same rows; ``p`` of the null hypothesis that they do not differ, None
    for fewer than ``LEAST_ROWS`` rows."""

    a: float
    b: float
    a_ci: float
    b_ci: float
    p: float | None
    signature: str

    @property
    def difference(self) -> float:
        return self.b - self.a


@dataclass(frozen=True)
class Comparison:
    """Two systems compared: ``pairs`` by translation direction, each ``{"bleu": ..., "chrf": ...}``.

    ``overall`` pools the rows of all directions; None where they are scored with different tokenisers.
    """

    a: str
    b: str
    rows: dict[str, int]
    pairs: dict[str, dict[str, MetricComparison]]
    overall: dict[str, MetricComparison] | None

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
        for name in ("direction", "rows", "metric", "a", "b", "b - a", "p"):
            table.add_column(name, justify="left" if name in ("direction", "metric") else "right", no_wrap=True)
        lines = list(self.pairs.items())
        if self.overall is not None and len(self.pairs) > 1:
            lines.append((OVERALL, self.overall))
        for name, metrics in lines:
            rows = str(self.rows.get(name, sum(self.rows.values())))
            table.add_row(name, rows, "BLEU", *_cells(metrics["bleu"]))
            table.add_row("", "", "chrF++", *_cells(metrics["chrf"]))
        signatures = dict.fromkeys(m.signature for _, metrics in lines for m in metrics.values())
        notes = [f"a: {self.a}", f"b: {self.b}", *signatures, "*: p < 0.05 (paired bootstrap; ±: 95% interval)"]
        if any(metric.p is None for _, metrics in lines for metric in metrics.values()):
            notes.append(f"-: fewer than {LEAST_ROWS} rows, too few for a test")
        return Group(table, *(Text(note, style="dim") for note in notes))


def _cells(metric: MetricComparison) -> list[str]:
    return [
        f"{metric.a:.1f} ± {metric.a_ci:.1f}",
        f"{metric.b:.1f} ± {metric.b_ci:.1f}",
        f"{metric.difference:+.1f}",
        "-" if metric.p is None else f"{metric.p:.3f}{'*' if metric.p < 0.05 else ' '}",
    ]


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
        a, b: folders that ``evaluate`` wrote.
        system: name of the system in both ("direct", "cascade", "text", "lookup").
        system_b: name of the system in ``b``, where it differs.
        n_samples: bootstrap resamples.

    Raises:
        ComparisonError: the folders do not hold the same rows, or not the same references, or differ in lower-casing.
        UsageError: a folder holds no finished evaluation, or lacks the system.
    """
    lowercase = {bool(read_scores(folder)["lowercase"]) for folder in (a, b)}
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

    targets = {name: name.split("-")[1] for name in groups}
    rows = {name: len(ids) for name, ids in groups.items()}
    pooled = len(groups) > 1 and len({bleu_tokenizer(target) for target in targets.values()}) == 1
    if pooled:
        groups[OVERALL] = [row_id for ids in groups.values() for row_id in ids]
        targets[OVERALL] = next(iter(targets.values()))
    pairs: dict[str, dict[str, MetricComparison]] = {}
    jobs = [(name, kind) for name in groups for kind in TRANSLATION_METRICS]
    for name, kind in track(jobs, description="bootstrap", unit="scores"):
        sides = [[row[row_id]["hypothesis"] for row_id in groups[name]] for row in (rows_a, rows_b)]
        references = [rows_a[row_id]["reference"] for row_id in groups[name]]
        metric = translation_metric(kind, targets[name], lowercase)
        pairs.setdefault(name, {})[kind] = _paired_bootstrap(sides[0], sides[1], references, metric, n_samples)
    if len(groups) == 1:
        return Comparison(name_a, name_b, rows, pairs, next(iter(pairs.values())))
    overall = pairs.pop(OVERALL) if pooled else None
    return Comparison(name_a, name_b, rows, pairs, overall)


def check_aligned(rows_a: Mapping[str, Record], rows_b: Mapping[str, Record], name_a: str, name_b: str) -> None:
    """ComparisonError, naming ids, unless both sides have the same rows with the same languages and references."""
    for here, there, name, other in ((rows_a, rows_b, name_a, name_b), (rows_b, rows_a, name_b, name_a)):
        missing = [row_id for row_id in here if row_id not in there]
        if missing:
            raise ComparisonError(f"{len(missing)} rows of {name} are missing in {other}: {_ids(missing)}")
    for field in ("reference", "source_language", "target_language"):
        differing = [row_id for row_id in rows_a if rows_a[row_id][field] != rows_b[row_id][field]]
        if differing:
            raise ComparisonError(
                f"{name_a} and {name_b} differ in the {field} of {len(differing)} rows: {_ids(differing)}"
            )


def _ids(ids: Iterable[str]) -> str:
    ids = list(ids)
    return ", ".join(ids[:NAMED_IDS]) + (f" and {len(ids) - NAMED_IDS} more" if len(ids) > NAMED_IDS else "")


def _rows(folder: str | Path, system: str) -> dict[str, Record]:
    records = [record for record in read_records(folder) if scorable(record)]
    rows = {record["id"]: record for record in records if record["system"] == system}
    if not rows:
        systems = sorted({record["system"] for record in records})
        raise UsageError(
            f"{folder} holds no scored rows of the system {system!r}: it has {', '.join(systems) or 'none'}"
        )
    return rows


def _paired_bootstrap(
    hypotheses_a: list[str], hypotheses_b: list[str], references: list[str], metric: Metric, n_samples: int
) -> MetricComparison:
    systems: list[tuple[str, Sequence[str]]] = [("a", hypotheses_a), ("b", hypotheses_b)]
    signatures, results = PairedTest(systems, {"metric": metric}, [references], "bs", n_samples)()
    (key, signature), *_ = signatures.items()
    a, b = (cast(Any, result) for result in results[key])
    p = 1.0 if hypotheses_a == hypotheses_b else float(b.p_value)
    p_or_none = p if len(references) >= LEAST_ROWS else None
    return MetricComparison(float(a.score), float(b.score), float(a.ci), float(b.ci), p_or_none, str(signature))
