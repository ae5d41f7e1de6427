"""What an interrupted training of the speech part goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from comsl.files import replacing


class Snapshot:
    """Everything that changes in a training loop, in one file that is replaced whole.

    Args:
        path: of the file.
        settings: of the training; a file that was written with others is left alone until it is replaced.
        parts: by name, what has ``state_dict`` and ``load_state_dict`` (model, optimizer, schedule).
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], **parts: Any) -> None:
        self.path, self.settings, self.parts = path, dict(settings), parts

    def save(self, **progress: Any) -> None:
        """Write the parts, torch's random state and ``progress``, which holds plain values only."""
        states = {name: part.state_dict() for name, part in self.parts.items()}
        content = {"settings": self.settings, "states": states, "random": torch.get_rng_state(), "progress": progress}
        with replacing(self.path) as temporary:
            torch.save(content, temporary)

    def restore(self) -> dict[str, Any] | None:
        """Put the parts back and return what ``save`` was given; None where there is nothing to go on from."""
        if not self.path.is_file():
            return None
        content = torch.load(self.path, weights_only=True)
        if content["settings"] != self.settings:
            return None
        for name, part in self.parts.items():
            part.load_state_dict(content["states"][name])
        torch.set_rng_state(content["random"])
        progress: dict[str, Any] = content["progress"]
        return progress
