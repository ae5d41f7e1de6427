"""Parity with the published code: ``python -m benchmarks.parity DIR``.

Loads a directory with ``weights.safetensors``, ``inputs.safetensors`` and ``expected.json`` (whose ``config`` gives
the sizes), computes all seven objectives with this toolkit, and prints a JSON object with the keys ``losses`` and
``grad_norms`` of ``expected.json``. With ``--check`` the differences are printed too and the exit code is 1 if one is
over its tolerance (losses 1e-5, gradient norms 1e-4, relative: the published code casts attention scores to float32).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import MBartConfig, MBartForConditionalGeneration, WhisperConfig

from comsl.model.configuration import ComSLConfig
from comsl.model.modeling import ComSLForConditionalGeneration
from comsl.objectives import JointModel, ObjectiveSet

LOSS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4

TERMS = {
    "asr": "asr_ce_sum",
    "st": "st_ce_sum",
    "ddm_st": "st_ddm_cross_entropy_to_mt_sum",
    "mt": "mt_ce_sum",
    "mt_teacher": "mt_cross_entropy_to_frozen_teacher_sum",
    "stm_asr": "stm_asr_ce_sum",
    "stm_st": "stm_st_ce_sum",
    "ddm_stm": "stm_st_ddm_sum",
    "mtp": "mtp_ce_sum",
    "erm": "erm_sum",
}
"""Our term -> its name in the reference."""

ADAPTER_NAMES = [
    (r"^adapter\.0\.ffn_in\.", "adapter.layers.0.ffn."),
    (r"^adapter\.0\.ffn_in_layer_norm\.", "adapter.layers.0.layer_norm."),
    (r"^adapter\.0\.conv\.", "adapter.layers.0.conv."),
    (r"^adapter\.0\.ffn_out\.", "adapter.layers.1.ffn."),
    (r"^adapter\.0\.ffn_out_layer_norm\.", "adapter.layers.1.layer_norm."),
    (r"^adapter\.1\.conv\.", "adapter.layers.1.conv."),
    (r"^speech_encoder\.", "speech_encoder.encoder."),
]
"""Reference name -> ours; everything else bears the same name."""


def our_name(reference: str) -> str:
    for pattern, replacement in ADAPTER_NAMES:
        reference = re.sub(pattern, replacement, reference)
    return reference


def text_config(sizes: dict[str, Any], weights: dict[str, Tensor]) -> MBartConfig:
    positions = weights["text_model.model.encoder.embed_positions.weight"].shape[0] - 2
    return MBartConfig(
        vocab_size=sizes["vocab_size"],
        d_model=sizes["d_model"],
        encoder_layers=sizes["encoder_layers"],
        decoder_layers=sizes["decoder_layers"],
        encoder_ffn_dim=weights["text_model.model.encoder.layers.0.fc1.weight"].shape[0],
        decoder_ffn_dim=weights["text_model.model.decoder.layers.0.fc1.weight"].shape[0],
        encoder_attention_heads=sizes["heads"],
        decoder_attention_heads=sizes["heads"],
        max_position_embeddings=positions,
        scale_embedding=sizes.get("scale_embedding", True),
        activation_function="gelu",
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        pad_token_id=sizes["pad_token_id"],
        eos_token_id=sizes["eos_token_id"],
    )


def speech_config(sizes: dict[str, Any], weights: dict[str, Tensor]) -> WhisperConfig:
    return WhisperConfig(
        num_mel_bins=weights["speech_encoder.conv1.weight"].shape[1],
        d_model=sizes["speech_d_model"],
        encoder_layers=sizes["speech_layers"],
        encoder_attention_heads=sizes["speech_heads"],
        encoder_ffn_dim=weights["speech_encoder.layers.0.fc1.weight"].shape[0],
        max_source_positions=weights["speech_encoder.embed_positions.weight"].shape[0],
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        encoder_layerdrop=0.0,
    )


def load_models(directory: Path) -> tuple[ComSLForConditionalGeneration, MBartForConditionalGeneration, dict[str, Any]]:
    sizes = json.loads((directory / "expected.json").read_text())["config"]
    if not sizes.get("lm_head_tied", True):
        raise ValueError("config.lm_head_tied: false is not supported: the published model ties them")
    weights = load_file(directory / "weights.safetensors")
    dtype = getattr(torch, sizes.get("dtype", "float64"))
    text = text_config(sizes, weights)
    config = ComSLConfig(
        speech_config=speech_config(sizes, weights),
        text_config=text,
        languages={},
        mask_token_id=sizes["mask_token_id"],
        pad_token_id=sizes["pad_token_id"],
        eos_token_id=sizes["eos_token_id"],
    )
    model = ComSLForConditionalGeneration(config).to(dtype)
    teacher = MBartForConditionalGeneration(text).to(dtype)
    ours = {our_name(name): value for name, value in weights.items() if not name.startswith("teacher.")}
    _load(model, ours)
    _load(teacher, {name[len("teacher.") :]: value for name, value in weights.items() if name.startswith("teacher.")})
    return model, teacher, sizes


def _load(module: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    missing, unexpected = module.load_state_dict(weights, strict=False)
    # Tied names may stand for each other, and the logits' bias is a buffer of zeros.
    optional = ("embed_tokens.weight", "shared.weight", "lm_head.weight", "final_logits_bias")
    missing = [name for name in missing if not name.endswith(optional)]
    if missing or unexpected:
        raise ValueError(f"weights.safetensors: missing {sorted(missing)}, unexpected {sorted(unexpected)}")


def load_batch(directory: Path, pad_token_id: int) -> dict[str, Tensor]:
    """The reference's inputs in our batch's names. It feeds the decoder [language, tokens, end] as they stand."""
    inputs = load_file(directory / "inputs.safetensors")
    source, target = inputs["source_ids"], inputs["target_ids"]

    def labels(name: str) -> Tensor:
        return inputs[name].masked_fill(inputs[name] == pad_token_id, -100)

    masked = inputs["masked_label_positions"].bool()
    mel = inputs["mel"]
    return {
        "input_features": mel,
        "attention_mask": torch.ones(mel.shape[0], mel.shape[2], dtype=torch.long),
        "source_language_ids": source[:, 0],
        "transcript_ids": source,
        "transcript_mask": (source != pad_token_id).long(),
        "masked_transcript_ids": inputs["masked_source_ids"],
        "transcript_decoder_input_ids": source,
        "transcript_labels": labels("source_labels"),
        "mtp_labels": labels("source_labels").masked_fill(~masked, -100),
        "translation_decoder_input_ids": target,
        "translation_labels": labels("target_labels"),
    }


def compute(directory: Path) -> dict[str, dict[str, float]]:
    """All losses (sums) and gradient norms of the paper's total."""
    model, teacher, sizes = load_models(directory)
    settings = dict.fromkeys(("asr", "st", "mt", "ddm", "mtp", "stm"), True)
    joint = JointModel(
        model, ObjectiveSet({**settings, "erm": {"layer": sizes["erm_layer"]}}), teacher, reduction="paper"
    ).eval()
    output = joint({**load_batch(directory, sizes["pad_token_id"])})
    output.loss.backward()
    losses = {"total": output.loss.item()}
    losses.update({reference: output.terms[name][0].item() for name, reference in TERMS.items()})
    for name, term in (("n_source_labels", "asr"), ("n_target_labels", "st"), ("n_masked", "mtp")):
        losses[name] = int(output.terms[term][1])
    return {"losses": losses, "grad_norms": gradient_norms(model, directory)}


