"""MT: the translation from the transcript, held near a frozen text model so that it is not forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comsl.objectives.base import Memory, Objective, Reads, Target, Term

if TYPE_CHECKING:
    from comsl.objectives.views import Views

PAIR = (Memory.TEXT, Target.TRANSLATION)


@dataclass
class MT(Objective):
    """(1 - b) cross-entropy of the translation given encoded text + b cross-entropy to the frozen teacher."""

    weight: float = 0.2
    teacher_share: float = 0.2
    """b: 0 trains without a teacher (none is loaded)."""
    label_smoothing: float = 0.0

    name = "mt"

    def reads(self) -> Reads:
        return Reads(
            cross_entropies={PAIR: self.label_smoothing},
            frozen_matches=frozenset([PAIR]) if self.teacher_share else frozenset(),
        )

    def terms(self, views: Views) -> Iterator[Term]:
        count = Target.TRANSLATION.value
        yield Term("mt", self.weight * (1 - self.teacher_share), views.cross_entropy[PAIR], count)
        if self.teacher_share:
            yield Term("mt_teacher", self.weight * self.teacher_share, views.frozen_match[PAIR], count)
