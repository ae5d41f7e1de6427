"""The words of a batch, spoken and written, cut out of what the text encoder is given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from comsl.data.constants import IGNORED_LABEL
from comsl.objectives.alignment import align

if TYPE_CHECKING:
    from comsl.model.modeling import ComSLForConditionalGeneration


@dataclass
class Words:
    """The words of the utterances that could be aligned, as the text encoder is given them."""

    speech: Tensor
    """[W, D]."""
    text: Tensor
    """[W, D]."""
    spelling: Tensor
    """[W, K]: each word's tokens, -1 behind the last: the same where two are spelled alike."""
    unaligned: Tensor
    """How many words the other utterances have."""


def word_counts(batch: Mapping[str, Tensor]) -> Tensor:
    """[B]: words of the transcripts."""
    return batch["transcript_words"].amax(1) + 1


def words_of_passes(
    model: ComSLForConditionalGeneration,
    batch: Mapping[str, Tensor],
    log_probs: Tensor,
    lengths: Tensor,
    speech: Tensor,
    passes: int,
) -> list[Words]:
    """``cut_words`` of each pass that the batch is made of, one behind the other: their words do not compete."""
    size = len(lengths) // passes
    found = []
    for start in range(0, len(lengths), size):
        rows = slice(start, start + size)
        part = {name: value[rows] for name, value in batch.items()}
        found.append(cut_words(model, part, log_probs[rows], lengths[rows], speech[rows]))
    return found


def cut_words(
    model: ComSLForConditionalGeneration,
    batch: Mapping[str, Tensor],
    log_probs: Tensor,
    lengths: Tensor,
    speech: Tensor,
) -> Words:
    """Cuts speech and transcripts into words.

    A word is heard from its first symbol until the next word's. Positions after the adapter are coarser than frames:
    the one that a boundary falls into belongs to both words.

    Args:
        log_probs: [B, F, C] of the CTC head, ``lengths`` [B] frames of them real.
        speech: embeddings [B, P, D] with the language at the first position.
    """
    counts = word_counts(batch)
    symbol_words = batch["ctc_words"]  # [B, C]
    symbols = batch["ctc_labels"] != IGNORED_LABEL
    found = align(log_probs.detach(), lengths, batch["ctc_labels"], symbols.sum(1))
    number = torch.arange(int(counts.max()), device=speech.device)
    inside = (symbol_words[:, None] == number[:, None]) & symbols[:, None]  # [B, W, C]
    begins = torch.where(inside, found.first[:, None], log_probs.shape[1]).amin(2)  # [B, W]
    ends = torch.where(inside, found.last[:, None], -1).amax(2) + 1
    ends[:, :-1] = torch.where(number[1:] < counts[:, None], begins[:, 1:], ends[:, :-1])
    # A word that CTC has no symbol of cannot be placed, nor can its neighbour's end: leave the utterance out. So where
    # tokens and symbols do not have the same words.
    placed = (inside.any(2) | (number >= counts[:, None])).all(1) & (symbol_words.amax(1) + 1 == counts)
    usable = found.aligned & placed
    stride = math.prod(model.config.adapter_strides)
    first, last = 1 + begins // stride, 1 + (ends - 1) // stride
    place = torch.arange(speech.shape[1], device=speech.device)
    spoken = (place >= first[..., None]) & (place <= last[..., None])  # [B, W, P]
    written = batch["transcript_words"][:, None] == number[:, None]  # [B, W, S]
    kept = (number < counts[:, None]) & usable[:, None]
    ids = batch["transcript_ids"]
    spelling = _spelling(ids, written)[kept]
    embedded = model.embed_text(ids)
    return Words(_means(speech, spoken)[kept], _means(embedded, written)[kept], spelling, counts[~usable].sum())


def _spelling(ids: Tensor, written: Tensor) -> Tensor:
    """[B, W, K]: the tokens of each word, of ``ids`` [B, S] those where ``written`` [B, W, S]; -1 behind the last."""
    lengths = written.sum(2, keepdim=True)
    order = torch.arange(int(lengths.max()) if lengths.numel() else 0, device=ids.device)
    places = (written.int().argmax(2, keepdim=True) + order).clamp_max(ids.shape[1] - 1)
    tokens = ids[:, None].expand(-1, written.shape[1], -1).gather(2, places)
    return tokens.masked_fill(order >= lengths, -1)


def _means(states: Tensor, member: Tensor) -> Tensor:
    """[B, W, D]: the mean of ``states`` [B, P, D] over the places of each word, ``member`` [B, W, P]."""
    share = member.to(states.dtype)
    return share @ states / share.sum(2, keepdim=True).clamp_min(1)
