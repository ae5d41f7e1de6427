"""Sequences of different lengths one behind the other, without padding.

A packed tensor [T, D] holds sequences in a row. Whatever treats positions one by one (linear layers, normalisation)
then costs what the true positions cost, whatever stands in the batch; attention alone has to know where sequences begin
and end. transformers' layers hand the attention mask on to the attention function as it is, so a :class:`PackedMask`
travels in its place, and the attention function registered here pads queries, keys and values for the one fused kernel.

Shapes: T packed positions, S spans, L longest span, H heads, D width, d_h width of a head.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .adapter import length_mask
from .recomputing import recomputed

PACKED_ATTENTION = "comsl_packed"
"""Name of the attention implementation: torch's fused attention, for packed sequences and for padded ones."""


# Spans and PackedMask are no dataclasses: FSDP would take them apart and forget, layer by layer, what they computed.


class Spans:
    """S stretches of a packed tensor, from `starts` [S] on and `lengths` [S] (each at least 1) long.

    They may overlap, and need not cover the tensor.
    """

    def __init__(self, starts: Tensor, lengths: Tensor, consecutive: bool = False):
        self.starts = starts
        self.lengths = lengths
        self._consecutive = consecutive

    @classmethod
    def consecutive(cls, lengths: Tensor) -> Spans:
        """Spans of these lengths [S], one behind the other from the start on: they cover their tensor."""
        return cls(lengths.cumsum(0) - lengths, lengths, consecutive=True)

    def __getitem__(self, place: slice) -> Spans:
        return Spans(self.starts[place], self.lengths[place])

    @staticmethod
    def interleaved(first: Spans, second: Spans) -> Spans:
        """[first 0, second 0, first 1, second 1, ...]."""
        return Spans(
            torch.stack([first.starts, second.starts], 1).flatten(),
            torch.stack([first.lengths, second.lengths], 1).flatten(),
        )

    @cached_property
    def longest(self) -> int:
        return int(self.lengths.max())

    @cached_property
    def inside(self) -> Tensor:
        """[S, L], True at the true positions of each span."""
        return length_mask(self.lengths, self.longest)

    @cached_property
    def offsets(self) -> Tensor:
        """[sum of lengths]: 0, 1, ... within each span, span by span."""
        return torch.arange(self.longest, device=self.lengths.device).expand_as(self.inside)[self.inside]

    @cached_property
    def index(self) -> Tensor:
        """[sum of lengths]: packed positions of the spans, span by span."""
        return torch.repeat_interleave(self.starts, self.lengths) + self.offsets

    @cached_property
    def places(self) -> Tensor:
        """[sum of lengths]: where they stand in S rows of L."""
        return self.inside.flatten().nonzero()[:, 0]

    def padded(self, states: Tensor) -> Tensor:
        """Packed states [T, ...] -> [S, L, ...], zeros behind each span."""
        rows = states if self._consecutive else states.index_select(0, self.index)
        padded = rows.new_zeros(len(self.lengths) * self.longest, *rows.shape[1:])
        # (Autograd keeps nothing but the places; of index_copy_ it would keep the rows as well.)
        return padded.index_put_((self.places,), rows).unflatten(0, (-1, self.longest))

    def packed(self, states: Tensor) -> Tensor:
        """[S, L, ...] -> [sum of lengths, ...]."""
        return states.flatten(0, 1).index_select(0, self.places)