def gradient_norms(model: ComSLForConditionalGeneration, directory: Path) -> dict[str, float]:
    """Norms for every trained tensor of the directory, by the reference's names.

    The reference walks the encoder's and the decoder's parameters, so the tied embedding stands there under both of
    their names and not under ``shared`` and ``lm_head``.
    """
    with safe_open(directory / "weights.safetensors", "pt") as file:
        names = [name for name in file.keys() if not name.startswith("teacher.")]  # noqa: SIM118
    parameters = dict(model.named_parameters(remove_duplicate=False))
    norms = {}
    for name in names:
        parameter = parameters.get(our_name(name))
        if parameter is None or not parameter.requires_grad or name.endswith(("shared.weight", "lm_head.weight")):
            continue
        norms[name] = 0.0 if parameter.grad is None else parameter.grad.norm().item()
    return norms


def differences(result: dict[str, dict[str, float]], expected: dict[str, Any]) -> list[str]:
    """One line for every number that is outside its tolerance or missing."""
    lines = []
    for section, tolerance in (("losses", LOSS_TOLERANCE), ("grad_norms", GRADIENT_TOLERANCE)):
        for name, value in expected[section].items():
            got = result[section].get(name, float("nan"))
            # Key biases have no gradient but rounding (1e-17): compare those absolutely.
            if not abs(got - value) <= tolerance * max(abs(value), 1e-3):
                lines.append(f"{section}.{name}: {got!r}, expected {value!r}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--check", action="store_true", help="compare with expected.json; exit code 1 if it differs")
    arguments = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    result = compute(arguments.directory)
    print(json.dumps(result, indent=1))
    if not arguments.check:
        return 0
    expected = json.loads((arguments.directory / "expected.json").read_text())
    lines = differences(result, expected)
    print("\n".join(lines) or f"all {len(expected['losses']) + len(expected['grad_norms'])} agree", file=sys.stderr)
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
