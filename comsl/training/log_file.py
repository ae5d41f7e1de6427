"""A run's train_log.jsonl: one JSON object a line, in order of steps."""

from __future__ import annotations

import json
from pathlib import Path

from comsl.evaluation.curves import read_log
from comsl.files import write_atomically


def truncate_log(path: Path, step: int) -> None:
    """Forget every record after ``step``."""
    records = [record for record in read_log(path) if record["step"] <= step]
    write_atomically(path, "".join(json.dumps(record) + "\n" for record in records))
