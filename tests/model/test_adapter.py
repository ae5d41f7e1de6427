"""The length adapter: the published formula, and no influence of padding."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from comsl.model import ComSLConfig, LengthAdapter

CONFIG = ComSLConfig(
    speech_config={"model_type": "whisper", "d_model": 6},
    text_config={"model_type": "mbart", "vocab_size": 10, "d_model": 8},
)


def test_two_layers_are_the_published_formula() -> None:
    adapter = LengthAdapter(CONFIG, 6).double()
    x = torch.randn(2, 13, 6, dtype=torch.float64)
    expected = x
    for prefix in ("layers.0.", "layers.1."):
        w = {name.removeprefix(prefix): p for name, p in adapter.state_dict().items() if name.startswith(prefix)}
        inner = F.relu(expected @ w["ffn.0.weight"].T + w["ffn.0.bias"]) @ w["ffn.2.weight"].T + w["ffn.2.bias"]
        summed = expected + 0.5 * inner
        deviation = summed - summed.mean(-1, keepdim=True)
        normal = deviation / (deviation.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        normal = normal * w["layer_norm.weight"] + w["layer_norm.bias"]
        convolved = F.conv1d(normal.transpose(1, 2), w["conv.weight"], w["conv.bias"], stride=2, padding=1)
        value, gate = convolved.chunk(2, dim=1)
        expected = (value * gate.sigmoid()).transpose(1, 2)
    output, lengths = adapter(x, torch.tensor([13, 13]))
    torch.testing.assert_close(output, expected)
    assert output.shape == (2, 4, 8)
    assert lengths.tolist() == [4, 4]


def test_ffn_is_four_times_as_wide() -> None:
    adapter = LengthAdapter(CONFIG, 6)
    shapes = {
        name: tuple(p.shape) for name, p in adapter.named_parameters() if name.endswith("weight") and "norm" not in name
    }
    assert shapes == {
        "layers.0.ffn.0.weight": (24, 6),
        "layers.0.ffn.2.weight": (6, 24),
        "layers.0.conv.weight": (16, 6, 3),
        "layers.1.ffn.0.weight": (32, 8),
        "layers.1.ffn.2.weight": (8, 32),
        "layers.1.conv.weight": (16, 8, 3),
    }


def test_padding_changes_nothing_at_any_length() -> None:
    adapter = LengthAdapter(CONFIG, 6)
    lengths = torch.arange(1, 18)
    padded = torch.randn(17, 17, 6)
    together, shorter = adapter(padded, lengths)
    assert torch.equal(shorter, (lengths + 3) // 4)
    for row, length in enumerate(lengths.tolist()):
        alone, count = adapter(padded[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(together[row, : int(count)], alone[0], atol=1e-6, rtol=0)
        assert not together[row, int(count) :].any()


def test_strides_are_a_setting() -> None:
    config = ComSLConfig(
        speech_config={"model_type": "whisper", "d_model": 6},
        text_config={"model_type": "mbart", "vocab_size": 10, "d_model": 8},
        adapter_strides=[2],
        adapter_kernel_size=5,
    )
    output, lengths = LengthAdapter(config, 6)(torch.randn(1, 9, 6), torch.tensor([9]))
    assert output.shape == (1, 5, 8)
    assert lengths.tolist() == [5]
