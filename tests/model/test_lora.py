"""LoRA on the parts of a model: what learns, what is computed, what is saved."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer

from comsl.errors import UsageError
from comsl.model.lora import add_lora, merged_weights, sharing_copy
from tests.tiny import tiny_comsl

LAYERS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
RANK, ALPHA = 3, 12.0


def adapted(path: Path, *parts: str, layers: list[str] = LAYERS) -> Any:
    """A tiny model with LoRA matrices that are not zero any more."""
    model, _ = tiny_comsl(path)
    add_lora(model, parts, layers, RANK, ALPHA, 0.0, seed=0)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1, generator=generator)
    return model.eval()


def outputs(model: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        return model(
            input_features=torch.randn(2, 80, 60, generator=generator),
            attention_mask=torch.ones(2, 60, dtype=torch.long),
            source_language_ids=torch.tensor([20, 21]),
            decoder_input_ids=torch.tensor([[2, 20, 5, 6], [2, 21, 7, 8]]),
        ).logits


def test_what_learns(tmp_path: Path) -> None:
    model = adapted(tmp_path, "speech_encoder", "text_model")
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name in learning if not name.startswith("adapter.")} == {
        name for name, _ in model.named_parameters() if "lora_" in name
    }
    assert {name for name, _ in model.adapter.named_parameters(prefix="adapter")} <= learning
    # 2 speech layers of 6 linear layers, 3 encoder layers of 6, 2 decoder layers of 10; two matrices each.
    assert sum("lora_" in name for name in learning) == 2 * (2 * 6 + 3 * 6 + 2 * 10)


def test_a_part_that_is_not_named_learns_as_before(tmp_path: Path) -> None:
    model = adapted(tmp_path, "text_model", layers=["q_proj"])
    assert all(parameter.requires_grad for parameter in model.adapter.parameters())
    plain, _ = tiny_comsl(tmp_path / "plain")
    before = {name for name, parameter in plain.speech_encoder.named_parameters() if parameter.requires_grad}
    assert {name for name, item in model.speech_encoder.named_parameters() if item.requires_grad} == before
    assert not model.output_weight.requires_grad


def test_merged_weights_compute_the_same(tmp_path: Path) -> None:
    model = adapted(tmp_path, "speech_encoder", "text_model")
    plain, _ = tiny_comsl(tmp_path / "plain")
    before = outputs(plain)
    merged = merged_weights(model.state_dict(), ALPHA / RANK)
    assert merged.keys() == plain.state_dict().keys()
    plain.load_state_dict(merged)
    torch.testing.assert_close(outputs(plain), outputs(model), atol=1e-4, rtol=1e-4)
    assert (outputs(plain) - before).abs().max() > 0.01
    # peft's own merging, layer by layer.
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            module.merge()  # type: ignore[operator]
            torch.testing.assert_close(module.get_base_layer().weight, merged[f"{name}.weight"])


def test_a_fresh_model_with_lora_computes_what_it_did(tmp_path: Path) -> None:
    model, _ = tiny_comsl(tmp_path)
    before = outputs(model)
    add_lora(model, ["speech_encoder", "text_model"], LAYERS, RANK, ALPHA, 0.5, seed=0)
    torch.testing.assert_close(outputs(model), before, atol=0, rtol=0)


def test_the_seed_decides_on_the_matrices(tmp_path: Path) -> None:
    def first(seed: int) -> torch.Tensor:
        torch.rand(seed + 1)
        model, _ = tiny_comsl(tmp_path / str(seed))
        add_lora(model, ["text_model"], LAYERS, RANK, ALPHA, 0.0, seed)
        return next(item for name, item in model.named_parameters() if "lora_A" in name)

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))


def test_a_sharing_copy_stays_what_the_model_was(tmp_path: Path) -> None:
    model, _ = tiny_comsl(tmp_path)
    teacher = sharing_copy(model.text_model)
    add_lora(model, ["text_model"], LAYERS, RANK, ALPHA, 0.0, seed=0)
    assert not [name for name, _ in teacher.named_parameters() if "lora_" in name]
    theirs, ours = dict(teacher.named_parameters()), dict(model.text_model.named_parameters())
    for name, parameter in theirs.items():
        layer, _, kind = name.rpartition(".")
        assert parameter is (ours[name] if name in ours else ours[f"{layer}.base_layer.{kind}"])


def test_wrong_layers_are_named(tmp_path: Path) -> None:
    model, _ = tiny_comsl(tmp_path)
    with pytest.raises(UsageError, match="no linear layer of text_model is called 'qproj'; did you mean 'q_proj'"):
        add_lora(model, ["text_model"], ["qproj"], RANK, ALPHA, 0.0, seed=0)


def test_without_peft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = tiny_comsl(tmp_path)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UsageError, match=r"lora: needs the package peft; pip install 'comsl\[lora\]'"):
        add_lora(model, ["text_model"], LAYERS, RANK, ALPHA, 0.0, seed=0)
