"""A run's train_log.jsonl: one JSON object a line, in order of steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from comsl.files import write_atomically


def read_log(path: Path) -> list[dict[str, Any]]:
    """All complete records; a line that a killed process left half-written is dropped."""
    records = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(record, dict) and "step" in record:
                records.append(record)
    return records


def truncate_log(path: Path, step: int) -> None:
    """Forget every record after ``step``."""
    records = [record for record in read_log(path) if record["step"] <= step]
    write_atomically(path, "".join(json.dumps(record) + "\n" for record in records))
