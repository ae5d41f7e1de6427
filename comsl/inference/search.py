"""Greedy and beam search: the hypotheses of transformers' own searches, at a fraction of the work.

Both give what ``model.generate`` gives with ``early_stopping=False``, and the log-probability of each hypothesis for
nothing. What makes the difference: hypotheses of an utterance share its memory and their common past
(``comsl.model.steps``), utterances that are done leave the batch, each ends at its own limit, and the vocabulary is
read twice a step, for the log-normaliser and for the best tokens.

Shapes: B utterances, K beams, N tokens, V text vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from comsl.model.steps import DecoderSteps

NORMALISED_AT_ONCE = 1 << 21
"""Logits whose exponentials are in memory at once, 8 MiB: larger buffers are returned to the system and cost more to
get anew, page by page, than to fill."""


@dataclass
class Found:
    """A finished hypothesis."""

    tokens: list[int]
    """The new ones, the end included where there is one."""
    log_probability: float
    """Sum over the tokens, natural."""


def greedy_search(steps: DecoderSteps, prompt: Tensor, limits: Sequence[int], end: int) -> list[Found]:
    """The likeliest token, again and again.

    Args:
        steps: fresh, of B utterances.
        prompt: [B, N].
        limits: most new tokens of each utterance, at least 1.
        end: the token that ends a hypothesis.
    """
    found = [Found([], 0.0) for _ in limits]
    rows = list(range(len(found)))
    hidden = steps.prefill(prompt)
    while True:
        logits = steps.logits(hidden[:, 0])
        best, tokens = logits.max(-1)
        scores = (best - _log_normaliser(logits)).tolist()
        del logits
        for row, token, score in zip(rows, tokens.tolist(), scores, strict=True):
            found[row].tokens.append(token)
            found[row].log_probability += score
        going = [
            place
            for place, row in enumerate(rows)
            if found[row].tokens[-1] != end and len(found[row].tokens) < limits[row]
        ]
        if not going:
            return found
        if len(going) < len(rows):
            rows = [rows[place] for place in going]
            chosen = torch.tensor(going, device=tokens.device)
            steps.keep(chosen)
            tokens = tokens[chosen]
        hidden = steps.step(tokens[:, None], torch.zeros_like(tokens[:, None]))


@dataclass
class _Utterance:
    """The beams of one utterance."""

    limit: int
    beams: int
    length_penalty: float
    running: list[Found] = field(default_factory=lambda: [Found([], 0.0)])
    finished: list[tuple[float, Found]] = field(default_factory=list)
    """The best K so far, best first, with the score that ranks them."""

    def advance(self, candidates: list[tuple[float, int, int]], end: int) -> list[int]:
        """Go on with the best 2 K of all continuations as (log-probability, beam, token), best first.

        Returns the beam that each new one comes from; none when the search is over.
        """
        length = len(self.running[0].tokens) + 1
        running: list[Found] = []
        parents: list[int] = []
        for rank, (total, beam, token) in enumerate(candidates):
            hypothesis = Found([*self.running[beam].tokens, token], total)
            if token != end and length < self.limit:
                if len(running) < self.beams:
                    running.append(hypothesis)
                    parents.append(beam)
            elif rank < self.beams:  # what ends among the others would not have been looked at
                self.finished.append((total / length**self.length_penalty, hypothesis))
        self.finished.sort(key=lambda entry: -entry[0])
        del self.finished[self.beams :]
        self.running = running
        full = len(self.finished) == self.beams
        if not running or (full and running[0].log_probability / length**self.length_penalty <= self.finished[-1][0]):
            return []
        return parents


def beam_search(
    steps: DecoderSteps, prompt: Tensor, limits: Sequence[int], end: int, beams: int, length_penalty: float = 1.0
) -> list[list[Found]]:
    """The hypotheses of the best log-probability / length ** ``length_penalty`` that ``beams`` beams find: as many of
    each utterance as beams, best first.

    An utterance is done when it has as many finished hypotheses as beams and its best running one, at its present
    length, is no better than the worst of them; or at its limit, where what runs counts as finished.

    Args:
        steps, prompt, limits, end: as of ``greedy_search``.
    """
    utterances = [_Utterance(limit, beams, length_penalty) for limit in limits]
    rows = list(range(len(utterances)))
    hidden = steps.prefill(prompt)
    totals = torch.zeros(len(rows), 1, device=hidden.device)
    while True:
        best, beam, tokens = _best(steps.logits(hidden), totals, 2 * beams)
        going, parents = [], []
        candidates = zip(best.tolist(), beam.tolist(), tokens.tolist(), strict=True)
        for place, (row, three) in enumerate(zip(rows, candidates, strict=True)):
            continued = utterances[row].advance(list(zip(*three, strict=True)), end)
            if continued:
                going.append(place)
                parents.append(continued)
        if not going:
            return [[each for _, each in utterance.finished] for utterance in utterances]
        if len(going) < len(rows):
            rows = [rows[place] for place in going]
            steps.keep(torch.tensor(going, device=hidden.device))
        running = [utterances[row].running for row in rows]
        totals = torch.tensor([[each.log_probability for each in beams] for beams in running], device=hidden.device)
        tokens = torch.tensor([[each.tokens[-1] for each in beams] for beams in running], device=hidden.device)
        hidden = steps.step(tokens, torch.tensor(parents, device=hidden.device))


def _best(logits: Tensor, totals: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The ``count`` best continuations of each utterance, best first: log-probability, beam and token, each [B, count].

    Args:
        logits: [B, K, V].
        totals: [B, K], log-probability of each beam so far.
    """
    best, tokens = logits.topk(count)  # of each beam: no utterance can take more from it
    best = best + (totals - _log_normaliser(logits))[..., None]
    best, places = best.flatten(1).topk(count)
    return best, places // count, tokens.flatten(1).gather(1, places)


def _log_normaliser(logits: Tensor) -> Tensor:
    """logsumexp over the vocabulary, [...] of [..., V]."""
    rows = logits.flatten(0, -2)
    pieces = rows.split(max(1, NORMALISED_AT_ONCE // rows.shape[1]))
    return torch.cat([piece.logsumexp(-1) for piece in pieces]).view(logits.shape[:-1])
