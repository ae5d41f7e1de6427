"""`comsl demo --pretrain`: make the small pretrained parts that ship with the package."""

from __future__ import annotations

from pathlib import Path

MODELS = Path(__file__).parent / "models"


def pretrain(out: Path = MODELS, parts: tuple[str, ...] = ("speech", "text"), seed: int = 1) -> dict[str, dict]:
    """Train the named parts and save them to `out`/<part>; returns their training logs."""
    logs = {}
    for part in parts:
        if part == "speech":
            from .pretrain_speech import pretrain_speech

            logs[part] = pretrain_speech(out / part, seed=seed)
        else:
            from .pretrain_text import pretrain_text

            logs[part] = pretrain_text(out / part, seed=seed)
    return logs
