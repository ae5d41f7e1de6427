"""Low-rank adaptation (LoRA; Hu et al., 2022) of the pretrained parts, through peft.

A linear layer W [N, K] of an adapted part stays as it is and gets two small matrices beside it: its output becomes
W x + (alpha / rank) B A x, with A [rank, K] and B [N, rank], of which B starts at zero. Merged, W + (alpha / rank) B A
is a linear layer like any other, so a trained model is saved as a plain one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from comsl.errors import UsageError, nearest

from .compose import seeded

PARTS = ("speech_encoder", "text_model")
BASE = ".base_layer."
FIRST, SECOND = ".lora_A.default.weight", ".lora_B.default.weight"


def add_lora(
    model: Any, parts: Iterable[str], layers: Sequence[str], rank: int, alpha: float, dropout: float, seed: int
) -> None:
    """Freeze parts of a ComSL model and give their linear layers LoRA matrices, which learn.

    Args:
        parts: of ``PARTS``; what else there is (the length adapter, a CTC head, a part not named) learns as before.
        layers: last names of the linear layers inside the transformer stacks, such as ``q_proj``.
        dropout: of what the matrices read.
        seed: of the matrices A.

    Raises:
        UsageError: peft is not installed; a part without a layer of any of these names, or a name that no part has.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UsageError("lora: needs the package peft; pip install 'comsl[lora]'") from error
    stacks = {"speech_encoder": model.speech_encoder, "text_model": model.text_model.model}
    found = {part: _linear_names(stacks[part]) for part in parts}
    _check_layers(layers, found)
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(layers))  # type: ignore[arg-type]
    with seeded(seed):
        for part in found:
            getattr(model, part).requires_grad_(False)  # the output layer too, where it is not the embedding
            inject_adapter_in_model(config, stacks[part])


def _linear_names(part: nn.Module) -> set[str]:
    return {name.rpartition(".")[2] for name, module in part.named_modules() if isinstance(module, nn.Linear)}


def _check_layers(layers: Sequence[str], found: Mapping[str, set[str]]) -> None:
    known = set().union(*found.values())
    for layer in layers:
        if layer not in known:
            near = nearest(layer, known)
            hint = f"did you mean {near!r}?" if near else f"there are {', '.join(sorted(known))}"
            raise UsageError(f"lora.layers: no linear layer of {' or '.join(found)} is called {layer!r}; {hint}")
    for part, names in found.items():
        if not names & set(layers):
            raise UsageError(f"lora.layers: {part} has none of them; its linear layers are {', '.join(sorted(names))}")


def merged_weights(state: Mapping[str, Tensor], scaling: float) -> dict[str, Tensor]:
    """The state of the plain model that computes what a model with LoRA does.

    Args:
        state: of a model after :func:`add_lora`.
        scaling: alpha / rank.
    """
    merged = {}
    for name, tensor in state.items():
        if FIRST in name or SECOND in name:
            continue
        layer, base, weight = name.rpartition(BASE)
        if not base:
            merged[name] = tensor
        elif weight == "weight":
            with torch.no_grad():
                merged[f"{layer}.weight"] = tensor + scaling * (state[layer + SECOND] @ state[layer + FIRST])
        else:
            merged[f"{layer}.{weight}"] = tensor
    return merged


def sharing_copy(part: nn.Module) -> Any:
    """A copy of a module over the same weights: what the module is before LoRA is added to it, at no cost in memory."""
    tensors = [*part.parameters(), *part.buffers()]
    return copy.deepcopy(part, {id(tensor): tensor for tensor in tensors})
