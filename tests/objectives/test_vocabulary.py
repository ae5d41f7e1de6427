"""The chunked losses against the plain ones that hold all logits."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from comsl.objectives import vocabulary
from comsl.objectives.frozen import FrozenDistribution, TopDistribution
from comsl.objectives.vocabulary import VocabularyLosses, vocabulary_losses

K, M, D, V = 3, 11, 6, 17


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    labels = torch.randint(0, V, (M,), generator=generator)
    return {
        "hidden": random(K, M, D).requires_grad_(),
        "weight": random(V, D).requires_grad_(),
        "bias": random(V).requires_grad_(),
        "labels": labels,
        "frozen": FrozenDistribution(random(M, D + 1), random(V, D + 1), random(V)),
    }


def one_group(hidden, weight, bias, losses):
    return vocabulary_losses([(hidden, losses)], weight, bias)[0]


def plain(hidden, weight, bias, losses):
    logits = hidden @ weight.T + bias
    cross_entropy = torch.stack(
        [
            F.cross_entropy(logits[k], losses.labels, reduction="sum", label_smoothing=epsilon)
            for k, epsilon in enumerate(losses.smoothing)
        ]
    )
    probs = logits.softmax(-1).detach()
    match = [F.cross_entropy(logits[s], probs[t], reduction="sum") for s, t in losses.matches]
    frozen = (losses.frozen.hidden @ losses.frozen.weight.T + losses.frozen.bias).softmax(-1)
    frozen_match = [F.cross_entropy(logits[s], frozen, reduction="sum") for s in losses.frozen_matches]
    log_probs = logits.log_softmax(-1)
    divergence = [
        F.kl_div(log_probs[b], log_probs[a], reduction="sum", log_target=True)
        + F.kl_div(log_probs[a], log_probs[b], reduction="sum", log_target=True)
        for a, b in losses.divergences
    ]
    return (
        cross_entropy,
        torch.stack(match),
        torch.stack(frozen_match),
        torch.stack(divergence) if divergence else hidden.new_zeros(0),
    )


@pytest.mark.parametrize("positions_per_chunk", [1, 4, 100])
def test_sums_and_gradients_equal_the_plain_losses(tensors, monkeypatch, positions_per_chunk):
    monkeypatch.setattr(vocabulary, "CHUNK_BYTES", positions_per_chunk * K * V * 4)
    losses = VocabularyLosses(
        tensors["labels"], (0.0, 0.1, 0.0), ((0, 2), (1, 2)), (2,), tensors["frozen"], ((0, 1), (1, 2))
    )
    inputs = [tensors[name] for name in ("hidden", "weight", "bias")]
    results = []
    for function in (one_group, plain):
        outputs = function(*inputs, losses)
        factors = torch.tensor([0.3, 0.7, 1.1, 0.5, 0.2, 0.9, 0.4, 0.6], dtype=torch.float64)
        gradients = torch.autograd.grad((torch.cat(outputs) * factors).sum(), inputs)
        results.append((*outputs, *gradients))
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-12)


def test_logits_of_all_positions_are_never_in_memory(tensors, monkeypatch):
    monkeypatch.setattr(vocabulary, "CHUNK_BYTES", 2 * K * V * 4)
    sizes = []
    original = vocabulary.log_probabilities

    def sized(*args):
        sizes.append(args[0].shape)
        return original(*args)

    monkeypatch.setattr(vocabulary, "log_probabilities", sized)
    losses = VocabularyLosses(tensors["labels"], (0.0, 0.0, 0.0))
    outputs = one_group(tensors["hidden"], tensors["weight"], tensors["bias"], losses)
    outputs[0].sum().backward()
    assert max(shape[0] for shape in sizes) == 2 * K
    assert sum(shape[0] for shape in sizes) == 2 * M * K  # once forward, once backward


def top_of(frozen, k):
    logits = frozen.hidden @ frozen.weight.T + frozen.bias
    probabilities, tokens = logits.softmax(-1).topk(k)
    return TopDistribution(tokens, probabilities)


def losses_and_gradients(tensors, losses, function=one_group):
    inputs = [tensors[name] for name in ("hidden", "weight", "bias")]
    outputs = function(*inputs, losses)
    factors = torch.tensor([0.3, 0.7, 1.1, 0.5, 0.9], dtype=torch.float64)
    gradients = torch.autograd.grad((torch.cat(outputs) * factors).sum(), inputs)
    return *outputs, *gradients


@pytest.mark.parametrize("positions_per_chunk", [1, 4, 100])
@pytest.mark.parametrize("k", [1, 5, V - 1, V])
def test_a_cached_distribution_is_compared_over_its_tokens_and_one_bucket(tensors, monkeypatch, k, positions_per_chunk):
    monkeypatch.setattr(vocabulary, "CHUNK_BYTES", positions_per_chunk * K * V * 4)
    top = top_of(tensors["frozen"], k)
    # The student is matched with a live distribution as well, so that one gradient is of both.
    losses = VocabularyLosses(tensors["labels"], (0.0, 0.1, 0.0), ((0, 2),), (0,), top)

    def bucketed(hidden, weight, bias, losses):
        with_frozen = VocabularyLosses(losses.labels, losses.smoothing, losses.matches, (0,), tensors["frozen"])
        cross_entropy, match, _, divergence = plain(hidden, weight, bias, with_frozen)
        probs = (hidden[0] @ weight.T + bias).softmax(-1)
        known = torch.zeros_like(probs).scatter(-1, top.tokens, 1.0)
        frozen = -(top.probabilities * probs.gather(-1, top.tokens).log()).sum()
        if k < V:
            outside = (probs * (1 - known)).sum(-1)
            frozen = frozen - ((1 - top.probabilities.sum(-1)) * outside.log()).sum()
        return cross_entropy, match, frozen[None], divergence

    for ours, reference in zip(
        losses_and_gradients(tensors, losses), losses_and_gradients(tensors, losses, bucketed), strict=True
    ):
        torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-12)


def test_all_tokens_cached_are_the_live_distribution(tensors):
    live = VocabularyLosses(tensors["labels"], (0.0, 0.1, 0.0), ((0, 2),), (2,), tensors["frozen"])
    cached = replace(live, frozen=top_of(tensors["frozen"], V))
    for ours, reference in zip(losses_and_gradients(tensors, cached), losses_and_gradients(tensors, live), strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("k", [1, 5, V - 1])
def test_a_cached_distribution_loses_at_most_what_lies_within_its_bucket(tensors, k):
    top = top_of(tensors["frozen"], k)
    live, cached = (
        one_group(
            *(tensors[name] for name in ("hidden", "weight", "bias")),
            VocabularyLosses(tensors["labels"], (0.0, 0.0, 0.0), (), (2,), frozen),
        )[2].item()
        for frozen in (tensors["frozen"], top)
    )
    probs = (tensors["hidden"][2] @ tensors["weight"].T + tensors["bias"]).softmax(-1)
    outside = probs.scatter(-1, top.tokens, 0.0)
    least = probs.scatter(-1, top.tokens, 2.0).amin(-1)
    bound = ((1 - top.probabilities.sum(-1)) * (outside.sum(-1) / least).log()).sum().item()
    assert -1e-12 <= live - cached <= bound + 1e-12


def test_no_scored_position_gives_zero(tensors):
    losses = VocabularyLosses(torch.zeros(0, dtype=torch.long), (0.0, 0.0, 0.0))
    hidden = torch.zeros(K, 0, D, dtype=torch.float64, requires_grad=True)
    cross_entropy = one_group(hidden, tensors["weight"], None, losses).cross_entropy
    cross_entropy.sum().backward()
    assert cross_entropy.tolist() == [0.0, 0.0, 0.0]
    assert tensors["weight"].grad.abs().max() == 0


def test_bfloat16_autocast_computes_the_softmax_in_float32(tensors):
    hidden, weight = tensors["hidden"].float(), tensors["weight"].float()
    losses = VocabularyLosses(tensors["labels"], (0.0, 0.0, 0.0))
    reference = one_group(hidden, weight, None, losses)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = one_group(hidden, weight, None, losses)[0]
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, reference, rtol=2e-2, atol=1e-2)


def test_bfloat16_gradient_does_not_depend_on_the_number_of_chunks(tensors, monkeypatch):
    gradients = []
    for positions in (1, 100):
        monkeypatch.setattr(vocabulary, "CHUNK_BYTES", positions * K * V * 4)
        weight = tensors["weight"].detach().bfloat16().requires_grad_()
        losses = VocabularyLosses(tensors["labels"], (0.0, 0.0, 0.0))
        one_group(tensors["hidden"].detach().bfloat16(), weight, None, losses)[0].sum().backward()
        gradients.append(weight.grad)
    torch.testing.assert_close(*gradients, rtol=1e-2, atol=8e-3)  # two units in the last place
