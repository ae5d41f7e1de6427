"""Losses over a large vocabulary without ever holding its logits.

Legend: K student rows sets, M scored positions, D width, V vocabulary, C chunk of positions.

mBART-50 has 250,056 tokens: the float32 logits of a batch of 500 scored positions take half a gigabyte for each
(memory, target) pair, and as much again for every softmax. Here the positions go through the vocabulary in chunks;
forward keeps only the hidden states, backward computes the chunk's logits again. Cross-entropies and distribution
matching of the same positions share one set of logits: every (pair, position) passes the vocabulary once, and the
text-to-text distribution that distribution matching needs is the one that the MT loss computes anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

CHUNK_BYTES = 64 * 2**20
"""Upper limit for the logits of one chunk, in bytes: large enough to keep the matrix products efficient."""


@dataclass(frozen=True)
class FrozenDistribution:
    """A distribution of a model that is not trained: softmax(hidden @ weight.T + bias)."""

    hidden: Tensor
    """[M, D'], no gradient."""
    weight: Tensor
    """[V, D']."""
    bias: Tensor | None = None
    """[V]."""


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
    frozen: FrozenDistribution | None = field(default=None)


def vocabulary_losses(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, losses: VocabularyLosses
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over positions of cross-entropies and of cross-entropies to other distributions.

    Args:
        hidden: [K, M, D], the decoder's output at the scored positions, one set per (memory, target) pair.
        weight: [V, D], the output embedding. bias: [V] or None.
        losses: what to compute.

    Returns:
        (cross_entropy [K], match [len(matches)], frozen_match [len(frozen_matches)]) sums in float32 (float64 for
        float64 input). Gradients flow to ``hidden``, ``weight`` and ``bias`` through the students only: a teacher's
        distribution is a constant, as in the published criterion.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    if losses.frozen is not None:
        # The teacher's product over the vocabulary costs as much as a student's: compute it in the same precision.
        frozen = FrozenDistribution(
            losses.frozen.hidden.to(weight.dtype), losses.frozen.weight.to(weight.dtype), losses.frozen.bias
        )
        losses = replace(losses, frozen=frozen)
    with torch.autocast(device, enabled=False):
        return _VocabularyLosses.apply(hidden.to(weight.dtype), weight, bias, losses)


class _VocabularyLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, losses: VocabularyLosses
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(hidden, weight, bias)
        ctx.losses = losses
        accumulate = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        cross_entropy = hidden.new_zeros(hidden.shape[0], dtype=accumulate)
        match = hidden.new_zeros(len(losses.matches), dtype=accumulate)
        frozen_match = hidden.new_zeros(len(losses.frozen_matches), dtype=accumulate)
        for chunk in _chunks(hidden, weight):
            log_probs = _log_probs(hidden[:, chunk], weight, bias)
            labels = losses.labels[chunk]
            nll = -log_probs.gather(-1, labels.expand(log_probs.shape[0], -1).unsqueeze(-1)).squeeze(-1)
            for k, epsilon in enumerate(losses.smoothing):
                value = nll[k].sum()
                if epsilon:
                    value = (1 - epsilon) * value - epsilon * log_probs[k].mean(-1).sum()
                cross_entropy[k] += value
            for i, (student, teacher) in enumerate(losses.matches):
                match[i] -= (log_probs[teacher].exp() * log_probs[student]).sum()
            if losses.frozen is not None:
                frozen_probs = _frozen_probs(losses.frozen, chunk)
                for i, student in enumerate(losses.frozen_matches):
                    frozen_match[i] -= (frozen_probs * log_probs[student]).sum()
        return cross_entropy, match, frozen_match

    @staticmethod
    def backward(
        ctx: Any, grad_cross_entropy: Tensor, grad_match: Tensor, grad_frozen_match: Tensor
    ) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = ctx.saved_tensors
        losses: VocabularyLosses = ctx.losses
        grad_hidden = torch.empty_like(hidden)
        # Sums over many chunks: in bfloat16 each addition would round, and more chunks would mean more error.
        accumulate = grad_cross_entropy.dtype
        grad_weight = torch.zeros_like(weight, dtype=accumulate) if ctx.needs_input_grad[1] else None
        grad_bias = torch.zeros_like(bias, dtype=accumulate) if bias is not None and ctx.needs_input_grad[2] else None
        for chunk in _chunks(hidden, weight):
            probs = _log_probs(hidden[:, chunk], weight, bias).exp_()
            # d/d logits of a cross-entropy to any distribution q is (softmax - q).
            toward = torch.zeros_like(probs)
            total = torch.zeros_like(grad_cross_entropy)
            rows = torch.arange(probs.shape[1], device=probs.device)
            for k, epsilon in enumerate(losses.smoothing):
                if epsilon:
                    toward[k] += grad_cross_entropy[k] * epsilon / probs.shape[-1]
                toward[k][rows, losses.labels[chunk]] += grad_cross_entropy[k] * (1 - epsilon)
            total += grad_cross_entropy
            for i, (student, teacher) in enumerate(losses.matches):
                toward[student] += grad_match[i] * probs[teacher]
                total[student] += grad_match[i]
            if losses.frozen is not None:
                frozen_probs = _frozen_probs(losses.frozen, chunk)
                for i, student in enumerate(losses.frozen_matches):
                    toward[student] += grad_frozen_match[i] * frozen_probs
                    total[student] += grad_frozen_match[i]
            grad_logits = probs.mul_(total[:, None, None]).sub_(toward).to(hidden.dtype)
            grad_hidden[:, chunk] = grad_logits @ weight
            if grad_weight is not None:
                grad_weight += grad_logits.flatten(0, 1).T @ hidden[:, chunk].flatten(0, 1)
            if grad_bias is not None:
                grad_bias += grad_logits.sum((0, 1))
        return grad_hidden, _like(grad_weight, weight), _like(grad_bias, bias), None


def _chunks(hidden: Tensor, weight: Tensor) -> Iterator[slice]:
    positions = hidden.shape[1]
    size = max(1, CHUNK_BYTES // (hidden.shape[0] * weight.shape[0] * 4))
    for start in range(0, positions, size):
        yield slice(start, min(start + size, positions))


def _log_probs(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[K, C, D] -> [K, C, V], in at least float32."""
    logits = hidden @ weight.T
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if bias is not None:
        logits = logits + bias
    return logits.log_softmax(-1)


def _frozen_probs(frozen: FrozenDistribution, chunk: slice) -> Tensor:
    return _log_probs(frozen.hidden[None, chunk], frozen.weight, frozen.bias)[0].exp()


def _like(gradient: Tensor | None, parameter: Tensor) -> Tensor | None:
    return None if gradient is None else gradient.to(parameter.dtype)
