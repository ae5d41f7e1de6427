"""The module that is trained: model, frozen teacher and objectives in one forward.

DDP and FSDP wrap this module, so everything a training step computes happens inside its forward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from transformers import PreTrainedModel

from comsl.model.modeling import ComSLForConditionalGeneration
from comsl.model.products import speed_up_linears
from comsl.model.recomputing import recompute_cheap_layers, recomputing
from comsl.objectives.base import ObjectiveError
from comsl.objectives.settings import ObjectiveSet
from comsl.objectives.views import Batch, compute_views, counts

Reduction = Literal["mean", "paper"]


@dataclass
class JointOutput:
    loss: Tensor
    """Scalar; with ``reduction="mean"`` the local share of the global mean: summed over ranks and accumulation steps
    it is the loss of the global batch."""
    terms: dict[str, tuple[Tensor, Tensor]]
    """Term -> (local sum, local count), detached."""


class JointModel(nn.Module):
    """Trains ``model`` with ``objectives``.

    Args:
        teacher: a frozen text model over the same vocabulary; needed if ``objectives.needs_teacher``. It is kept in
            evaluation mode whatever happens to this module (the published code let dropout back in).
        cached_teacher: no teacher is given; every batch has its distributions (:mod:`comsl.objectives.frozen`).
        reduction: "mean" divides each term by its own count over the global batch; "paper" takes the published plain
            sums over the local batch, whose balance depends on lengths and batch size.

    Parameters that no switched-on objective reaches are frozen here, so that neither gradients nor optimizer states
    are made for them and DDP does not wait for them.
    """

    def __init__(
        self,
        model: ComSLForConditionalGeneration,
        objectives: ObjectiveSet,
        teacher: PreTrainedModel | None = None,
        reduction: Reduction = "mean",
        cached_teacher: bool = False,
    ) -> None:
        super().__init__()
        if reduction not in ("mean", "paper"):
            raise ObjectiveError(f"reduction: expected 'mean' or 'paper', got {reduction!r}")
        if objectives.needs_teacher and not cached_teacher:
            _check_teacher(model, teacher)
        if objectives.reads.ctc and model.ctc_head is None:
            raise ObjectiveError("objectives.ctc needs a model with a CTC head: compose it with ctc_vocabulary")
        if objectives.reads.words and model.config.adapter == "ctc":
            raise ObjectiveError(
                "objectives.contrast: the adapter ctc makes the text model's own embeddings of the speech, there is "
                "nothing to draw together; leave contrast out, or compose with the adapter convolution"
            )
        layers = model.config.text_config.encoder_layers
        for layer in objectives.reads.layers:
            if layer > layers:
                raise ObjectiveError(f"objectives.erm.layer: {layer}, but the text encoder has {layers} layers")
        self.model = model
        self.objectives = objectives
        self.teacher = teacher if objectives.needs_teacher else None
        self.reduction = reduction
        if self.teacher is not None:
            self.teacher.requires_grad_(False)
        _freeze_unread(model, objectives)
        # The output layer's gradient is dense and of the vocabulary's size (a gigabyte at 250,000 tokens). Where it is
        # the embedding as well, autograd adds the rows that were looked up to it in place; otherwise each lookup would
        # fill a gigabyte of its own with zeros.
        stacks = (model.text_encoder, model.text_decoder)
        tied = all(stack.embed_tokens.weight is model.output_weight for stack in stacks)
        # (A pair whose objective has weight 0 is computed for the log and sends no gradient.)
        scored = any(objective.reads().pairs and getattr(objective, "weight", 0) for objective in objectives)
        model.sparse_lookups = tied and scored
        speed_up_linears(self)
        recompute_cheap_layers(model)
        self.train(model.training)

    def train(self, mode: bool = True) -> JointModel:
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Local counts, to be summed over the global batch before the forward."""
        return counts(batch, self.model)

    def forward(self, batch: Batch, counts: Mapping[str, Tensor] | None = None) -> JointOutput:
        """Args: batch: from the collator. counts: global counts (default: this batch's own)."""
        local = self.counts(batch)
        divisors = local if counts is None else counts
        with recomputing():
            views = compute_views(self.model, batch, self.objectives.reads, self.teacher)
        loss: Tensor | None = None
        terms = {}
        passes = self.objectives.reads.passes  # which the sums are over, the counts not
        for term in self.objectives.terms(views):
            terms[term.name] = (term.sum.detach(), passes * local[term.count])
            if term.weight == 0:
                continue
            # A batch without a single masked token has a zero sum and a zero count.
            divisor = divisors[term.count].clamp_min(1) if self.reduction == "mean" else 1
            addend = term.weight * term.sum / (passes * divisor)
            loss = addend if loss is None else loss + addend
        if loss is None:
            raise ObjectiveError("every objective has weight 0: nothing to train")
        return JointOutput(loss, terms)


def _check_teacher(model: ComSLForConditionalGeneration, teacher: PreTrainedModel | None) -> None:
    if teacher is None:
        raise ObjectiveError(
            "objectives.mt compares with a frozen text model: give teacher, or set mt.teacher_share: 0"
        )
    ours, theirs = model.output_weight.shape[0], teacher.get_output_embeddings().weight.shape[0]
    if ours != theirs:
        raise ObjectiveError(
            f"the teacher has a vocabulary of {theirs} tokens, the model one of {ours}: they must match"
        )


def _freeze_unread(model: ComSLForConditionalGeneration, objectives: ObjectiveSet) -> None:
    reads = objectives.reads
    if not reads.encoded_speech:
        model.adapter.requires_grad_(False)
        if not reads.ctc:
            model.speech_encoder.requires_grad_(False)
    heard = reads.encoded_speech and model.config.adapter == "ctc"  # by the adapter
    if not reads.ctc and not heard and model.ctc_head is not None:
        model.ctc_head.requires_grad_(False)
    if not reads.pairs:
        read = set(model.text_encoder.parameters()) if reads.layers or reads.transport else set()
        if reads.words:
            read |= set(model.text_encoder.embed_tokens.parameters())
        for parameter in model.text_model.parameters():
            if parameter not in read:
                parameter.requires_grad_(False)
