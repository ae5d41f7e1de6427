"""R-Drop (Liang et al., 2021): the same input under two draws of dropout should be answered alike (not in the paper).

No second modality is in it, and a step costs twice as much: the control for what plain consistency training brings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comsl.objectives import asr, mt, st
from comsl.objectives.base import Objective, ObjectiveError, Pair, Reads, Term

if TYPE_CHECKING:
    from comsl.objectives.views import Views

PAIRS: dict[str, Pair] = {"asr": asr.PAIR, "st": st.PAIR, "mt": mt.PAIR}
"""Objective -> its pair whose two answers are compared."""


@dataclass
class RDrop(Objective):
    """Symmetric Kullback-Leibler divergence, (KL(p || q) + KL(q || p)) / 2, of two passes with dropout.

    Needs at least one of ASR, ST and MT. Every batch then goes through the whole model twice, and all other objectives
    are means of both passes. The published loss adds the cross-entropies of both passes and 5 times the divergence;
    against their mean that is 2.5.
    """

    weight: float = 2.5
    """Of the divergence against the cross-entropy of the same objective, which has that objective's own weight."""

    name = "rdrop"

    def connect(self, active: Mapping[str, Objective]) -> None:
        if not active.keys() & PAIRS.keys():
            raise ObjectiveError(f"objectives.rdrop goes with {', '.join(PAIRS)}: switch one of them on, or rdrop off")
        self._weights = {name: active[name].weight for name in PAIRS if name in active}  # type: ignore[attr-defined]

    def reads(self) -> Reads:
        return Reads(divergences=frozenset(PAIRS[name] for name in self._weights))

    def terms(self, views: Views) -> Iterator[Term]:
        for name, weight in self._weights.items():
            pair = PAIRS[name]
            yield Term(f"rdrop_{name}", self.weight * weight, views.divergence[pair], pair[1].value)
