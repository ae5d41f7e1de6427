"""Packed sequences give what transformers' own forward gives for each of them alone."""

import pytest
import torch
from transformers import M2M100Config, M2M100ForConditionalGeneration, MBartConfig, MBartForConditionalGeneration

from comsl.model.packing import PACKED_ATTENTION, PackedMask, Spans, accept_packed, run_decoder, run_encoder

LENGTHS = [3, 7, 1, 5]
SIZES = {
    "vocab_size": 40, "d_model": 12, "encoder_layers": 3, "decoder_layers": 2, "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16, "encoder_attention_heads": 3, "decoder_attention_heads": 3, "max_position_embeddings": 16,
    "init_std": 0.3,
}  # fmt: skip
FAMILIES = {
    "mbart": (MBartForConditionalGeneration, MBartConfig),
    "m2m_100": (M2M100ForConditionalGeneration, M2M100Config),
}


@pytest.fixture(params=FAMILIES)
def text_model(request):
    model, config = FAMILIES[request.param]
    torch.manual_seed(0)
    return model(config(**SIZES)).double().eval().base_model


def random(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_text_encoder_over_packed_sequences(text_model):
    pieces = [random(length, 12, seed=length) for length in LENGTHS]
    alone = [text_model.encoder(inputs_embeds=piece[None], output_hidden_states=True) for piece in pieces]
    states, recorded = run_encoder(
        text_model.encoder, torch.cat(pieces), Spans.consecutive(torch.tensor(LENGTHS)), frozenset({1, 3})
    )
    torch.testing.assert_close(states, torch.cat([output.last_hidden_state[0] for output in alone]))
    for layer in (1, 3):
        torch.testing.assert_close(recorded[layer], torch.cat([output.hidden_states[layer][0] for output in alone]))


def test_a_text_decoder_over_packed_sequences_that_share_a_memory(text_model):
    """The four read overlapping stretches of one memory, the last two the same."""
    ids = [torch.arange(5, 5 + length) for length in LENGTHS]
    memory = random(11, 12)
    keys = Spans(torch.tensor([0, 2, 5, 5]), torch.tensor([4, 9, 3, 3]))
    alone = [
        text_model.decoder(
            input_ids=row[None], encoder_hidden_states=memory[None, start : start + length], use_cache=False
        ).last_hidden_state[0]
        for row, start, length in zip(ids, keys.starts.tolist(), keys.lengths.tolist(), strict=True)
    ]
    embeds = text_model.decoder.embed_tokens(torch.cat(ids))
    states = run_decoder(text_model.decoder, embeds, Spans.consecutive(torch.tensor(LENGTHS)), memory, keys)
    torch.testing.assert_close(states, torch.cat(alone))


def test_gradients_stay_within_their_sequence(text_model):
    embeds = random(sum(LENGTHS), 12).requires_grad_()
    spans = Spans.consecutive(torch.tensor(LENGTHS))
    states, _ = run_encoder(text_model.encoder, embeds, spans, frozenset())
    states[3:10].square().sum().backward()
    assert embeds.grad[3:10].abs().min() > 0
    assert embeds.grad[:3].abs().max() == embeds.grad[10:].abs().max() == 0


def test_padded_batches_pass_through_as_before(text_model):
    """The same modules serve generation, with ordinary masks."""
    embeds, mask = random(2, 5, 12), torch.tensor([[1, 1, 1, 0, 0], [1] * 5])
    before = text_model.encoder(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
    accept_packed(text_model.encoder)
    assert text_model.config._attn_implementation == PACKED_ATTENTION
    after = text_model.encoder(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_spans():
    spans = Spans(torch.tensor([4, 0, 4]), torch.tensor([2, 3, 1]))
    rows = torch.arange(10, 16)
    assert spans.index.tolist() == [4, 5, 0, 1, 2, 4]
    assert spans.offsets.tolist() == [0, 1, 0, 1, 2, 0]
    assert spans.padded(rows).tolist() == [[14, 15, 0], [10, 11, 12], [14, 0, 0]]
    assert spans.packed(spans.padded(rows)).tolist() == [14, 15, 10, 11, 12, 14]
    both = Spans.interleaved(Spans.consecutive(torch.tensor([1, 2])), Spans(torch.tensor([3, 5]), torch.tensor([2, 1])))
    assert both.index.tolist() == [0, 3, 4, 1, 2, 5]
    assert Spans.consecutive(torch.tensor([2, 3])).padded(rows[:5]).tolist() == [[10, 11, 0], [12, 13, 14]]


def test_a_mask_is_made_only_where_keys_are_padded():
    even, uneven = (Spans.consecutive(torch.tensor(lengths)) for lengths in ([3, 3], [2, 3]))
    assert PackedMask.within(even).allowed is None
    assert PackedMask.within(uneven, causal=True).allowed is None
    assert PackedMask.within(uneven).allowed.tolist() == [[[[True, True, False]]], [[[True, True, True]]]]
