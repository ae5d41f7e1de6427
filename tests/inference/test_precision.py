"""Precisions: how near to float32 each stays, what it saves, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from comsl.errors import ComSLError, UsageError
from comsl.inference.precision import (
    PackedLinear,
    PrecisionError,
    QuantizedLinear,
    check_precision,
    load_for_inference,
    quantize_rows,
    weight_bytes,
    weight_levels,
    with_precision,
)
from comsl.inference.translate import shipped_model
from comsl.model import ComSLForConditionalGeneration, compose, load_model
from comsl.model.products import speed_up_linears
from tests import tiny

CPU = torch.device("cpu")
needs_bfloat16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bfloat16 arithmetic"
)
PRECISIONS = ["float32", pytest.param("bfloat16", marks=needs_bfloat16), "int8"]


def linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(inputs, outputs, bias).requires_grad_(False)


def rows(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("shape", "outputs"), [((1, 16), 24), ((2, 7, 100), 33), ((300, 256), 1024)])
def test_a_packed_layer_gives_what_torchs_own_gives(shape: tuple[int, ...], outputs: int, bias: bool) -> None:
    layer, inputs = linear(shape[-1], outputs, bias), rows(*shape)
    torch.testing.assert_close(PackedLinear(layer)(inputs), layer(inputs), atol=1e-5, rtol=1e-5)


def test_rows_are_quantised_to_the_nearest_of_255_steps() -> None:
    codes, scales = quantize_rows(torch.tensor([[-1.27, 0.634, 0.0], [0.0, 0.0, 0.0], [254.0, 1.0, -3.0]]), 127)
    assert codes.tolist() == [[-127, 63, 0], [0, 0, 0], [127, 0, -2]]  # halves go to the even neighbour
    assert scales[[0, 2]].tolist() == pytest.approx([0.01, 2.0])
    assert (codes[1] * scales[1]).tolist() == [0.0] * 3


@pytest.mark.parametrize("bias", [True, False])
def test_an_integer_layer_is_the_product_of_the_rounded_factors(bias: bool) -> None:
    layer, inputs = linear(100, 33, bias), rows(2, 7, 100)
    quantized = QuantizedLinear(layer)
    codes, scales = quantize_rows(inputs.flatten(0, 1), 127)
    weights, steps = quantize_rows(layer.weight, weight_levels())
    expected = (codes.double() * scales[:, None]) @ (weights.double() * steps[:, None]).T
    expected = expected + (layer.bias if bias else 0.0)
    torch.testing.assert_close(quantized(inputs).flatten(0, 1).double(), expected, atol=1e-5, rtol=1e-5)
    assert (quantized(inputs) - layer(inputs)).norm() < 0.03 * layer(inputs).norm()


@pytest.mark.parametrize("processor", ["AVX512_CORE", "AVX2"])
def test_a_processor_without_vnni_does_not_overflow(processor: str) -> None:
    """oneDNN held to older instructions; the weights and inputs are the largest there are."""
    code = (
        "import torch\nfrom comsl.inference import precision\n"
        "precision.weight_levels = lambda: 63\n"
        "layer = torch.nn.Linear(1024, 64, bias=False).requires_grad_(False)\n"
        "layer.weight.data = 0.03 * torch.sign(layer.weight)\n"
        "inputs = torch.cat([layer.weight, -layer.weight])\n"
        "error = precision.QuantizedLinear(layer)(inputs) - layer(inputs)\n"
        "print((error.norm() / layer(inputs).norm()).item())"
    )
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": processor}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert float(done.stdout) < 0.01


def test_an_integer_row_does_not_depend_on_its_neighbours() -> None:
    quantized, inputs = QuantizedLinear(linear(64, 32)), rows(9, 64)
    inputs[3] *= 1000.0
    together = quantized(inputs)
    for place, row in enumerate(inputs):
        torch.testing.assert_close(quantized(row[None])[0], together[place], atol=0.0, rtol=0.0)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("precision") / "comsl"
    tiny.tiny_comsl(path)
    return path


def logits(model: Any, processor: Any, seconds: tuple[float, ...] = (1.0, 0.6)) -> torch.Tensor:
    """[rows, 3, V] of clips after a prompt of three tokens."""
    clips = [processor.features(tiny.waveform(length, seed)) for seed, length in enumerate(seconds)]
    batch = processor.pad_features(clips)
    with torch.no_grad():
        prompt = torch.tensor([[2, processor.language_id("en"), 5]] * len(clips))
        ids = torch.tensor([processor.language_id("de")] * len(clips))
        return model(**batch, source_language_ids=ids, decoder_input_ids=prompt).logits.float()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", ["whisper", "wav2vec2", "wavlm", "wav2vec2_bert"])
@pytest.mark.parametrize("text", ["mbart50", "m2m100"])
def test_every_family_in_every_precision(family: str, text: str, precision: Any, tmp_path: Path) -> None:
    parts = [getattr(tiny, f"tiny_{name}")(tmp_path / name) for name in (family, text)]
    model, processor = compose(*parts)
    expected = logits(model.eval(), processor)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("comsl.inference.precision.onednn_is_faster", lambda: True)
        assert with_precision(model, precision) is model
    assert isinstance(model.text_model.lm_head, QuantizedLinear if precision == "int8" else PackedLinear)
    error = (logits(model, processor) - expected).norm() / expected.norm()
    assert error < {"float32": 1e-5, "bfloat16": 0.05, "int8": 0.1}[precision]


def test_weights_shrink_and_a_shared_embedding_is_held_once(directory: Path) -> None:
    """Sizes for a model whose weights are nearly all in linear layers and in the embedding."""

    def size(precision: Any) -> float:
        model = ComSLForConditionalGeneration.from_pretrained(directory)
        return weight_bytes(model if precision is None else with_precision(model, precision))

    model = ComSLForConditionalGeneration.from_pretrained(directory)
    whole = sum(tensor.numel() * 4 for tensor in [*model.parameters(), *model.buffers()])
    assert size(None) == whole
    table = model.output_weight.numel()
    linears = {module.weight: module for module in model.modules() if type(module) is nn.Linear}
    inside = sum(weight.numel() for weight in linears) - table
    outputs = sum(len(weight) for weight in linears)
    # One byte a weight, the vocabulary's twice (looked up and multiplied), and four a scale.
    saved = 3 * inside + 4 * table - 2 * table - 4 * outputs - 4 * len(model.output_weight)
    assert size("int8") == whole - saved


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_row_alone_and_beside_others(directory: Path, precision: Any) -> None:
    from comsl.model import load_model

    model, processor = load_model(directory)
    with_precision(model, precision)
    together, alone = logits(model, processor), logits(model, processor, (1.0,))
    tolerance = {"float32": 1e-4, "bfloat16": 0.1, "int8": 1e-2}[precision]
    torch.testing.assert_close(together[:1], alone, atol=tolerance, rtol=tolerance)


def test_what_has_a_precision_is_for_inference_only(directory: Path, tmp_path: Path) -> None:
    model = with_precision(ComSLForConditionalGeneration.from_pretrained(directory), "int8")
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(ComSLError, match="saved"):
        model.save_pretrained(tmp_path)
    with pytest.raises(ComSLError, match="cast"):
        model.half()
    with pytest.raises(ComSLError, match="already"):
        with_precision(model, "float32")


def test_wrong_precisions() -> None:
    with pytest.raises(UsageError, match="unknown precision 'int4': use one of float32, bfloat16, float16, int8"):
        check_precision("int4", CPU)
    with pytest.raises(PrecisionError, match="int8 is for the CPU, not for cuda"):
        check_precision("int8", torch.device("cuda"))
    check_precision("float16", torch.device("cuda"))
    if not torch.ops.mkldnn._is_mkldnn_fp16_supported():
        with pytest.raises(PrecisionError, match="no float16 arithmetic"):
            check_precision("float16", CPU)


def test_a_torch_without_the_operators_is_spoken_about(monkeypatch: pytest.MonkeyPatch) -> None:
    from comsl.inference import precision

    monkeypatch.setattr(precision, "_has", lambda group, name: group != "onednn")
    precision._has_onednn.cache_clear()
    try:
        with (
            pytest.warns(UserWarning, match=r"no operator onednn\.qlinear_prepack"),
            pytest.raises(PrecisionError, match="int8 needs oneDNN"),
        ):
            check_precision("int8", CPU)
    finally:
        precision._has_onednn.cache_clear()


def test_a_model_that_was_trained_before_is_quantised_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training leaves other classes of linear layers and sparse lookups behind."""
    monkeypatch.setattr("comsl.model.products.onednn_is_faster", lambda: True)
    model, _ = load_model(shipped_model())
    ids = torch.tensor([[5, 6, 7]])
    before = model.encode(input_ids=ids).last_hidden_state
    speed_up_linears(model)
    model.sparse_lookups = True
    after = with_precision(model, "int8").encode(input_ids=ids).last_hidden_state
    assert not any(isinstance(module, torch.nn.Linear) for module in model.modules())
    assert (after - before).norm() < 0.05 * before.norm()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux says what is mapped")
def test_the_checkpoint_does_not_stay_in_memory_beside_what_was_made_of_it(tmp_path):
    tiny.tiny_comsl(tmp_path / "model")
    model, _ = load_for_inference(tmp_path / "model", "cpu", "int8")
    assert model.training is False
    assert str(tmp_path / "model") not in Path("/proc/self/maps").read_text()
