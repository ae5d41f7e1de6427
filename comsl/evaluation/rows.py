"""The rows that are evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from comsl.data.audio import audio_duration, load_clip
from comsl.data.manifest import load_manifest
from comsl.errors import ComSLError, UsageError
from comsl.evaluation.records import Record
from comsl.progress import track

Manifest = str | Path | Sequence[str | Path]
"""Path of a manifest, or of several whose rows follow each other."""


class ManifestRows:
    """The rows of one or several manifests without their audio, which is read when it is needed."""

    def __init__(self, manifest: Manifest) -> None:
        paths = manifest_paths(manifest)
        self.name = ", ".join(str(path) for path in paths)
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
        if silent and {"direct", "cascade"} & set(systems):
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


def manifest_paths(manifest: Manifest | None) -> list[str | Path]:
    if manifest is None:
        return []
    return [manifest] if isinstance(manifest, str | Path) else list(manifest)
