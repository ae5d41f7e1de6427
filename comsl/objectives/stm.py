"""STM, speech-to-text mapping: transcript and translation from the speech part of [masked transcript ; speech]."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comsl.objectives.base import Memory, Objective, Reads, Target, Term
from comsl.objectives.ddm import cross_entropy_share

if TYPE_CHECKING:
    from comsl.objectives.views import Views

TO_TRANSCRIPT = (Memory.MIXED_SPEECH, Target.TRANSCRIPT)
TO_TRANSLATION = (Memory.MIXED_SPEECH, Target.TRANSLATION)


@dataclass
class STM(Objective):
    """Cross-entropies of transcript and of translation; the weight is that of each of the two."""

    weight: float = 0.1 / 3
    label_smoothing: float = 0.0

    name = "stm"

    def connect(self, active: Mapping[str, Objective]) -> None:
        self._share = cross_entropy_share(active)

    def reads(self) -> Reads:
        return Reads(cross_entropies={TO_TRANSCRIPT: self.label_smoothing, TO_TRANSLATION: self.label_smoothing})

    def terms(self, views: Views) -> Iterator[Term]:
        yield Term("stm_asr", self.weight, views.cross_entropy[TO_TRANSCRIPT], Target.TRANSCRIPT.value)
        weight = self.weight * self._share
        yield Term("stm_st", weight, views.cross_entropy[TO_TRANSLATION], Target.TRANSLATION.value)
