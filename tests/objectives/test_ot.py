"""Optimal transport: Sinkhorn's plan against the exact assignment, its masses, its gradient."""

from itertools import permutations

import torch

from comsl.model.packing import Spans
from comsl.objectives.ot import costs, transport_plan
from comsl.objectives.views import Packed


def packed(*lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(sum(lengths), 4, generator=generator, dtype=torch.float64, requires_grad=True)
    return Packed(states, Spans.consecutive(torch.tensor(lengths)))


def masks(*lengths):
    lengths = torch.tensor(lengths)
    return torch.arange(int(lengths.max()))[None] < lengths[:, None]


def test_a_sharp_plan_is_the_best_assignment():
    cost = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plan = transport_plan(cost, masks(5, 5, 5), masks(5, 5, 5), 0.002, 3000)
    for one, found in zip(cost, plan, strict=True):
        best = min(one[range(5), order].mean() for order in map(list, permutations(range(5))))
        torch.testing.assert_close((one * found).sum(), best, atol=1e-3, rtol=0)


def test_every_position_gives_and_takes_its_share_and_padding_none():
    rows, columns = masks(5, 3, 1), masks(2, 4, 4)
    cost = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    plan = transport_plan(cost, rows, columns, 0.1, 200)
    expected = [side / side.sum(1, keepdim=True) for side in (rows.double(), columns.double())]
    torch.testing.assert_close(plan.sum(2), expected[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(plan.sum(1), expected[1], atol=1e-6, rtol=0)


def test_cost_is_cosine_and_place():
    speech, text = packed(3), packed(2, seed=1)
    cost = costs(speech, text, position=0.5)[0]
    cosine = torch.nn.functional.cosine_similarity(speech.states[2], text.states[0], dim=0)
    torch.testing.assert_close(cost[2, 0], 1 - cosine + 0.5)
    cosine = torch.nn.functional.cosine_similarity(speech.states[1], text.states[1], dim=0)
    torch.testing.assert_close(cost[1, 1], 1 - cosine + 0.25)


def test_gradient_is_that_of_the_regularised_distance():
    """d/dx of min over plans of <plan, cost> - regularisation x entropy, by differences."""
    speech, text = packed(3), packed(4, seed=1)
    settings = masks(3), masks(4), 0.2, 500

    def regularised(states):
        cost = costs(Packed(states, speech.spans), text, 0.5)
        plan = transport_plan(cost, *settings)
        return (plan * cost).sum() + 0.2 * (plan * plan.log()).sum()

    cost = costs(speech, text, 0.5)
    (transport_plan(cost, *settings) * cost).sum().backward()
    step = torch.zeros_like(speech.states)
    step[1, 2] = 1e-5
    with torch.no_grad():
        difference = (regularised(speech.states + step) - regularised(speech.states - step)) / 2e-5
    torch.testing.assert_close(speech.states.grad[1, 2], difference, atol=1e-6, rtol=1e-4)
