"""What the backward computes again: the same gradients to the bit, from fewer bytes."""

import contextlib

import pytest
import torch
from torch import nn
from transformers import MBartConfig, MBartForConditionalGeneration
from transformers.activations import ACT2FN

from benchmarks.machine import kept_by
from comsl.model.packing import Spans, run_decoder, run_encoder
from comsl.model.recomputing import recompute_cheap_layers, recomputed, recomputing

LENGTHS = [3, 7, 1, 5]
WIDTH, FFN, HEADS = 12, 40, 3


def text_model(layers=2, dropout=0.0, activation="gelu"):
    torch.manual_seed(0)
    config = MBartConfig(
        vocab_size=40, d_model=WIDTH, encoder_layers=layers, decoder_layers=layers, encoder_ffn_dim=FFN,
        decoder_ffn_dim=FFN, encoder_attention_heads=HEADS, decoder_attention_heads=HEADS, max_position_embeddings=16,
        init_std=0.3, dropout=dropout, activation_function=activation,
    )  # fmt: skip
    model = MBartForConditionalGeneration(config).train().base_model
    recompute_cheap_layers(model)
    return model


def encoded_and_decoded(model):
    torch.manual_seed(1)
    spans = Spans.consecutive(torch.tensor(LENGTHS))
    embeds = torch.randn(sum(LENGTHS), WIDTH, requires_grad=True)
    memory, _ = run_encoder(model.encoder, embeds, spans, frozenset())
    return embeds, run_decoder(model.decoder, embeds * 2, spans, memory, spans)


def gradients(block, autocast=False, **settings):
    model = text_model(**settings)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), block:
        embeds, states = encoded_and_decoded(model)
    states.square().sum().backward()
    return [embeds.grad, *(parameter.grad for parameter in model.parameters())]


@pytest.mark.parametrize(
    "settings", [{}, {"dropout": 0.3}, {"autocast": True}, {"activation": "silu"}, {"activation": "relu"}]
)
def test_gradients_are_the_same_to_the_bit(settings):
    for ours, plain in zip(
        gradients(recomputing(), **settings), gradients(contextlib.nullcontext(), **settings), strict=True
    ):
        assert (ours is None and plain is None) or torch.equal(ours, plain)


def test_a_layer_keeps_what_products_read_and_gave_and_nothing_else():
    """Of the encoder; in floats, for T positions in S sequences of at most L."""
    spans = Spans.consecutive(torch.tensor(LENGTHS))
    positions, sequences, longest = sum(LENGTHS), len(LENGTHS), max(LENGTHS)
    spans.inside, spans.index, spans.places, spans.offsets  # noqa: B018 (made once, and kept with the spans)
    embeds = torch.randn(positions, WIDTH, requires_grad=True)

    def kept(layers):
        model = text_model(layers)
        with recomputing():
            return kept_by(lambda: run_encoder(model.encoder, embeds, spans, frozenset())[0])

    attention = 3 * positions * WIDTH  # queries, keys, values
    attention += sequences * longest * (WIDTH + HEADS + 1)  # what it gave, padded; its log-sums; the mask as numbers
    residuals = 2 * positions * (WIDTH + 2)  # what the two normalisations read, their means and deviations
    feed_forward = positions * FFN  # before the activation function
    assert kept(3) - kept(2) == 4 * (attention + residuals + feed_forward)


@pytest.mark.parametrize("activation", ["gelu", "silu", "relu"])
def test_an_activation_is_kept_once(activation):
    layers = nn.Sequential(nn.Linear(8, 100), ACT2FN[activation], nn.Linear(100, 1))
    recompute_cheap_layers(layers)
    with recomputing():
        assert kept_by(lambda: layers(torch.randn(5, 8))) == 4 * 5 * (8 + 100 + 1)


def test_a_view_of_what_is_recomputed():
    weights = torch.arange(6.0, requires_grad=True)
    inputs = torch.randn(6)
    results = []
    for block in (recomputing(), contextlib.nullcontext()):
        weights.grad = None
        with block:
            doubled = recomputed(lambda tensor: tensor * 2, weights)
            # The product keeps both: a transposed part of the one, and the other as it is.
            (doubled.view(2, 3).T[1:] * inputs.view(3, 2)[1:].requires_grad_()).square().sum().backward()
        results.append(weights.grad)
    assert torch.equal(*results)


def test_what_was_changed_in_place_is_kept_as_it_is():
    weights = torch.ones(3, requires_grad=True)
    with recomputing():
        changed = recomputed(lambda tensor: tensor * 2, weights).detach().add_(1)
        (weights * changed).sum().backward()
    assert torch.equal(weights.grad, torch.full((3,), 3.0))


def test_inputs_that_were_changed_in_place_are_an_error():
    weights = torch.ones(3, requires_grad=True)
    inputs = weights * 1
    with recomputing():
        loss = recomputed(lambda tensor: tensor * 2, inputs).square().sum()
    inputs.detach().add_(1)
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


def test_nothing_is_remembered_outside_the_block_or_without_a_gradient():
    weights = torch.ones(3, requires_grad=True)
    calls = []

    def function(tensor):
        calls.append(1)
        return tensor * 2

    (recomputed(function, weights) ** 2).sum().backward()
    with recomputing():
        (recomputed(function, weights.detach()) * weights).sum().backward()
    assert len(calls) == 2


def test_hooks_are_registered_once():
    model = nn.Sequential(nn.LayerNorm(3), nn.ReLU())
    for _ in range(2):
        recompute_cheap_layers(model)
    assert [len(module._forward_hooks) for module in model] == [1, 0]
