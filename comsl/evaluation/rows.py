"""The rows that are evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from comsl.data.audio import audio_duration, load_clip
from comsl.data.manifest import load_manifest, manifest_files
from comsl.errors import ComSLError, UsageError
from comsl.evaluation.metrics import pair_name
from comsl.evaluation.records import Record
from comsl.inference import MODES
from comsl.progress import track

Manifest = str | Path | Sequence[str | Path]
"""Path of a manifest, or of several whose rows follow each other; patterns, too."""


class ManifestRows:
    """The rows of one or several manifests without their audio, which is read when it is needed."""

    def __init__(self, manifest: Manifest) -> None:
        paths = manifest_paths(manifest)
        self.paths = [str(path) for path in paths]
        self.name = ", ".join(self.paths)
        self._dataset = load_manifest(paths if len(paths) > 1 else paths[0])
        self.rows: list[Record] = self._dataset.remove_columns(["audio"]).to_list()
        if not self.rows:
            raise ComSLError(f"{self.name}: the manifest has no rows")
        self._place = {row["id"]: place for place, row in enumerate(self.rows)}

    def waveform(self, row: Record) -> np.ndarray:
        return load_clip(self._audio(row))

    def read_durations(self) -> None:
        """Take durations that the manifest lacks from the audio; None stays where there is none to read."""
        missing = [row for row in self.rows if row["duration"] is None]
        for row in track(missing, description="lengths of clips", unit="clips") if missing else ():
            with suppress(ComSLError):  # why it cannot be read is told when it is to be decoded
                row["duration"] = audio_duration(self._audio(row))

    def _audio(self, row: Record) -> str | bytes:
        audio: str | bytes | None = self._dataset[self._place[row["id"]]]["audio"]
        if audio is None:
            raise ComSLError(f"row {row['id']}: no audio")
        return audio

    def check(self, systems: Sequence[str], task: str) -> None:
        """UsageError for what no row at all can give: that is a wrong command, not a bad row."""
        # Durations first: looking at the audio itself reads it where the manifest holds it as bytes.
        silent = all(row["duration"] is None for row in self.rows) and not any(self._dataset["audio"])
        if silent and set(MODES) & set(systems):
            raise UsageError(f"{self.name}: no row has audio; only the system text can be evaluated on it")
        if task != "transcribe" and all(row["translation"] is None for row in self.rows):
            raise UsageError(f"{self.name}: no row has a translation to score against; evaluate the task transcribe")
        if all(row["transcript"] is None for row in self.rows):
            if task == "transcribe":
                raise UsageError(f"{self.name}: no row has a transcript to score against; evaluate the task translate")
            if "text" in systems:
                raise UsageError(f"{self.name}: no row has a transcript, so leave out the system text")

    def counts(self) -> dict[str, Any]:
        return {
            "rows": len(self.rows),
            "rows_without_transcript": sum(row["transcript"] is None for row in self.rows),
            "rows_without_duration": sum(row["duration"] is None for row in self.rows),
            "audio_seconds": round(sum(row["duration"] or 0.0 for row in self.rows), 3),
        }

    def unscorable(self, task: str) -> list[dict[str, str]]:
        """Rows that lack what the task is scored against, in the form of ``Evaluation.failed``."""
        field = "transcript" if task == "transcribe" else "translation"
        reason = f"the row has no {field} to score against"
        return [{"id": row["id"], "system": "all", "error": reason} for row in self.rows if row[field] is None]


class TrainingRows:
    """What an evaluation asks of training manifests. Their rows stay on disk."""

    def __init__(self, manifest: Manifest) -> None:
        paths = manifest_paths(manifest)
        self.paths = [str(path) for path in paths]
        columns = ["source_language", "target_language", "transcript", "translation", "duration"]
        dataset = load_manifest(paths if len(paths) > 1 else paths[0])
        self._table: pa.Table = dataset.data.table.select(columns)

    def amounts(self) -> dict[str, dict[str, Any]]:
        """By direction ("de-en") ``{"rows", "seconds", "rows_without_duration"}``."""
        sums = self._table.group_by(["source_language", "target_language"]).aggregate(
            [("duration", "sum"), ("duration", "count"), ([], "count_all")]
        )
        return {
            pair_name(group["source_language"], group["target_language"]): {
                "rows": group["count_all"],
                "seconds": round(group["duration_sum"] or 0.0, 3),
                "rows_without_duration": group["count_all"] - group["duration_count"],
            }
            for group in sums.to_pylist()
            if group["target_language"] is not None
        }

    def translations(self) -> set[str]:
        """All that there are, in whatever language."""
        return set(pc.unique(self._table["translation"]).drop_null().to_pylist())

    def sentences(self, source_language: str, target_language: str) -> tuple[list[str], list[str]]:
        """Transcripts and translations of one direction, of the rows that have both."""
        of = pc.and_(
            pc.equal(self._table["source_language"], source_language),
            pc.equal(self._table["target_language"], target_language),
        )
        found = self._table.filter(of).select(["transcript", "translation"]).drop_null()
        return found["transcript"].to_pylist(), found["translation"].to_pylist()


def manifest_paths(manifest: Manifest | None) -> list[Path]:
    """The files themselves, in their order, where patterns name them; ManifestError where that are none."""
    return [] if manifest is None else manifest_files(manifest)
