"""Tensors that the backward of a training step computes again instead of autograd keeping them.

Between forward and backward autograd keeps what gradients are worked out from. Much of that follows from tensors that
it keeps anyway, for next to nothing: what an activation function or a normalisation gave follows from what it was
given, a padded copy from the packed one. Together they are 40% of what the layers of a Transformer keep, while all
that multiplies stays kept: unlike gradient checkpointing, which computes whole layers again, this costs no time.

It works below autograd, through its hooks for saved tensors, so that layers, precision and wrappers (DDP, FSDP) do not
matter. A tensor is computed by the same kernel from the same numbers, so that gradients are the same to the bit.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.activations import GELUActivation, SiLUActivation

FROM_THEIR_INPUT = (nn.LayerNorm, nn.GELU, nn.SiLU, GELUActivation, SiLUActivation)
"""Modules whose gradient needs their input. (Not ReLU: its gradient needs its output, which is kept once.)"""


class _Recipe(NamedTuple):
    """How to compute a tensor; the versions tell whether it, or what it follows from, was changed in place since."""

    function: Callable[[Tensor], Tensor]
    inputs: Tensor
    inputs_version: int
    output_version: int


_Recipes = weakref.WeakKeyDictionary[torch.UntypedStorage, _Recipe]

_recipes: ContextVar[_Recipes | None] = ContextVar("recipes", default=None)
"""Of the tensors that exist now, by their memory, which they share with their views; None outside of `recomputing`."""


@contextmanager
def recomputing() -> Iterator[None]:
    """Of what is computed in this block, autograd keeps recipes instead of `recomputed` tensors."""
    recipes: _Recipes = weakref.WeakKeyDictionary()

    def keep(tensor: Tensor) -> Any:
        recipe = recipes.get(tensor.untyped_storage())
        if recipe is None or recipe.output_version != tensor._version:
            return tensor
        return recipe, tensor.size(), tensor.stride(), tensor.storage_offset()

    def restore(kept: Any) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        recipe, size, stride, offset = kept
        if recipe.inputs._version != recipe.inputs_version:
            raise RuntimeError("a tensor that the backward computes another one from was changed in place")
        return recipe.function(recipe.inputs).as_strided(size, stride, offset)

    token = _recipes.set(recipes)
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, restore):
            yield
    finally:
        _recipes.reset(token)


def recomputed(function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """`function(inputs)`, a new tensor, of which autograd keeps `inputs` alone.

    Pays where `inputs` are kept anyway. `function` must be deterministic, and as fast as copying.
    """
    output = function(inputs)
    _remember(function, inputs, output)
    return output


def recompute_cheap_layers(model: nn.Module) -> None:
    """Let the outputs of a model's normalisations and activation functions be recomputed."""
    for module in model.modules():
        if isinstance(module, FROM_THEIR_INPUT) and _remember_output not in module._forward_hooks.values():
            module.register_forward_hook(_remember_output)


def _remember_output(module: Any, arguments: tuple[Tensor], output: Tensor) -> None:
    _remember(module.forward, arguments[0], output)


def _remember(function: Callable[[Tensor], Tensor], inputs: Tensor, output: Tensor) -> None:
    recipes = _recipes.get()
    if recipes is not None and output.requires_grad:
        recipes[output.untyped_storage()] = _Recipe(function, inputs.detach(), inputs._version, output._version)
