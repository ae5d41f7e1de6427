"""The distribution of the frozen text model that MT is held near: computed live, or its likeliest tokens from disk.

Legend: M scored positions, C positions of a chunk, V vocabulary, D' width of the frozen model, k tokens kept.

Of a cached distribution q the k likeliest tokens T are known, and the rest of the probability, r = 1 - q(T). Student
and teacher are then compared over T and one bucket for everything else:

    - sum over T of q log p  -  r log p(outside T)

This is the cross-entropy after the teacher's and the student's distribution have both been coarsened in the same way,
so it is least where the student agrees with the teacher on T and on the rest as a whole, and it never exceeds the loss
against the whole distribution: the difference is r times the cross-entropy within the bucket. Scaling q(T) to one
instead would ask the student to give nothing to the rest; leaving r out would let it give there what it likes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from comsl.data.constants import IGNORED_LABEL
from comsl.model.products import product
from comsl.objectives.base import Target

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TEACHER_TOKENS, TEACHER_PROBABILITIES = "teacher_tokens", "teacher_probabilities"
"""Fields of a batch with a cached teacher: [B, N, k] beside the translation's labels [B, N]."""


class Chunk(Protocol):
    """The frozen distribution q at some positions."""

    def cross_entropy(self, log_probs: Tensor) -> Tensor:
        """Sum over positions of the cross-entropy of a student's log-probabilities [C, V]."""

    def to_gradient(self, probs: Tensor, factor: float, gradient: float) -> None:
        """Turn a student's softmax p [C, V] into ``factor * p`` minus ``gradient`` times the distribution that it is
        drawn to, in place."""


@dataclass(frozen=True)
class FrozenDistribution:
    """A distribution of a model that is not trained: softmax(hidden @ weight.T + bias)."""

    hidden: Tensor
    """[M, D'], no gradient."""
    weight: Tensor
    """[V, D']."""
    bias: Tensor | None = None
    """[V]."""

    def to(self, dtype: torch.dtype) -> FrozenDistribution:
        return replace(self, hidden=self.hidden.to(dtype), weight=self.weight.to(dtype))

    def chunk(self, part: slice) -> Chunk:
        return _Whole(self._probs(part))

    def top(self, k: int, at_once: int) -> TopDistribution:
        """Its k likeliest tokens, likeliest first, computed for ``at_once`` positions at a time."""
        parts = [slice(start, start + at_once) for start in range(0, len(self.hidden), at_once)]
        found = [self._probs(part).topk(k) for part in parts]
        return TopDistribution(torch.cat([top.indices for top in found]), torch.cat([top.values for top in found]))

    def _probs(self, part: slice) -> Tensor:
        return log_probabilities(self.hidden[part], self.weight, self.bias).exp_()


@dataclass(frozen=True)
class TopDistribution:
    """The likeliest tokens of a distribution."""

    tokens: Tensor
    """[M, k], each once in a row."""
    probabilities: Tensor
    """[M, k]."""

    def to(self, dtype: torch.dtype) -> TopDistribution:
        return self

    def chunk(self, part: slice) -> Chunk:
        return _Top(self.tokens[part], self.probabilities[part])


@dataclass(frozen=True)
class _Whole:
    probs: Tensor
    """[C, V]."""

    def cross_entropy(self, log_probs: Tensor) -> Tensor:
        return -(self.probs * log_probs).sum()

    def to_gradient(self, probs: Tensor, factor: float, gradient: float) -> None:
        probs.mul_(factor).sub_(self.probs, alpha=gradient)


@dataclass(frozen=True)
class _Top:
    tokens: Tensor
    probs: Tensor

    def _rest(self, vocabulary: int) -> Tensor:
        """r [C]; nothing where all tokens are known, whatever the rounding."""
        rest = (1 - self.probs.sum(-1)).clamp_min(0)
        return rest if self.tokens.shape[-1] < vocabulary else torch.zeros_like(rest)

    def cross_entropy(self, log_probs: Tensor) -> Tensor:
        top = log_probs.gather(-1, self.tokens)
        # In place and back: a copy would be of the vocabulary's size. (One minus the others' sum would not be exact.)
        log_probs.scatter_(-1, self.tokens, float("-inf"))
        outside = log_probs.logsumexp(-1)
        log_probs.scatter_(-1, self.tokens, top)
        rest = self._rest(log_probs.shape[-1])
        return -(self.probs * top).sum() - torch.where(rest > 0, rest * outside, 0).sum()

    def to_gradient(self, probs: Tensor, factor: float, gradient: float) -> None:
        """Within the bucket the student is drawn to its own proportions: r p / p(outside T)."""
        top = probs.gather(-1, self.tokens)
        probs.scatter_(-1, self.tokens, 0.0)
        outside = probs.sum(-1).clamp_min(torch.finfo(probs.dtype).tiny)
        probs.mul_((factor - gradient * self._rest(probs.shape[-1]) / outside)[:, None])
        probs.scatter_(-1, self.tokens, (factor * top - gradient * self.probs).to(probs.dtype))


def live_distribution(teacher: PreTrainedModel, batch: Mapping[str, Any]) -> FrozenDistribution:
    """The frozen text model's distribution at the scored positions of the translation, in their order."""
    with torch.no_grad():
        hidden = teacher.base_model(
            input_ids=batch["transcript_ids"],
            attention_mask=batch["transcript_mask"],
            decoder_input_ids=batch[Target.TRANSLATION.decoder_inputs],
            use_cache=False,
        ).last_hidden_state
    bias = getattr(teacher, "final_logits_bias", None)
    return FrozenDistribution(
        hidden[batch[Target.TRANSLATION.labels] != IGNORED_LABEL],
        teacher.get_output_embeddings().weight,
        None if bias is None else bias[0],
    )


def cached_distribution(batch: Mapping[str, Any]) -> TopDistribution:
    """The same out of the batch."""
    scored = batch[Target.TRANSLATION.labels] != IGNORED_LABEL
    return TopDistribution(batch[TEACHER_TOKENS][scored], batch[TEACHER_PROBABILITIES][scored])


def log_probabilities(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[rows, D] -> [rows, V], in at least float32."""
    logits = product(hidden, weight)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if bias is not None:
        logits = logits + bias
    return logits.log_softmax(-1)
