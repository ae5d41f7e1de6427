"""ERM, encoder representation matching: speech should look alike with and without its transcript beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from comsl.objectives.base import SPEECH_POSITIONS, Objective, Reads, Term

if TYPE_CHECKING:
    from comsl.objectives.views import Views


@dataclass
class ERM(Objective):
    """Distance of the hidden states at the speech positions, alone and inside the mixed input.

    Each state is scaled to unit length; the distance is the L2 norm, not its square; gradients flow into both sides;
    the language embedding's position counts. In the paper the weight (0.1 x 0.2) stands before a sum over frames; with
    counts of their own, frames and tokens are both means.
    """

    weight: float = 0.02
    layer: int = 4
    """After which text-encoder layer (1 = the first layer's output)."""

    name = "erm"

    def reads(self) -> Reads:
        return Reads(layers=frozenset([self.layer]))

    def terms(self, views: Views) -> Iterator[Term]:
        alone, mixed = (
            states / states.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(states.dtype).tiny)
            for states in views.layers[self.layer]
        )
        assert views.shares is not None  # where layers are read
        yield Term("erm", self.weight, (views.shares * (alone - mixed).norm(dim=-1)).sum(), SPEECH_POSITIONS)
