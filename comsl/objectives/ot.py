"""Optimal transport from speech to its transcript, both as the text encoder leaves them (not in the paper)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from comsl.objectives.base import UTTERANCES, Objective, Reads, Term

if TYPE_CHECKING:
    from comsl.objectives.views import Packed, Views


@dataclass
class OT(Objective):
    """Entropic optimal transport (Cuturi, 2013) between the two sequences, as "CTC meets optimal transport" (Le et al.,
    ICML 2023) pulls speech and text together: what is said at its positions should be found in the transcript, in the
    same order.

    Moving a speech position to a text position costs 1 - their cosine similarity, and ``position`` times the difference
    of their places in the utterance (0..1). Every position of a sequence has the same share. The distance is the cost
    of the plan that is best with an entropy's bonus, averaged over utterances; the plan is worked out without gradient,
    which, once the iterations have converged, is that of the regularised distance.
    """

    weight: float = 0.3
    position: float = 1.0
    """What moving from one end of an utterance to the other costs beside the dissimilarity (0..2)."""
    regularisation: float = 0.05
    """Entropy's weight against the cost: the smaller, the sharper the plan, and the more iterations it wants."""
    iterations: int = 30
    """Of Sinkhorn's algorithm."""

    name = "ot"

    def reads(self) -> Reads:
        return Reads(transport=True)

    def terms(self, views: Views) -> Iterator[Term]:
        speech, text = views.sides
        inside = speech.spans.inside, text.spans.inside
        with torch.autocast(speech.states.device.type, enabled=False):
            cost = costs(speech, text, self.position)
            plan = transport_plan(cost, *inside, self.regularisation, int(self.iterations))
            distance = (plan * cost).sum()
        yield Term("ot", self.weight, distance, UTTERANCES)


def costs(speech: Packed, text: Packed, position: float) -> Tensor:
    """[B, S, L]: of moving each of S speech positions to each of L text positions; in float32 at least."""
    exact = torch.promote_types(speech.states.dtype, torch.float32)
    from_, to = (side.spans.padded(F.normalize(side.states.to(exact), dim=-1)) for side in (speech, text))
    places = [
        torch.arange(side.spans.longest, device=from_.device) / (side.spans.lengths[:, None] - 1).clamp_min(1)
        for side in (speech, text)
    ]
    apart = (places[0][:, :, None] - places[1][:, None]).abs()
    return 1 - from_ @ to.transpose(1, 2) + position * apart.to(from_.dtype)


@torch.no_grad()
def transport_plan(cost: Tensor, rows: Tensor, columns: Tensor, regularisation: float, iterations: int) -> Tensor:
    """Plan [B, S, L] by Sinkhorn's iterations in logarithms; all mass of an utterance is 1, nothing goes elsewhere.

    Args:
        cost: [B, S, L].
        rows, columns: [B, S] and [B, L], True at true positions.
    """
    nothing = torch.finfo(cost.dtype).min / 4  # a logarithm of zero that can be added to
    rates = -cost / regularisation
    rates = rates.masked_fill(~(rows[:, :, None] & columns[:, None]), nothing)
    row_mass, column_mass = (-side.sum(1, keepdim=True).to(cost.dtype).log() for side in (rows, columns))
    to_column = torch.zeros_like(cost[:, 0])
    for _ in range(iterations):
        to_row = row_mass - (rates + to_column[:, None]).logsumexp(2)
        to_column = column_mass - (rates + to_row[:, :, None].masked_fill(~rows[:, :, None], nothing)).logsumexp(1)
        to_column = to_column.masked_fill(~columns, 0.0)
    to_row = to_row.masked_fill(~rows, 0.0)
    return (rates + to_row[:, :, None] + to_column[:, None]).exp()
