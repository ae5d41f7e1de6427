"""Transcribed rows in; rows with the translations of a text model, and the counts of what was left out, out."""

from __future__ import annotations

import functools
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text

from comsl.data.held_out import HeldOut
from comsl.data.manifest import write_manifest
from comsl.errors import ComSLError, UsageError
from comsl.evaluation.records import write_json
from comsl.evaluation.report import show
from comsl.evaluation.settings import stamp
from comsl.evaluation.systems import ModelDecoder, load_decoder
from comsl.files import replacing, sha256_of_files
from comsl.inference import Precision
from comsl.inference.decode import DecodingOptions
from comsl.provenance import git_commit, versions
from comsl.pseudo_labels.filters import REASONS, Filters, LanguageIdentifier
from comsl.pseudo_labels.shards import SHARD_ROWS, Row, Shards, digest, translate
from comsl.training.distributed import rank

REPORT = "pseudo-label.json"
LEFT_OUT = "left-out.jsonl"
MANIFEST = "train.jsonl"
TRANSLATIONS = "translations"

Source = Mapping[str, Callable[[], Iterator[Row]]]
"""Language -> its transcribed rows, the same ones at every call: those fields of a manifest row that are known."""


@dataclass(frozen=True)
class Labelling:
    """What pseudo-labels are made with and from.

    Args:
        model: a ComSL model whose text part translates: its directory, a run directory or a hub id.
        held_out: what must not be labelled.
        described: where rows and held-out sentences come from, for the report.
        target: language to translate into.
    """

    model: str
    held_out: HeldOut
    described: Mapping[str, Any]
    target: str = "en"
    options: DecodingOptions = DecodingOptions()
    filters: Filters = Filters()
    device: str | None = None
    precision: Precision | None = None
    shard_rows: int = SHARD_ROWS


def pseudo_label(source: Source, labelling: Labelling, out: Path) -> dict[str, Any] | None:
    """Translate what has no translation and write ``<source>_<target>/train.jsonl`` and ``left-out.jsonl``, and
    ``pseudo-label.json`` with the counts of every filter.

    Under torchrun or accelerate launch every process calls this; the first one writes the manifests. The translations
    stay in the folder ``translations``: another filter or held-out set costs no translating.

    Returns:
        The content of ``pseudo-label.json``; None in all processes but the first.

    Raises:
        UsageError: a language that the model lacks, nothing to translate, or a folder that holds other directions.
        ComSLError: data or a model that cannot be read.
    """
    worker = _Worker(labelling, out)
    names = [f"{language}_{labelling.target}" for language in source]
    if rank() == 0:
        _check_folder(out, names)
        (out / REPORT).unlink(missing_ok=True)
    if labelling.filters.identify_language:  # before an hour of translating, not after
        worker.identifier = LanguageIdentifier(list(source), labelling.target)
    # All folders before any translating: the other processes wait for the first one to prepare them, but not for hours.
    shards = {language: worker.shards(language, rows) for language, rows in source.items()}
    for language, rows in source.items():
        worker.translate(language, rows, shards[language])
    if rank() != 0:
        return None
    directions = {}
    for name, (language, rows) in zip(names, source.items(), strict=True):
        shards[language].wait()
        directions[name] = worker.join(rows, shards[language], out / name)
    report = worker.report(directions)
    write_json(out / REPORT, report)
    show(render(report))
    return report


