"""Products of float32 matrices on the CPU, in training, by the library that is faster there.

torch multiplies float32 matrices with Intel's MKL, which on AMD's processors leaves half of their speed unused; oneDNN,
which torch uses for everything else, does not (docs/results/performance.md). torch has no switch for it, so the linear
layers of a model in training get a forward and a backward that call the operator which compiled code calls. The same
results to rounding.

Shapes: M rows, K inputs, N outputs.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

MIN_PRODUCTS = 1 << 26
"""Multiplications below which oneDNN, which prepares every new shape, gains nothing: batches have all lengths."""


@functools.cache
def onednn_is_faster() -> bool:
    """Whether this is a processor that MKL is slow on. Its maker decides, not a timing: a resumed run must compute as
    the one it goes on from."""
    info = Path("/proc/cpuinfo")
    maker = "AuthenticAMD" if info.exists() and "AuthenticAMD" in info.read_text() else None
    operator = hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return maker is not None and torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available() and operator


def product(left: Tensor, right: Tensor) -> Tensor:
    """[M, K] and [N, K] -> [M, N], without a gradient; either may be a transposed view."""
    if _is_for_onednn(left, right):
        return torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
    return left @ right.T


class TrainedLinear(nn.Linear):
    """`nn.Linear`, computed by `product`."""

    def forward(self, inputs: Tensor) -> Tensor:
        if torch.is_autocast_enabled("cpu") or not _is_for_onednn(inputs, self.weight):
            return F.linear(inputs, self.weight, self.bias)
        return _Linear.apply(inputs, self.weight, self.bias)


def speed_up_linears(model: nn.Module) -> None:
    """Let the linear layers of a model that is about to be trained compute by `product`; nothing else about them
    changes."""
    for module in model.modules():
        if type(module) is nn.Linear and onednn_is_faster():
            module.__class__ = TrainedLinear


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        to_inputs, to_weight, _ = ctx.needs_input_grad
        ctx.shape = inputs.shape
        ctx.save_for_backward(inputs if to_weight else None, weight if to_inputs else None)
        return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        to_inputs, to_weight, to_bias = ctx.needs_input_grad
        return (
            product(rows, weight.T).view(ctx.shape) if to_inputs else None,
            product(rows.T, inputs.flatten(0, -2).T) if to_weight else None,
            rows.sum(0) if to_bias else None,
        )


def _is_for_onednn(left: Tensor, right: Tensor) -> bool:
    """[..., K] and [N, K]"""
    if left.dtype != torch.float32 or left.device.type != "cpu" or not onednn_is_faster():
        return False
    return left.numel() * right.shape[0] >= MIN_PRODUCTS
