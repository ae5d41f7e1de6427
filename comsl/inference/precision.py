"""What a model computes in when it only translates: float32, bfloat16, float16 or int8.

On the CPU nearly all of the time goes into products with weights, so ``with_precision`` replaces the linear layers by
ones whose weights oneDNN has laid out once as its kernels read them. That is torch's own library, but torch has no
public way to keep such a weight (``torch.utils.mkldnn`` re-orders the input of every call, which costs more than it
gains for the few rows of a decoder step; ``torch.compile`` needs a compiler and a minute): the operators below are the
ones that compiled code calls.

float32   the same results to rounding. Used on the processors that the library which torch takes otherwise (MKL) is
          slow on: ``comsl.model.products.onednn_is_faster``.
bfloat16  half the memory, three significant digits.
int8      a quarter of the memory: each row of weights has a scale of its own, and so has each row of inputs (torch's
          ready-made dynamic quantisation takes one scale for all inputs of a call, which would make a sentence depend
          on what else is in the batch). Norms, convolutions and attention stay in float32.

Letters: M rows, K inputs and N outputs of a linear layer; V tokens, d width.
"""

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor, nn

from comsl.errors import ComSLError, UsageError
from comsl.inference import Precision
from comsl.model import load_model
from comsl.model.products import TrainedLinear, onednn_is_faster

Model = TypeVar("Model", bound=nn.Module)


class PrecisionError(UsageError):
    """A precision that this device or this build of torch does not compute in."""


def load_for_inference(
    path: str | Path, device: str | torch.device | None = None, precision: Precision | None = None
) -> tuple[Any, Any]:
    """A ComSL model, ready to translate, and its processor.

    Args:
        path: hub id, model or run directory.
        device: None: a CUDA GPU if there is one, else the CPU.
        precision: None: float32 on the CPU, bfloat16 (or float16 where the GPU lacks it) elsewhere.

    Raises:
        PrecisionError: the device does not compute in it; before anything is read.
        ModelLoadError: nothing there, not a ComSL model, or weights missing.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if precision is None:
        precision = "float32"
        if device.type == "cuda":
            precision = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    check_precision(precision, device)
    # What becomes int8 is read as it was saved: no gigabytes of float32 on the way.
    model, processor = load_model(path, None if precision == "int8" else getattr(torch, precision))
    model.to(device)  # type: ignore[arg-type]
    return with_precision(model, precision), processor


def with_precision(model: Model, precision: Precision) -> Model:
    """Prepare a model for inference in ``precision``, in place, on the device where it is.

    It can neither be trained, saved nor moved afterwards; load it anew for that.

    Args:
        model: any model of linear layers and embeddings, in any floating type.

    Returns:
        The same model, in evaluation mode.

    Raises:
        PrecisionError: float16 or bfloat16 on a CPU that only emulates them; int8 elsewhere than on the CPU.
    """
    if any(isinstance(module, _Packed) for module in model.modules()):
        raise ComSLError("the model has been given a precision already; load it anew to choose another")
    device = next(model.parameters()).device
    check_precision(precision, device)
    model.eval().requires_grad_(False)
    if hasattr(model, "sparse_lookups"):  # a setting of training, which reads the weights themselves
        model.sparse_lookups = False  # type: ignore[assignment]
    if device.type != "cpu":
        return model.to(getattr(torch, precision))
    if precision == "int8":
        _quantize_embeddings(model)
        _replace_linears(model, QuantizedLinear)
        return _let_go_of_file(_cast(model, torch.float32))
    _cast(model, getattr(torch, precision))
    if precision == "bfloat16" or (precision == "float32" and _has_onednn() and onednn_is_faster()):
        _replace_linears(model, PackedLinear)
        _let_go_of_file(model)
    return model


def check_precision(precision: str, device: torch.device) -> None:
    """PrecisionError for what cannot be computed on the device, UsageError for what is no precision."""
    if precision not in get_args(Precision):
        raise UsageError(f"unknown precision {precision!r}: use one of {', '.join(get_args(Precision))}")
    if device.type != "cpu":
        if precision == "int8":
            raise PrecisionError(f"int8 is for the CPU, not for {device.type}: use bfloat16 or float16 there")
        return
    if precision == "int8" and not _has_onednn():
        raise PrecisionError(f"int8 needs oneDNN, which torch {torch.__version__} was built without here: use float32")
    kinds = {"bfloat16": "_is_mkldnn_bf16_supported", "float16": "_is_mkldnn_fp16_supported"}
    able = torch.cpu.get_capabilities()
    emulated = precision == "bfloat16" and able.get("architecture") == "x86_64"
    emulated = emulated and not (able.get("avx512_bf16") or able.get("amx_bf16"))
    if precision in kinds and (emulated or not (_has_onednn() and getattr(torch.ops.mkldnn, kinds[precision])())):
        other = "float32 or int8" if precision == "bfloat16" else "float32, bfloat16 or int8"
        raise PrecisionError(f"this CPU has no {precision} arithmetic and would be slower with it: use {other}")


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all weights, a shared one counted once."""
    packed = sum(module.size for module in model.modules() if isinstance(module, _Packed))
    return packed + _bytes(*model.parameters(), *model.buffers())


@functools.cache
def _has_onednn() -> bool:
    """Whether torch has the operators used here. They are not public, so a torch that lacks them is spoken about."""
    if not torch.backends.mkldnn.is_available():
        return False
    wanted = {"mkldnn": ("_reorder_linear_weight", "_linear_pointwise"), "onednn": ("qlinear_prepack",)}
    missing = [f"{group}.{name}" for group, names in wanted.items() for name in names if not _has(group, name)]
    if missing:
        warnings.warn(
            f"torch {torch.__version__} has no operator {', '.join(missing)} any more: linear layers run in torch's"
            " own float32, which may be several times slower, and nothing else is offered on the CPU",
            stacklevel=3,
        )
    return not missing


