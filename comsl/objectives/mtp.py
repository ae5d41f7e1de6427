"""MTP, masked token prediction: the masked words of the transcript, with the speech beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comsl.objectives.base import Memory, Objective, Reads, Target, Term

if TYPE_CHECKING:
    from comsl.objectives.views import Views

PAIR = (Memory.MIXED_TEXT, Target.MASKED_TOKENS)


@dataclass
class MTP(Objective):
    """Cross-entropy of the masked transcript tokens given the text part of the encoded [masked transcript ; speech].

    The decoder reads the transcript itself; only the masked positions are scored. Which tokens are masked is decided
    where the batch is made (``data.mask_probability``).
    """

    weight: float = 0.1 / 3
    label_smoothing: float = 0.0

    name = "mtp"

    def reads(self) -> Reads:
        return Reads(cross_entropies={PAIR: self.label_smoothing})

    def terms(self, views: Views) -> Iterator[Term]:
        yield Term("mtp", self.weight, views.cross_entropy[PAIR], Target.MASKED_TOKENS.value)
