"""The text decoder one token at a time, for several hypotheses of each utterance at once.

What the hypotheses of an utterance have in common is computed and kept once: keys and values of the memory, and those
of every token that several of them share. Each decoded token has a slot of its own in the caches, and a mask says which
slots a hypothesis descends from, so nothing is copied when hypotheses branch; when the slots are used up, those that no
hypothesis descends from any more are given up. Runs on the modules of the decoder itself, whatever their linear layers
have become (quantised, packed).

Shapes: B utterances, K hypotheses of each, N tokens, L slots, S positions of the memory, H heads, D = d / H, V text
vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

FIRST_SLOTS = 64
"""Slots that the caches have at first."""


class DecoderSteps:
    """Caches of a batch of utterances, and the decoder that fills them.

    Args:
        model: a ``ComSLForConditionalGeneration``; the layers of mBART's and M2M-100's decoders are the same.
        memory: [B, S, d], as ``model.encode`` makes it.
        memory_mask: [B, S], 1 at the real positions.
    """

    def __init__(self, model: Any, memory: Tensor, memory_mask: Tensor) -> None:
        self.decoder = model.text_decoder
        self.head: nn.Module = model.text_model.lm_head
        bias = model.output_bias
        self.bias = bias if bias is not None and bool(bias.any()) else None  # mBART's own is zero
        inside = memory_mask.bool()
        self.memory_mask = None if bool(inside.all()) else inside[:, None, None]  # [B, 1, 1, S]
        attentions = [layer.encoder_attn for layer in self.decoder.layers]
        self.memory = [(_heads(a.k_proj(memory), a), _heads(a.v_proj(memory), a)) for a in attentions]
        self.cache: list[Tensor] = []  # of each layer, keys and values [2, B, H, L and spare ones, D]
        self.ancestors = memory_mask.new_zeros(len(memory), 1, 0, dtype=torch.bool)  # [B, K, L]
        self.slots = 0  # in use
        self.length = 0  # tokens of each hypothesis

    def prefill(self, prompt: Tensor) -> Tensor:
        """Read a prompt [B, N] that all hypotheses of an utterance begin with; hidden state [B, 1, d] at its end."""
        rows, tokens = prompt.shape
        causal = torch.ones(tokens, tokens, dtype=torch.bool, device=prompt.device).tril()
        for keys, _ in self.memory:
            batch, heads, _, width = keys.shape
            self.cache.append(keys.new_empty(2, batch, heads, max(FIRST_SLOTS, tokens), width))
        positions = self.decoder.embed_positions(prompt, past_key_values_length=0)
        hidden = self._decode(prompt, positions, causal.expand(rows, -1, -1))
        self.ancestors = self.ancestors.new_ones(rows, 1, tokens)
        self.length = tokens
        return hidden[:, -1:]

    def step(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """One more token for each hypothesis: hidden states [B, K, d].

        Args:
            tokens: [B, K].
            parents: [B, K], the hypothesis of the step before that each one goes on from.
        """
        rows, width = tokens.shape
        self.ancestors = self.ancestors.gather(1, parents[..., None].expand(-1, -1, self.slots))
        if self.slots + width > self.cache[0].shape[3]:
            self._make_room(width)
        own = torch.eye(width, dtype=torch.bool, device=tokens.device).expand(rows, -1, -1)
        self.ancestors = torch.cat([self.ancestors, own], dim=2)
        # In rows of one token each, since hypotheses stand side by side and not one after the other.
        positions = self.decoder.embed_positions(tokens.reshape(-1, 1), past_key_values_length=self.length)
        hidden = self._decode(tokens, positions.view(rows, width, -1), self.ancestors if width > 1 else None)
        self.length += 1
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., V] in float32 of hidden states [..., d]."""
        logits = self.head(hidden).float()
        return logits if self.bias is None else logits.add_(self.bias)

    def keep(self, rows: Tensor) -> None:
        """Go on with these utterances [B'] only."""
        self.memory = [(keys[rows], values[rows]) for keys, values in self.memory]
        self.cache = [cache[:, rows] for cache in self.cache]
        self.ancestors = self.ancestors[rows]
        if self.memory_mask is not None:
            self.memory_mask = self.memory_mask[rows]

    def _decode(self, tokens: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Hidden states [B, N, d] of tokens [B, N], whose keys and values get the next N slots.

        Args:
            positions: [B, N, d], embedded.
            mask: [B, N, L], which slots each token reads, the new ones included; None: all of them.
        """
        hidden = self.decoder.embed_tokens(tokens) + positions
        if hasattr(self.decoder, "layernorm_embedding"):  # mBART
            hidden = self.decoder.layernorm_embedding(hidden)
        begin, end = self.slots, self.slots + tokens.shape[1]
        self.slots = end
        mask = None if mask is None else mask[:, None]
        for index, layer in enumerate(self.decoder.layers):
            inner = layer.self_attn_layer_norm(hidden)
            cache = self.cache[index]
            for place, part in enumerate((layer.self_attn.k_proj, layer.self_attn.v_proj)):
                cache[place, :, :, begin:end] = _heads(part(inner), layer.self_attn)
            hidden = hidden + _attend(layer.self_attn, inner, cache[0, :, :, :end], cache[1, :, :, :end], mask)
            inner = layer.encoder_attn_layer_norm(hidden)
            hidden = hidden + _attend(layer.encoder_attn, inner, *self.memory[index], self.memory_mask)
            inner = layer.final_layer_norm(hidden)
            hidden = hidden + layer.fc2(layer.activation_fn(layer.fc1(inner)))
        return self.decoder.layer_norm(hidden)

    def _make_room(self, new: int) -> None:
        """Leave out the slots that nothing descends from, and have as many spare ones as are left and new."""
        used = self.ancestors.any(1)  # [B, L]
        self.slots = int(used.sum(1).max())
        order = used.byte().argsort(dim=1, descending=True, stable=True)[:, : self.slots]
        self.ancestors = self.ancestors.gather(2, order[:, None].expand(-1, self.ancestors.shape[1], -1))
        size = max(FIRST_SLOTS, 2 * (self.slots + new))
        for index, cache in enumerate(self.cache):
            kept = cache.gather(3, order[None, :, None, :, None].expand(2, -1, cache.shape[2], -1, cache.shape[4]))
            self.cache[index] = cache.new_empty(*cache.shape[:3], size, cache.shape[4])
            self.cache[index][:, :, :, : self.slots] = kept


def _heads(states: Tensor, attention: Any) -> Tensor:
    """[B, N, d] -> [B, H, N, D]"""
    return states.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)


def _attend(attention: Any, inputs: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of inputs [B, N, d] to keys and values [B, H, L, D], projected back to [B, N, d]."""
    queries = _heads(attention.q_proj(inputs), attention)
    mixed = nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=attention.scaling)
    return attention.out_proj(mixed.transpose(1, 2).flatten(2))
