"""ASR: the transcript from speech (paper section 3.3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comsl.objectives.base import Memory, Objective, Reads, Target, Term

if TYPE_CHECKING:
    from comsl.objectives.views import Views

PAIR = (Memory.SPEECH, Target.TRANSCRIPT)


@dataclass
class ASR(Objective):
    """Cross-entropy of the transcript given encoded speech."""

    weight: float = 0.35
    label_smoothing: float = 0.0

    name = "asr"

    def reads(self) -> Reads:
        return Reads(cross_entropies={PAIR: self.label_smoothing})

    def terms(self, views: Views) -> Iterator[Term]:
        yield Term("asr", self.weight, views.cross_entropy[PAIR], Target.TRANSCRIPT.value)
