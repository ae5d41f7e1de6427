"""What an evaluation leaves on disk: ``hypotheses.jsonl`` (one object a row and system) and ``scores.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from comsl.errors import ComSLError, UsageError
from comsl.files import replacing, sync, write_atomically

HYPOTHESES = "hypotheses.jsonl"
SCORES = "scores.json"
STATE = "state.json"
ATTENTION = "attention.png"
REPORT = "report.html"
TABLE = "table.md"

Record = dict[str, Any]
"""One row of one system, with these fields:

    id, system, source_language, target_language
    source                 the reference transcript, None where the manifest has none
    hypothesis             the translation, "" where the row failed; None where no translation was asked for
    reference              the raw reference translation, None where the manifest has none
    truncated              whether the hypothesis was cut at its limit of tokens
    transcript_hypothesis  what the system heard, where it made a transcript; else None
    transcript_truncated   whether that was cut at its limit of tokens
    score                  mean log-probability of a token of the hypothesis; None where there is none
    duration               seconds of speech, None where unknown
    segments               into how many segments the clip was cut, 0 where no speech was found in it; None where it was
                           decoded whole or not at all
    error                  why the row failed; None where it did not
"""

FIELDS = (
    "id",
    "system",
    "source_language",
    "target_language",
    "source",
    "hypothesis",
    "reference",
    "truncated",
    "transcript_hypothesis",
    "transcript_truncated",
    "score",
    "duration",
    "segments",
    "error",
)

SCORED = ("rows", "task", "lowercase", "decoding", "systems", "transcription", "failed")
"""Fields of scores.json that readers rely on."""


class RecordLog:
    """Records on disk as they come, so that an interrupted evaluation can go on.

    The log belongs to ``settings``: it is continued only by an evaluation with equal ones (and records of the same
    fields) and begun anew otherwise.
    Rows that failed are not taken over (their cause may have been mended).

    Args:
        folder: of the evaluation.
        settings: everything the records depend on; None never continues.
    """

    def __init__(self, folder: Path, settings: dict[str, Any] | None) -> None:
        self.folder, self.settings = folder, settings
        self.records: dict[tuple[str, str], Record] = {}
        self.seconds: dict[str, float] = {}
        """Seconds of decoding by system, those of interrupted runs included."""
        self.longest_whole: dict[str, float] = {}
        """Seconds of the longest clip decoded whole, by system; written with the next records."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SCORES).unlink(missing_ok=True)  # nobody shall take for finished what is not
        state = _read_state(folder / STATE)
        same = state.get("settings") == json.loads(json.dumps(settings)) and state.get("fields") == list(FIELDS)
        if settings is not None and same:
            kept = [record for record in _lines(folder / HYPOTHESES, torn=True) if record["error"] is None]
            self.records = {(record["id"], record["system"]): record for record in kept}
            self.seconds = dict(state["seconds"])
            self.longest_whole = dict(state["longest_whole"])
        self._rewrite(self.records.values())
        self._write_state()

    def append(self, records: Iterable[Record], system: str, seconds: float) -> None:
        """Add records and how long they took; on disk when this returns."""
        with (self.folder / HYPOTHESES).open("a", encoding="utf-8") as file:
            for record in records:
                self.records[record["id"], record["system"]] = record
                file.write(_line(record))
        self.seconds[system] = self.seconds.get(system, 0.0) + seconds
        self._write_state()

    def finish(self, ids: Iterable[str], systems: Iterable[str]) -> list[Record]:
        """Put the file in its final order (systems, then rows as the manifest has them), and nothing else in it.

        The look-up leaves out the rows of directions that it has no floor for.
        """
        ids = list(ids)
        places = [(row_id, system) for system in systems for row_id in ids]
        ordered = [self.records[place] for place in places if place in self.records]
        self._rewrite(ordered)
        return ordered

    def _rewrite(self, records: Iterable[Record]) -> None:
        with replacing(self.folder / HYPOTHESES) as temporary:
            with temporary.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(map(_line, records))
            sync(temporary)
        sync(self.folder)

    def _write_state(self) -> None:
        progress = {"seconds": self.seconds, "longest_whole": self.longest_whole}
        write_json(self.folder / STATE, {"settings": self.settings, "fields": FIELDS, **progress})


def read_records(folder: str | Path) -> list[Record]:
    """The records of an evaluation.

    Raises:
        UsageError: the folder holds no evaluation.
        ComSLError: a line is not a record, named by its number.
    """
    path = Path(folder) / HYPOTHESES
    if not path.is_file():
        raise UsageError(f"{folder} holds no evaluation ({HYPOTHESES} is missing): make one with comsl evaluate")
    return _lines(path)


def read_scores(folder: str | Path) -> dict[str, Any]:
    """``scores.json`` of a finished evaluation; errors as of ``read_records``, and ComSLError for another file of that
    name."""
    path = Path(folder) / SCORES
    if not path.is_file():
        raise UsageError(f"{folder} holds no finished evaluation ({SCORES} is missing): run comsl evaluate again")
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ComSLError(f"{path} is not JSON ({error}): run comsl evaluate again") from error
    missing = [field for field in SCORED if not isinstance(scores, dict) or field not in scores]
    if missing:
        raise ComSLError(f"{path} was not written by comsl evaluate (it has no {', '.join(missing)})")
    found: dict[str, Any] = scores
    return found


def grouped_failures(failed: Iterable[dict[str, str]]) -> list[tuple[str, str, str]]:
    """(id, systems, error) of rows that could not be done: systems that failed for the same reason share an entry, and
    every error is one line."""
    groups: dict[tuple[str, str], list[str]] = {}
    for failure in failed:
        groups.setdefault((failure["id"], " ".join(failure["error"].split())), []).append(failure["system"])
    return [(row_id, ", ".join(systems), error) for (row_id, error), systems in groups.items()]


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def _line(record: Record) -> str:
    return json.dumps({field: record[field] for field in FIELDS}, ensure_ascii=False) + "\n"


def _lines(path: Path, torn: bool = False) -> list[Record]:
    """``torn``: a last line that a killed process left unfinished is no error."""
    if torn and not path.is_file():
        return []
    records = []
    # Only "\n" ends a line: a hypothesis may hold U+2028, which JSON leaves as it is.
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        lines = (line for line in file if line.strip())
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                records.append({field: record[field] for field in FIELDS})
            except (ValueError, KeyError, TypeError) as error:
                if torn and next(lines, None) is None:
                    break
                problem = f"not a hypothesis record ({error}): run comsl evaluate again"
                raise ComSLError(f"{path}, line {number}: {problem}") from error
    return records


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) and isinstance(state.get("seconds"), dict) else {}