def _has(group: str, name: str) -> bool:
    return hasattr(getattr(torch.ops, group), name)


# ----------------------------------------------------------------------------------------------------------- layers


class _Packed(nn.Module):
    """A layer for inference whose weights are no parameters: oneDNN's layouts are opaque to torch."""

    size: int
    """Bytes of what it holds."""

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "_Packed":
        raise ComSLError("a model that was given a precision can neither be moved nor cast; load it anew")

    def _save_to_state_dict(self, *_: Any) -> None:
        raise ComSLError("a model that was given a precision cannot be saved; save the one it was loaded from")


class PackedLinear(_Packed):
    """``nn.Linear`` in float32 or bfloat16 with its weight in oneDNN's layout."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach())
        self.bias = None if layer.bias is None else layer.bias.detach().clone()
        self.size = _bytes(layer.weight, layer.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., K] -> [..., N]."""
        return torch.ops.mkldnn._linear_pointwise(inputs, self.packed, self.bias, "none", [], "")


class QuantizedLinear(_Packed):
    """``nn.Linear`` with a weight of 8 bits: float32 in and out, one scale a row on either side of the product."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight, self.scales = _quantize_weight(layer.weight, weight_levels())
        self.packed = torch.ops.onednn.qlinear_prepack(weight, None)
        self.zeros = torch.zeros(len(weight), dtype=torch.long)
        self.bias = None if layer.bias is None else layer.bias.detach().float().clone()
        self.size = _bytes(weight, self.scales, self.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., K] -> [..., N]."""
        rows = inputs.flatten(0, -2)
        codes, scales = quantize_rows(rows, 127)
        # The kernels want unsigned inputs: the same integers, with 128 for zero.
        codes = codes.view(torch.uint8).bitwise_xor_(0x80)
        product = self.product(codes)
        if self.bias is None:
            product *= scales[:, None]
        else:
            torch.addcmul(self.bias, product, scales[:, None], out=product)
        return product.view(*inputs.shape[:-1], -1)

    def product(self, codes: Tensor) -> Tensor:
        """uint8 [M, K], 128 for zero -> float32 [M, N]: the kernel alone."""
        return torch.ops.onednn.qlinear_pointwise(
            codes, 1.0, 128, self.packed, self.scales, self.zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )


class QuantizedEmbedding(_Packed):
    """A scaled embedding whose rows are kept in 8 bits."""

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        self.codes, self.scales = _quantize_weight(embedding.weight, 127)
        self.embed_scale = getattr(embedding, "embed_scale", 1.0)
        self.size = _bytes(self.codes, self.scales)

    def forward(self, ids: Tensor) -> Tensor:
        """[...] -> [..., d] float32."""
        return self.codes[ids] * (self.scales[ids] * self.embed_scale)[..., None]


def quantize_rows(values: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Floats [M, K] -> int8 [M, K] from -levels to levels, and the float32 scales [M] that bring them back."""
    largest = torch.maximum(values.amax(dim=1), -values.amin(dim=1))  # abs() would write a copy of it all
    scales = (largest.float() / levels).clamp_(min=torch.finfo(torch.float32).tiny)
    return (values / scales[:, None]).round_().to(torch.int8), scales


def weight_levels() -> int:
    """63 on a CPU without VNNI, where two products of an input (0 to 255) and a weight are summed in 16 bits."""
    able = torch.cpu.get_capabilities()
    return 127 if able.get("avx512_vnni") or able.get("avx_vnni") else 63


def _quantize_weight(weight: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """``quantize_rows`` a piece at a time: a vocabulary's weight in floats is a gigabyte for every copy."""
    codes, scales = zip(*(quantize_rows(piece, levels) for piece in weight.detach().split(4096)), strict=True)
    return torch.cat(codes), torch.cat(scales)


def _bytes(*tensors: Tensor | None) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)


def _quantize_embeddings(model: Any) -> None:
    """Only what looks tokens up: positions are few, and read in other ways."""
    weight = model.get_input_embeddings().weight
    quantized = QuantizedEmbedding(model.get_input_embeddings())
    _replace(
        model, lambda parent, child: quantized if isinstance(child, nn.Embedding) and child.weight is weight else None
    )


def _replace_linears(model: nn.Module, kind: Callable[[nn.Linear], nn.Module]) -> None:
    def new(parent: nn.Module, child: nn.Module) -> nn.Module | None:
        # WavLM's attention reads the weights of its layers itself.
        fit = type(child) in (nn.Linear, TrainedLinear) and type(parent).__name__ != "WavLMAttention"
        return kind(child) if fit else None  # type: ignore[arg-type]

    _replace(model, new)


def _replace(parent: nn.Module, new: Callable[[nn.Module, nn.Module], nn.Module | None]) -> None:
    """Put in the place of each module what ``new(its parent, it)`` makes of it; None leaves it.

    Layer by layer, and no list of them: each old one is gone before the next new one is made.
    """
    for name in [name for name, _ in parent.named_children()]:
        child = parent.get_submodule(name)
        replacement = new(parent, child)
        if replacement is None:
            _replace(child, new)
        else:
            setattr(parent, name, replacement)


def _let_go_of_file(model: Model) -> Model:
    """Copy the weights that are left, so that none of them keeps the checkpoint, a mapped file, in memory."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            # Not by its data: mBART's bias is loaded as a view, and a view keeps what it was a view of.
            setattr(module, name, buffer.clone())
    return model


def _cast(model: Model, dtype: torch.dtype) -> Model:
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
    return model
