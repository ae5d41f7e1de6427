"""`comsl demo --pretrain`: make everything that ships with the package, the two pretrained parts and the composite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from comsl.errors import UsageError

MODELS = Path(__file__).parent / "models"
PARTS = ("speech", "text", "composite")


def pretrain(
    out: Path = MODELS, parts: Sequence[str] = PARTS, seed: int = 1, work: Path = Path("demo-out/pretrain")
) -> dict[str, dict]:
    """Train the named parts and save them to `out`/<part>.

    Args:
        out: directory of the parts; the default is the package itself.
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
    work.mkdir(parents=True, exist_ok=True)
    for part in (part for part in PARTS if part in parts):
        if part == "speech":
            from .pretrain_speech import pretrain_speech

            logs[part] = pretrain_speech(out / part, seed=seed, cache=work / "features.npz")
        elif part == "text":
            from .pretrain_text import pretrain_text

            logs[part] = pretrain_text(out / part, seed=seed)
        else:
            from .pretrain_composite import pretrain_composite

            logs[part] = pretrain_composite(out / part, out, work, seed=seed)
    return logs
