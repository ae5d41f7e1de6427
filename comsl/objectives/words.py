"""The words of a batch, spoken and written, cut out of what the text encoder is given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from comsl.data.constants import IGNORED_LABEL
from comsl.objectives.alignment import align, ctc_log_probs

if TYPE_CHECKING:
    from comsl.model.modeling import ComSLForConditionalGeneration


@dataclass
class Words:
    """The words of the utterances that could be aligned, as the text encoder is given them: [W, D] each."""

    speech: Tensor
    text: Tensor
    unaligned: Tensor
    """How many words the other utterances have."""


def word_counts(batch: Mapping[str, Tensor]) -> Tensor:
    """[B]: words of the transcripts."""
    return batch["transcript_words"].amax(1) + 1


def cut_words(
    model: ComSLForConditionalGeneration, batch: Mapping[str, Tensor], heard: Tensor, lengths: Tensor, speech: Tensor
) -> Words:
    """Cuts speech and transcripts into words.

    Args:
        heard: logits [B, F, C] of the CTC head, ``lengths`` [B] frames of them real.
        speech: embeddings [B, P, D] with the language at the first position.
    """
    counts = word_counts(batch)
    symbol_words = batch["ctc_words"]  # [B, C]
    symbols = batch["ctc_labels"] != IGNORED_LABEL
    found = align(ctc_log_probs(heard), lengths, batch["ctc_labels"], symbols.sum(1))
    number = torch.arange(int(counts.max()), device=heard.device)
    inside = (symbol_words[:, None] == number[:, None]) & symbols[:, None]  # [B, W, C]
    begins = torch.where(inside, found.first[:, None], heard.shape[1]).amin(2)  # [B, W]
    ends = torch.where(inside, found.last[:, None], -1).amax(2) + 1
    ends[:, :-1] = torch.where(number[1:] < counts[:, None], begins[:, 1:], ends[:, :-1])
    # A word that CTC has no symbol of cannot be placed, nor can its neighbour's end: leave the utterance out.
    placed = (inside.any(2) | (number >= counts[:, None])).all(1) & (symbol_words.amax(1) + 1 == counts)
    usable = found.aligned & placed
    stride = math.prod(model.config.adapter_strides)
    first, last = 1 + begins // stride, 1 + (ends - 1) // stride
    place = torch.arange(speech.shape[1], device=speech.device)
    spoken = (place >= first[..., None]) & (place <= last[..., None])  # [B, W, P]
    written = batch["transcript_words"][:, None] == number[:, None]  # [B, W, S]
    kept = (number < counts[:, None]) & usable[:, None]
    embedded = model.embed_text(batch["transcript_ids"])
    return Words(_means(speech, spoken)[kept], _means(embedded, written)[kept], counts[~usable].sum())


def _means(states: Tensor, member: Tensor) -> Tensor:
    """[B, W, D]: the mean of ``states`` [B, P, D] over the places of each word, ``member`` [B, W, P]."""
    share = member.to(states.dtype)
    return share @ states / share.sum(2, keepdim=True).clamp_min(1)