class _Worker:
    def __init__(self, labelling: Labelling, out: Path) -> None:
        self.labelling, self.out = labelling, out
        self.filters, self.held_out = labelling.filters, labelling.held_out
        self.identifier: LanguageIdentifier | None = None
        self.code, self.versions = git_commit(), versions()
        path = Path(labelling.model)
        self.weights = sha256_of_files(sorted(path.glob("*.safetensors"))) if path.is_dir() else None
        decoding = asdict(labelling.options)
        self.decoding = {name: value for name, value in decoding.items() if not name.startswith("batch_")}

    @functools.cached_property
    def decoder(self) -> ModelDecoder:
        """Loaded when the first shard needs it."""
        device = self.labelling.device
        if device is None and torch.cuda.is_available():
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        decoder = load_decoder(self.labelling.model, self.labelling.options, device, self.labelling.precision)
        decoder.check_language(self.labelling.target)
        return decoder

    def shards(self, language: str, rows: Callable[[], Iterator[Row]]) -> Shards:
        """The folder of a language's translations, for these rows and settings."""
        content, total = digest(self._todo(rows))
        settings = {
            "model": stamp(self.labelling.model),
            "decoding": self.decoding,
            "precision": self.labelling.precision,
            "rows": content,
            "versions": self.versions,
            "commit": self.code,
        }
        folder = self.out / TRANSLATIONS / f"{language}_{self.labelling.target}"
        return Shards(folder, settings, total, self.labelling.shard_rows)

    def translate(self, language: str, rows: Callable[[], Iterator[Row]], shards: Shards) -> None:
        """This process's share of a language."""
        if shards.mine():
            self.decoder.check_language(language)
            target = self.labelling.target
            description = f"translating, {shards.folder.name}"
            shards.make(self._todo(rows), lambda part: translate(part, self.decoder, target), description)

    def join(self, rows: Callable[[], Iterator[Row]], shards: Shards, folder: Path) -> dict[str, Any]:
        """Write a direction's manifest and the list of what was left out of it; its counts."""
        counts = Counter(reason for _, reason in self._sorted_out(rows()) if reason is not None)
        scores: list[float] = []
        seconds = 0.0
        here = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)

        def kept() -> Iterator[Row]:
            nonlocal seconds
            for row in shards.rows():
                reason = self._reason_after(row)
                if reason is None:
                    scores.append(row["score"])
                    seconds += row["duration"] or 0.0
                    yield self._labelled(row, here, folder.name)
                    continue
                counts[reason] += 1
                told = ("transcript", "translation", "score", "detail")
                entry = {"id": row["id"], "reason": reason} | {name: row[name] for name in told if name in row}
                left_out.write(json.dumps(entry, ensure_ascii=False) + "\n")

        with replacing(folder / LEFT_OUT) as temporary, temporary.open("w", encoding="utf-8") as left_out:
            kept_rows = write_manifest(kept(), folder / MANIFEST)
        if not kept_rows:  # an empty manifest is none
            (folder / MANIFEST).unlink()
        return {
            "rows": counts.total() + kept_rows,
            "kept": kept_rows,
            "hours": round(seconds / 3600, 4),
            "left_out": {reason: counts[reason] for reason in REASONS if counts[reason]},
            "score": _distribution(scores),
        }

    def report(self, directions: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        left_out = sum((Counter(found["left_out"]) for found in directions.values()), Counter[str]())
        return {
            "model": {"name": self.labelling.model, "sha256": self.weights},
            "decoding": {**self.decoding, "precision": self.labelling.precision},
            "versions": self.versions,
            "git_commit": self.code,
            "sources": self.labelling.described,
            "held_out": self.held_out.counts(),
            "filters": {name: _finite(value) for name, value in asdict(self.filters).items()},
            "reasons": REASONS,
            "directions": directions,
            "all": {
                "rows": sum(found["rows"] for found in directions.values()),
                "kept": sum(found["kept"] for found in directions.values()),
                "hours": round(sum(found["hours"] for found in directions.values()), 4),
                "left_out": {reason: left_out[reason] for reason in REASONS if left_out[reason]},
            },
        }

    def _todo(self, rows: Callable[[], Iterator[Row]]) -> Iterator[Row]:
        return (row for row, reason in self._sorted_out(rows()) if reason is None)

    def _sorted_out(self, rows: Iterator[Row]) -> Iterator[tuple[Row, str | None]]:
        """The rows, and what can be said against each before it is translated."""
        seen: set[str] = set()
        for row in rows:
            yield row, "repeated" if row["id"] in seen else self.held_out.reason(row)
            seen.add(row["id"])

    def _reason_after(self, row: Row) -> str | None:
        if "left_out" in row:
            return str(row["left_out"])
        reason = self.filters.reason(row)
        if reason is None and self.identifier is not None and not self.identifier.is_target(row["translation"]):
            return "language"
        if reason is None and self.held_out.holds(row["translation"], row["target_language"]):
            return "leak_target"
        return reason

    def _labelled(self, row: Row, folder: Path, direction: str) -> Row:
        """The row of the manifest; the clip by its path relative to the manifest's folder."""
        options = self.labelling.options
        weights = "" if self.weights is None else f" (sha256 {self.weights[:12]})"
        made = f"comsl {self.versions['comsl']}" + ("" if self.code is None else f" at {self.code}")
        search = f"beam {options.beam}, length penalty {options.length_penalty:g}"
        provenance = f"pseudo-label: {self.labelling.model}{weights}; {search}; {made}; score {row['score']:.4f}"
        return {
            "id": f"pseudo/{direction}/{row['id']}",
            "audio": None if row["audio"] is None else os.path.relpath(row["audio"], folder),
            "duration": row["duration"],
            "source_language": row["source_language"],
            "target_language": row["target_language"],
            "transcript": row["transcript"],
            "translation": row["translation"],
            "split": "train",
            "speaker": row.get("speaker"),
            "provenance": provenance,
        }


def _check_folder(out: Path, names: Sequence[str]) -> None:
    others = sorted({path.parent.name for path in out.glob(f"*/{MANIFEST}")} - set(names))
    if others:
        raise UsageError(
            f"--out {out} holds pseudo-labels of {', '.join(others)}, which were not asked for: a pattern such as "
            f"{out}/*/{MANIFEST} would take them too; ask for them as well, or choose another folder"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ComSLError(f"--out {out}: cannot be written: {error.strerror}") from error


def _finite(value: float) -> float | None:
    """Minus infinity, which JSON does not have, as null."""
    return value if math.isfinite(value) else None


def _distribution(scores: Sequence[float]) -> dict[str, float]:
    """What helps to choose --min-score."""
    if not scores:
        return {}
    levels = {"p10": 10, "median": 50, "p90": 90}
    return {name: round(float(np.percentile(scores, level)), 4) for name, level in levels.items()}


def render(report: Mapping[str, Any]) -> Group:
    """The counts as a table: a direction a line, a reason a column."""
    directions = report["directions"]
    reasons = list(report["all"]["left_out"])
    table = Table("direction", *("rows", *reasons, "kept", "hours", "median score"), box=None)
    for name, found in [*directions.items(), *([("all", report["all"])] if len(directions) > 1 else [])]:
        median = found.get("score", {}).get("median")
        numbers = (found["rows"], *(found["left_out"].get(reason, 0) for reason in reasons), found["kept"])
        table.add_row(name, *map(str, numbers), f"{found['hours']:.1f}", "" if median is None else f"{median:.2f}")
    notes = [Text(f"{reason}: {REASONS[reason]}", style="dim") for reason in reasons]
    return Group(table, *notes)
