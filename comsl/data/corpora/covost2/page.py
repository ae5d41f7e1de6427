"""The audit of a direction as JSON, as a page to read, and the list of all rows that failed."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from comsl.data.corpora.audit import LOSSES, NOT_IN_RELEASE, OUTLIER, Limits
from comsl.data.corpora.covost2.published import RELEASE, published_size
from comsl.files import replacing, write_atomically
from comsl.languages import get_language

Audits = Mapping[str, dict[str, Any]]
"""Pair ("fr_en") -> what ``read_audit`` returns."""

_EXAMPLES = 3
"""Failing rows that the page shows of a pair and kind."""


def write_audit(
    out: Path, direction: str, audits: Audits, errors: Sequence[str], limits: Limits, partial: bool
) -> Path:
    """Write ``failed-<direction>.jsonl``, ``audit-<direction>.json`` and ``.md``; returns the last, the page."""
    failed = out / f"failed-{direction}.jsonl"
    with replacing(failed) as temporary, temporary.open("wb") as whole:
        for pair in audits:
            with (out / pair / "failed.jsonl").open("rb") as part:
                shutil.copyfileobj(part, whole)
    for audit in audits.values():
        _add_published(audit)
    lost, short = losses(audits, partial)
    summary = {
        "direction": direction,
        "limits": asdict(limits),
        "partial": partial,
        "rows_lost_or_failing": lost,
        "rows_short_of_published": short,
        "errors": list(errors),
        "pairs": audits,
    }
    write_atomically(out / f"audit-{direction}.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    page = out / f"audit-{direction}.md"
    write_atomically(page, "\n".join(_page(summary, _examples(failed))) + "\n")
    return page


def losses(audits: Audits, partial: bool) -> tuple[int, int]:
    """Rows that are lost or fail; and, unless ``partial``, rows of the published corpus that were not found at all."""
    lost = short = 0
    for _, _, counts in _splits(audits):
        lost += sum(counts["losses"].values())
        if not partial:
            short += max(0, counts["published_rows"] - counts["rows"] - counts["losses"].get(NOT_IN_RELEASE, 0))
    return lost, short


def _splits(audits: Audits) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for pair, audit in audits.items():
        for split, counts in audit["splits"].items():
            yield pair, split, counts


def _add_published(audit: dict[str, Any]) -> None:
    for split, counts in audit["splits"].items():
        size = published_size(audit["source_language"], audit["target_language"], split)
        counts["published_rows"], counts["published_hours"] = size.rows, size.hours


def _examples(failed: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Pair and kind -> its first failures."""
    first: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with failed.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            shown = first.setdefault((row["id"].split("/")[1], row["kind"]), [])
            if len(shown) < _EXAMPLES:
                shown.append(row)
    return first


# ------------------------------------------------------------------------------------------------------------ the page


def _page(summary: dict[str, Any], examples: dict[tuple[str, str], list[dict[str, Any]]]) -> Iterator[str]:
    audits: Audits = summary["pairs"]
    direction = summary["direction"]
    yield f"# CoVoST 2, {direction}: what is there and what is not\n"
    yield from _verdict(summary)
    yield "\n## Rows\n"
    yield (
        "`rows` are those of CoVoST 2's own split procedure, `manifest` those that were written. A row whose clip or"
        " text cannot be used is left out of train and dev; in test it stays, so that evaluation counts it as failed."
        f" {_published_note(summary['partial'])}\n"
    )
    kinds = [kind for kind in LOSSES if any(kind in counts["losses"] for _, _, counts in _splits(audits))]
    columns = _columns(kinds, summary["partial"])
    yield from _table(
        ["pair", "split", *columns],
        ([pair, split, *(cell(counts) for cell in columns.values())] for pair, split, counts in _splits(audits)),
    )
    yield ""
    for kind in kinds:
        yield f"* {kind}: {LOSSES[kind]}"
    yield from _outlier_note(summary)
    yield "\n## Shared with train\n"
    yield (
        "Rows of dev and test whose transcript, translation or both are those of some training row (letters and digits"
        " alone, without case), and their speakers that train has too.\n"
    )
    yield from _table(
        ["pair", "split", "transcripts", "translations", "both", "speakers"],
        (
            [pair, split, *(f"{number:,}" for number in shared.values())]
            for pair, audit in audits.items()
            for split, shared in audit["shared_with_train"].items()
        ),
    )
    yield from _others(audits)
    if examples:
        yield f"\n## First failures\n\nAll of them: `failed-{direction}.jsonl`.\n"
        for (pair, kind), rows in examples.items():
            yield from (f"* {pair} {row['split']}, {kind}: `{row['id']}`: {row['reason']}" for row in rows)


def _verdict(summary: dict[str, Any]) -> Iterator[str]:
    lost, short = summary["rows_lost_or_failing"], summary["rows_short_of_published"]
    yield f"* {lost:,} rows are lost, or stay in test and fail" if lost else "* no row is lost"
    test = [counts["losses"] for _, split, counts in _splits(summary["pairs"]) if split == "test"]
    absent = sum(kinds.get(NOT_IN_RELEASE, 0) for kinds in test)
    failing = sum(sum(kinds.values()) for kinds in test) - absent
    if failing or absent:
        yield f"* of the test rows {failing:,} stay in the manifests and fail, {absent:,} are in no manifest"
    if short:
        yield f"* {short:,} rows that the published corpus has were not found at all"
    for error in summary["errors"]:
        yield f"* not prepared: {error}"


def _published_note(partial: bool) -> str:
    if partial:
        return "A part, or a look-alike, of the corpus: not compared with the published sizes."
    return f"Published: the corpus over {RELEASE} (sources: `comsl/data/corpora/covost2/published.py`)."


def _columns(kinds: Sequence[str], partial: bool) -> dict[str, Callable[[dict[str, Any]], str]]:
    """Header -> cell of a split's counts."""
    published: dict[str, Callable[[dict[str, Any]], str]] = {
        "published rows": lambda counts: f"{counts['published_rows']:,}",
        "published hours": lambda counts: f"{counts['published_hours']:g}",
    }
    return {
        "rows": lambda counts: f"{counts['rows']:,}",
        "manifest": lambda counts: f"{counts['written']:,}",
        "hours": lambda counts: f"{counts['hours']:.2f}",
        **({} if partial else published),
        **{kind: functools.partial(_losses_of, kind) for kind in kinds},
        "outliers": lambda counts: f"{counts['outliers']:,}",
        "repeated clips": lambda counts: f"{counts['repeated']:,}",
    }


def _losses_of(kind: str, counts: dict[str, Any]) -> str:
    return f"{counts['losses'].get(kind, 0):,}"


def _outlier_note(summary: dict[str, Any]) -> Iterator[str]:
    score = summary["limits"]["outlier_score"]
    yield (
        f"* {OUTLIER}s stay in the manifests: clips whose duration is more than {score:g} robust standard deviations"
        " from what the length of the transcript lets expect (a line fitted to each pair by medians)"
    )


def _others(audits: Audits) -> Iterator[str]:
    for pair, audit in audits.items():
        others = audit["in_no_split"]
        if others:
            marks = ", ".join(f"{mark or '(empty)'} {rows:,}" for mark, rows in others.items())
            yield f"\n{pair}: rows that CoVoST 2 marks as in none of the three splits: {marks}."
        name = get_language(audit["source_language"]).name
        if audit["duration_fit"] is None:
            yield f"\n{pair}: too few clips to tell outliers in the duration of {name} speech."


def _table(header: Sequence[str], rows: Iterator[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'|'.join(['---'] * 2 + ['---:'] * (len(header) - 2))}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
