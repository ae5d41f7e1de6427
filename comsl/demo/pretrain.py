"""`comsl demo --pretrain`: make everything that ships with the package, the two pretrained parts and the composite."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from comsl.errors import UsageError
from comsl.provenance import git_commit, versions

from . import PARTS

MODELS = Path(__file__).parent / "models"


def pretrain(
    out: Path = MODELS, parts: Sequence[str] = PARTS, seed: int = 1, work: Path = Path("demo-out/pretrain")
) -> dict[str, dict]:
    """Train the named parts and save them to `out`/<part>.

    Args:
        out: directory of the parts; the default is the package itself. A part is replaced when the new one is ready.
        parts: of "speech", "text", "composite"; the composite is made of the two others in `out`.
        seed: of everything random.
        work: directory for what is only needed on the way (speech, checkpoints).

    Returns:
        The training log of each part, which also lies in its folder.
    """
    unknown = set(parts) - set(PARTS)
    if unknown:
        raise UsageError(f"unknown part {sorted(unknown)[0]!r}: use {', '.join(PARTS)}")
    logs = {}
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    for part in (part for part in PARTS if part in parts):
        if part == "speech":
            from .pretrain_speech import pretrain_speech

            log = pretrain_speech(work / part, seed=seed, cache=work / "features.npz")
        elif part == "text":
            from .pretrain_text import pretrain_text

            log = pretrain_text(work / part, seed=seed)
        else:
            from .pretrain_composite import pretrain_composite

            log = pretrain_composite(work / part, out, work, seed=seed)
        logs[part] = log | {"versions": versions(), "commit": git_commit(), "threads": torch.get_num_threads()}
        (work / part / "training_log.json").write_text(json.dumps(logs[part], indent=1) + "\n")
        _replace(work / part, out / part)
    return logs


def _replace(made: Path, place: Path) -> None:
    """Put a copy of `made` in the place of what is there."""
    fresh, old = (place.with_name(f".{place.name}.{word}") for word in ("new", "old"))
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(made, fresh)
    if place.exists():
        place.rename(old)
    fresh.rename(place)
    shutil.rmtree(old, ignore_errors=True)