class PackedMask:
    """Who attends to whom: every position of the i-th span of `queries` to those of the i-th span of `keys`.

    `queries` follow each other and cover their tensor. `causal`: to those that are not behind it; both are then the
    same spans.
    """

    def __init__(self, queries: Spans, keys: Spans, causal: bool = False):
        self.queries = queries
        self.keys = keys
        self.causal = causal

    @classmethod
    def within(cls, spans: Spans, causal: bool = False) -> PackedMask:
        """Self-attention."""
        return cls(spans, spans, causal)

    @cached_property
    def allowed(self) -> Tensor | None:
        """[S, 1, 1, L] for torch's attention; None where every key may be seen, or causality hides the padding."""
        if self.causal or bool(self.keys.inside.all()):
            return None
        return self.keys.inside[:, None, None, :]


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | PackedMask | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    if not isinstance(attention_mask, PackedMask):
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)

    def rows(spans: Spans, heads: Tensor) -> Tensor:
        """[1, H, T, d_h] -> [S, H, L, d_h]"""
        return recomputed(spans.padded, heads[0].transpose(0, 1)).transpose(1, 2)

    output = nn.functional.scaled_dot_product_attention(
        rows(attention_mask.queries, query),
        rows(attention_mask.keys, key),
        rows(attention_mask.keys, value),
        attn_mask=attention_mask.allowed,
        dropout_p=dropout,
        is_causal=attention_mask.causal,
        scale=scaling,
    )
    return recomputed(attention_mask.queries.packed, output.transpose(1, 2))[None], None


AttentionInterface.register(PACKED_ATTENTION, _attention)
AttentionMaskInterface.register(PACKED_ATTENTION, sdpa_mask)


def accept_packed(part: Any) -> None:
    """Let the layers of a transformers model read a `PackedMask`, whatever attention it was loaded with."""
    part.config._attn_implementation = PACKED_ATTENTION


def run_encoder(encoder: Any, embeds: Tensor, spans: Spans, record: frozenset[int]) -> tuple[Tensor, dict[int, Tensor]]:
    """A text encoder over packed sequences: what its forward computes for each alone.

    Args:
        encoder: of mBART or M2M-100.
        embeds: [T, D], scaled embeddings.
        spans: the sequences, which cover `embeds`.
        record: layers (1 = the first) whose output is wanted.

    Returns:
        Last states [T, D], and those of the recorded layers (of the last layer the normalised ones, as transformers
        counts its hidden states).
    """
    accept_packed(encoder)
    mask = PackedMask.within(spans)
    hidden = _with_positions(encoder, embeds, spans)
    recorded = {}
    for number, layer in enumerate(encoder.layers, 1):
        if not dropped(encoder):
            hidden = layer(hidden, mask)
        if number in record:
            recorded[number] = hidden[0]
    hidden = encoder.layer_norm(hidden)[0]
    if len(encoder.layers) in record:
        recorded[len(encoder.layers)] = hidden
    return hidden, recorded


def run_decoder(decoder: Any, embeds: Tensor, spans: Spans, memory: Tensor, keys: Spans) -> Tensor:
    """A text decoder over packed sequences, each with its own stretch of the memory: [T, D].

    Args:
        decoder: of mBART or M2M-100.
        embeds: [T, D], scaled embeddings.
        spans: S sequences, which cover `embeds`.
        memory: [M, D], packed; its keys and values are computed once, however many sequences read them.
        keys: S spans of the memory.
    """
    accept_packed(decoder)
    mask, cross_mask = PackedMask.within(spans, causal=True), PackedMask(spans, keys)
    hidden = _with_positions(decoder, embeds, spans)
    for layer in decoder.layers:
        if not dropped(decoder):
            hidden = layer(hidden, mask, memory[None], encoder_attention_mask=cross_mask, use_cache=False)
    return decoder.layer_norm(hidden)[0]


def _with_positions(stack: Any, embeds: Tensor, spans: Spans) -> Tensor:
    """[1, T, D]: what the stack's first layer reads."""
    probe = embeds.new_empty(1, spans.longest, 1)
    # mBART looks its positions up (by the shape of the ids), M2M-100 computes them (by that of the embeddings).
    learned = isinstance(stack.embed_positions, nn.Embedding)
    table = stack.embed_positions(probe[..., 0]) if learned else stack.embed_positions(None, probe)
    hidden = (embeds + table[0].to(embeds.device)[spans.offsets])[None]
    if hasattr(stack, "layernorm_embedding"):
        hidden = stack.layernorm_embedding(hidden)
    return nn.functional.dropout(hidden, p=stack.dropout, training=stack.training)


def dropped(stack: Any) -> bool:
    """LayerDrop: whether this layer is skipped this time."""
    return stack.training and stack.layerdrop > 0.0 and bool(torch.rand([]) < stack.layerdrop)
