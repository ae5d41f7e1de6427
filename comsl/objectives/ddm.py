"""DDM, decoder distribution matching: what is said from speech should be what is said from text.

The cross-entropy of the speech-to-text distribution to the text-to-text distribution of the same, live model at the
same target position, the latter detached. It takes the share ``share`` (a in the paper) of the weight of every
objective that translates from speech: ST, and the translation part of STM.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comsl.objectives.base import Memory, Objective, ObjectiveError, Pair, Reads, Target, Term

if TYPE_CHECKING:
    from comsl.objectives.views import Views

TEACHER: Pair = (Memory.TEXT, Target.TRANSLATION)
STUDENTS: dict[str, Pair] = {
    "st": (Memory.SPEECH, Target.TRANSLATION),
    "stm": (Memory.MIXED_SPEECH, Target.TRANSLATION),
}
"""Objective -> its pair that learns from the text-to-text distribution."""


@dataclass
class DDM(Objective):
    """Distribution matching for the objectives that translate from speech; needs at least one of ST and STM."""

    share: float = 0.8
    """a: the part of ST's and STM's weight that goes to matching instead of cross-entropy, between 0 and 1."""

    name = "ddm"

    def connect(self, active: Mapping[str, Objective]) -> None:
        if not active.keys() & STUDENTS.keys():
            raise ObjectiveError("objectives.ddm shares the weight of st and stm: switch one of them on, or ddm off")
        self._students = {name: active[name].weight for name in STUDENTS if name in active}  # type: ignore[attr-defined]

    def reads(self) -> Reads:
        return Reads(matches=frozenset((STUDENTS[name], TEACHER) for name in self._students))

    def terms(self, views: Views) -> Iterator[Term]:
        for name, weight in self._students.items():
            match = views.match[STUDENTS[name], TEACHER]
            yield Term(f"ddm_{name}", weight * self.share, match, Target.TRANSLATION.value)


def cross_entropy_share(active: Mapping[str, Objective]) -> float:
    """What distribution matching leaves to the cross-entropy of an objective that translates from speech."""
    ddm = active.get(DDM.name)
    return 1 - ddm.share if isinstance(ddm, DDM) else 1.0
