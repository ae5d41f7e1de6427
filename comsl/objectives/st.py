"""ST: the translation from speech. With distribution matching on, its cross-entropy keeps the share DDM leaves it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comsl.objectives.base import Memory, Objective, Reads, Target, Term
from comsl.objectives.ddm import cross_entropy_share

if TYPE_CHECKING:
    from comsl.objectives.views import Views

PAIR = (Memory.SPEECH, Target.TRANSLATION)


@dataclass
class ST(Objective):
    """(1 - a) cross-entropy of the translation given encoded speech; the rest is :mod:`comsl.objectives.ddm`."""

    weight: float = 0.35
    label_smoothing: float = 0.0

    name = "st"

    def connect(self, active: Mapping[str, Objective]) -> None:
        self._share = cross_entropy_share(active)

    def reads(self) -> Reads:
        return Reads(cross_entropies={PAIR: self.label_smoothing})

    def terms(self, views: Views) -> Iterator[Term]:
        yield Term("st", self.weight * self._share, views.cross_entropy[PAIR], Target.TRANSLATION.value)
