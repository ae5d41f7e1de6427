"""An evaluation's transcripts as training rows: what a system heard, beside the reference translations.

The text side of a cascade reads what its speech side writes, mistakes and all; tuned on true transcripts alone it has
never seen one. ``comsl evaluate --task transcribe`` over training clips makes the transcripts (and says how far they
are from the true ones, which for clips that the model was trained on is nearer than for any others).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from comsl.data.manifest import write_manifest
from comsl.errors import UsageError
from comsl.evaluation.records import Record, read_records, read_scores
from comsl.progress import console

SYSTEMS = ("direct", "cascade")
"""Those that hear clips."""
REASONS = {
    "failed": "the clip could not be decoded",
    "no_translation": "the row has no reference translation",
    "empty": "nothing was heard",
}
"""Why a record is left out, in the order in which the reasons are looked for."""


def heard(folder: str | Path, out: str | Path, system: str | None = None) -> dict[str, int]:
    """Write text-only rows (transcript: what was heard; translation: the reference) of an evaluation's records.

    Args:
        folder: what ``evaluate`` wrote, with the task "transcribe" or "both".
        out: the manifest.
        system: "direct" or "cascade"; None: the first of them that heard something.

    Returns:
        ``{"rows": written, "truncated": of these, cut at their limit of tokens}``, as the text side will have to read
        them too; and for each of ``REASONS`` how many were left out for it.

    Raises:
        UsageError: no finished evaluation, or none of a system that heard anything.
    """
    model = read_scores(folder).get("model") or folder
    records = [record for record in read_records(folder) if record["transcript_hypothesis"] is not None]
    there = {record["system"] for record in records}
    chosen = next((name for name in ([system] if system else SYSTEMS) if name in there), None)
    if chosen is None:
        wanted = f"the system {system!r}" if system else "a system that hears clips"
        raise UsageError(f"{folder} holds no transcripts of {wanted}: run comsl evaluate --task transcribe")
    counts: Counter[str] = Counter(rows=0)

    def rows() -> Iterator[dict[str, Any]]:
        for record in records:
            if record["system"] == chosen:
                reason = _reason(record)
                counts[reason or "rows"] += 1
                if reason is None:
                    counts["truncated"] += record["transcript_truncated"]
                    yield _row(record, f"heard by {model} ({chosen})")

    write_manifest(rows(), out)
    left_out = "; ".join(f"{counts[name]} left out: {text}" for name, text in REASONS.items() if counts[name])
    said = f"{out}: {counts['rows']} rows, {counts['truncated']} of them cut at their limit of tokens"
    console.print(said + (f"; {left_out}" if left_out else ""), soft_wrap=True, markup=False)
    return {name: counts[name] for name in ("rows", "truncated", *REASONS)}


def _reason(record: Record) -> str | None:
    if record["error"] is not None:
        return "failed"
    if record["reference"] is None or record["target_language"] is None:
        return "no_translation"
    return None if record["transcript_hypothesis"].strip() else "empty"


def _row(record: Record, provenance: str) -> dict[str, Any]:
    return {
        "id": f"{record['id']}/heard",
        "source_language": record["source_language"],
        "target_language": record["target_language"],
        "transcript": record["transcript_hypothesis"],
        "translation": record["reference"],
        "split": "train",
        "provenance": provenance,
    }
