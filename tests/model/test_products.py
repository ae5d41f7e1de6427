"""Linear layers in training: whatever library multiplies, what nn.Linear gives."""

import pytest
import torch
from torch import nn

from comsl.model import products
from comsl.model.products import TrainedLinear, product, speed_up_linears

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")


@pytest.fixture(params=[pytest.param(True, marks=needs_onednn), False])
def onednn(request, monkeypatch):
    monkeypatch.setattr(products, "onednn_is_faster", lambda: request.param)
    monkeypatch.setattr(products, "MIN_PRODUCTS", 1)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 7), (1, 5, 7), (2, 3, 5, 7)])
def test_output_and_gradients_are_those_of_a_linear_layer(onednn, shape, bias):
    torch.manual_seed(0)
    plain = nn.Linear(7, 4, bias=bias)
    fast = TrainedLinear(7, 4, bias=bias)
    fast.load_state_dict(plain.state_dict())
    results = []
    for layer in (plain, fast):
        inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1), requires_grad=True)
        output = layer(inputs.transpose(0, 0))
        output.square().sum().backward()
        results.append([output, inputs.grad, *(parameter.grad for parameter in layer.parameters())])
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference)


def test_nothing_is_computed_for_what_is_frozen(onednn):
    layer = TrainedLinear(7, 4)
    layer.weight.requires_grad_(False)
    inputs = torch.randn(5, 7)
    layer(inputs).sum().backward()
    assert layer.weight.grad is None
    torch.testing.assert_close(layer.bias.grad, torch.full((4,), 5.0))


def test_products_of_views_and_of_nothing(onednn):
    left, right = torch.randn(6, 5), torch.randn(5, 3)
    torch.testing.assert_close(product(left, right.T), left @ right)
    torch.testing.assert_close(product(left.T, right.new_ones(3, 6)), left.T @ right.new_ones(6, 3))
    assert product(left[:0], right.T).shape == (0, 3)
    torch.testing.assert_close(product(left.double(), right.T.double()), left.double() @ right.double())


def test_autocast_decides_the_precision(onednn):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert TrainedLinear(7, 4)(torch.randn(5, 7)).dtype == torch.bfloat16


@pytest.mark.parametrize("faster", [True, False])
def test_only_plain_linear_layers_change_and_only_where_it_pays(monkeypatch, faster):
    class Own(nn.Linear):
        pass

    monkeypatch.setattr(products, "onednn_is_faster", lambda: faster)
    model = nn.Sequential(nn.Linear(2, 2), Own(2, 2), nn.LayerNorm(2))
    weights = model.state_dict()
    speed_up_linears(model)
    assert [type(module) for module in model] == [TrainedLinear if faster else nn.Linear, Own, nn.LayerNorm]
    assert model.state_dict().keys() == weights.keys()
