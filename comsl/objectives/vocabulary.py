"""Losses over a large vocabulary without ever holding its logits.

Legend: K sets of M scored positions, one for each (memory, target) pair of a target; D width, V vocabulary, C positions
of a chunk.

mBART-50 has 250,056 tokens: the float32 logits of a batch of 500 scored positions take half a gigabyte for each
(memory, target) pair, and as much again for every softmax. Here the positions go through the vocabulary in chunks;
forward keeps only the hidden states, backward computes the chunk's logits again. Cross-entropies and distribution
matching of the same positions share one set of logits: every (pair, position) passes the vocabulary once, and the
text-to-text distribution that distribution matching needs is the one that the MT loss computes anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from comsl.model.products import product
from comsl.objectives.frozen import FrozenDistribution, TopDistribution, log_probabilities

CHUNK_BYTES = 256 * 2**20
"""Upper limit for the logits of one chunk, in bytes: 268 positions at 250,000 tokens. The output layer is read and its
gradient written once a chunk; with 64 positions that takes half the time of the products."""

KINDS = 4
"""Kinds of losses: the fields of ``LossSums``."""


@dataclass(frozen=True)
class VocabularyLosses:
    """Which losses to compute over K sets of M aligned positions."""

    labels: Tensor
    """[M]: the token at each position, shared by the K sets."""
    smoothing: tuple[float, ...]
    """K label smoothing values (0.0 = the plain cross-entropy)."""
    matches: tuple[tuple[int, int], ...] = ()
    """(student, teacher) sets: cross-entropy of the student's distribution to the detached one of the teacher."""
    frozen_matches: tuple[int, ...] = ()
    """Students that are compared with the frozen distribution."""
    frozen: FrozenDistribution | TopDistribution | None = field(default=None)
    divergences: tuple[tuple[int, int], ...] = ()
    """Pairs of sets: KL(first || second) + KL(second || first), gradients into both."""


class LossSums(NamedTuple):
    """Sums over positions, in float32 (float64 for float64 input)."""

    cross_entropy: Tensor
    """[K]"""
    match: Tensor
    """[len(matches)]"""
    frozen_match: Tensor
    """[len(frozen_matches)]"""
    divergence: Tensor
    """[len(divergences)]"""


def vocabulary_losses(
    groups: Sequence[tuple[Tensor, VocabularyLosses]], weight: Tensor, bias: Tensor | None
) -> list[LossSums]:
    """Sums over positions of cross-entropies and of cross-entropies to other distributions.

    Args:
        groups: a target each: hidden [K, M, D], the decoder's output at the scored positions, one set per (memory,
            target) pair; and what to compute of them. All groups share one gradient of the weight, which at 250,000
            tokens is a gigabyte to write.
        weight: [V, D], the output embedding. bias: [V] or None.

    Returns:
        Those of each group. Gradients flow to ``hidden``, ``weight`` and ``bias``; of a match through the student
        only: a teacher's distribution is a constant, as in the published criterion.
    """
    device = weight.device.type
    if torch.is_autocast_enabled(device):
        weight = weight.to(torch.get_autocast_dtype(device))
    losses = []
    for _, group in groups:
        teachers = {teacher for _, teacher in group.matches}
        if teachers & set(dict(group.matches)):
            raise ValueError("a distribution that others are matched with cannot be matched itself")
        if group.frozen is not None:
            # The teacher's product over the vocabulary costs as much as a student's: compute it in the same precision.
            group = replace(group, frozen=group.frozen.to(weight.dtype))
        losses.append(group)
    with torch.autocast(device, enabled=False):
        sums = _VocabularyLosses.apply(weight, bias, losses, *[hidden.to(weight.dtype) for hidden, _ in groups])
    return [LossSums(*sums[i : i + KINDS]) for i in range(0, len(sums), KINDS)]


def deliver_last(weight: Tensor) -> Tensor:
    """The same weight, whose gradient arrives after those of everything that is computed from now on.

    Autograd goes backward through what was made last first. An output layer tied to the embedding has a dense gradient
    the size of the vocabulary; asked for before any token is looked up, it comes when the few rows of the lookups
    (see ``JointModel``) are waiting, and autograd adds them to it in place. The other way round each lookup would
    copy it.
    """
    return _Identity.apply(weight)


class _Identity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class _VocabularyLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor | None, groups: list[VocabularyLosses], *hiddens: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(weight, bias, *hiddens)
        ctx.groups = groups
        accumulate = torch.float64 if weight.dtype == torch.float64 else torch.float32
        sums = [
            tuple(
                weight.new_zeros(size, dtype=accumulate)
                for size in (len(hidden), len(losses.matches), len(losses.frozen_matches), len(losses.divergences))
            )
            for hidden, losses in zip(hiddens, groups, strict=True)
        ]
        for chunk in _chunks(hiddens, weight):
            log_probs = log_probabilities(chunk.rows(hiddens), weight, bias)
            for group, part, piece in chunk.pieces(hiddens, log_probs):
                _add_sums(piece, groups[group], part, LossSums(*sums[group]))
        return tuple(value for values in sums for value in values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weight, bias, *hiddens = ctx.saved_tensors
        groups: list[VocabularyLosses] = ctx.groups
        factors = [[part.tolist() for part in gradients[i : i + KINDS]] for i in range(0, len(gradients), KINDS)]
        # Sums over many chunks: in bfloat16 each addition would round, and more chunks would mean more error.
        accumulate = gradients[0].dtype
        grad_weight: Tensor | None = None
        grad_bias = torch.zeros_like(bias, dtype=accumulate) if bias is not None and ctx.needs_input_grad[1] else None
        grad_hiddens = [torch.empty_like(hidden) for hidden in hiddens]
        for chunk in _chunks(hiddens, weight):
            rows = chunk.rows(hiddens)
            log_probs = log_probabilities(rows, weight, bias)
            for group, part, piece in chunk.pieces(hiddens, log_probs):
                _to_grad_logits(piece, groups[group], part, *factors[group])
            grad_logits = log_probs.to(weight.dtype)  # what they have become, in place
            for group, part, piece in chunk.pieces(hiddens, product(grad_logits, weight.T)):
                grad_hiddens[group][:, part] = piece
            if ctx.needs_input_grad[0]:
                gradient = product(grad_logits.T, rows.T)
                grad_weight = gradient.to(accumulate) if grad_weight is None else grad_weight.add_(gradient)
            if grad_bias is not None:
                grad_bias += grad_logits.sum(0)
        if grad_weight is None and ctx.needs_input_grad[0]:
            grad_weight = torch.zeros_like(weight)
        return _like(grad_weight, weight), _like(grad_bias, bias), None, *grad_hiddens


def _add_sums(log_probs: Tensor, losses: VocabularyLosses, part: slice, sums: LossSums) -> None:
    """Adds what a piece [K, C, V] of a group contributes to its sums."""
    cross_entropy, match, frozen_match, divergence = sums
    labels = losses.labels[part]
    nll = -log_probs.gather(-1, labels.expand(log_probs.shape[0], -1).unsqueeze(-1)).squeeze(-1)
    for k, epsilon in enumerate(losses.smoothing):
        value = nll[k].sum()
        if epsilon:
            value = (1 - epsilon) * value - epsilon * log_probs[k].mean(-1).sum()
        cross_entropy[k] += value
    probs = {teacher: log_probs[teacher].exp() for _, teacher in losses.matches}
    for i, (student, teacher) in enumerate(losses.matches):
        match[i] -= (probs[teacher] * log_probs[student]).sum()
    if losses.frozen is not None:
        frozen = losses.frozen.chunk(part)
        for i, student in enumerate(losses.frozen_matches):
            frozen_match[i] += frozen.cross_entropy(log_probs[student])
    for i, (first, second) in enumerate(losses.divergences):
        difference = log_probs[first] - log_probs[second]
        divergence[i] += ((log_probs[first].exp() - log_probs[second].exp()) * difference).sum()


def _to_grad_logits(
    log_probs: Tensor,
    losses: VocabularyLosses,
    part: slice,
    grad_cross_entropy: list[float],
    grad_match: list[float],
    grad_frozen_match: list[float],
    grad_divergence: list[float],
) -> None:
    """Turns a piece's log-softmax [K, C, V] into the gradient of its logits, in place.

    Of a cross-entropy to any distribution q that is (softmax - q).
    """
    # Kept aside: the softmax is about to be overwritten.
    diverging = [
        (first, second, factor, *_divergence_gradients(log_probs[first], log_probs[second]))
        for (first, second), factor in zip(losses.divergences, grad_divergence, strict=True)
        if factor
    ]
    probs = log_probs.exp_()
    frozen = None if losses.frozen is None else losses.frozen.chunk(part)
    labels = losses.labels[part, None]
    # Those that others are matched with come last, when nobody needs their distribution any more.
    teachers = {teacher for _, teacher in losses.matches}
    for k in sorted(range(len(probs)), key=lambda k: k in teachers):
        cross_entropy = grad_cross_entropy[k]
        matches = [(grad_match[i], probs[t]) for i, (s, t) in enumerate(losses.matches) if s == k]
        held = sum(gradient for gradient, s in zip(grad_frozen_match, losses.frozen_matches, strict=True) if s == k)
        factor = cross_entropy + held + sum(gradient for gradient, _ in matches)
        if frozen is not None and held:
            frozen.to_gradient(probs[k], factor, held)
        else:
            probs[k].mul_(factor)
        for gradient, distribution in matches:
            probs[k].sub_(distribution, alpha=gradient)
        epsilon = losses.smoothing[k]
        if epsilon:
            probs[k].sub_(cross_entropy * epsilon / probs.shape[-1])
        probs[k].scatter_add_(-1, labels, probs.new_full(labels.shape, -cross_entropy * (1 - epsilon)))
    for first, second, factor, of_first, of_second in diverging:
        probs[first].add_(of_first, alpha=factor)
        probs[second].add_(of_second, alpha=factor)


def _divergence_gradients(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of KL(p || q) + KL(q || p) for the logits of p and q, from their log-softmax [C, V].

    With d = log p - log q: p (d - E_p[d]) + p - q for the logits of p, and the same with p and q changed about.
    """
    p, q, difference = first.exp(), second.exp(), first - second
    of_first = p * (difference - (p * difference).sum(-1, keepdim=True)) + p - q
    of_second = q * ((q * difference).sum(-1, keepdim=True) - difference) + q - p
    return of_first, of_second


class _Chunk(list[tuple[int, slice]]):
    """Positions that go through the vocabulary together: of some groups a slice of their M positions, all K sets."""

    def rows(self, hiddens: Sequence[Tensor]) -> Tensor:
        """[rows, D]"""
        return torch.cat([hiddens[group][:, part].flatten(0, 1) for group, part in self])

    def pieces(self, hiddens: Sequence[Tensor], rows: Tensor) -> Iterator[tuple[int, slice, Tensor]]:
        """Group, slice and the group's share [K, C, ...] of `rows` [rows, ...], as a view."""
        sizes = [len(hiddens[group]) * (part.stop - part.start) for group, part in self]
        for (group, part), piece in zip(self, rows.split(sizes), strict=True):
            yield group, part, piece.unflatten(0, (len(hiddens[group]), -1))


def _chunks(hiddens: Sequence[Tensor], weight: Tensor) -> Iterator[_Chunk]:
    """All positions of all groups, as many at a time as `CHUNK_BYTES` allows and at least one."""
    chunk, room = _Chunk(), CHUNK_BYTES // (weight.shape[0] * 4)
    left = room
    for group, hidden in enumerate(hiddens):
        sets, positions = hidden.shape[:2]
        start = 0
        while start < positions:
            if chunk and left < sets:
                yield chunk
                chunk, left = _Chunk(), room
            stop = min(positions, start + max(1, left // sets))
            chunk.append((group, slice(start, stop)))
            left -= sets * (stop - start)
            start = stop
    if chunk:
        yield chunk


def _like(gradient: Tensor | None, parameter: Tensor) -> Tensor | None:
    return None if gradient is None else gradient.to(parameter.dtype)
