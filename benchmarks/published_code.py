"""The published ComSL code as a peer: one training step of its model, read from a directory that the user names.

    git clone https://github.com/nethermanpro/ComSL DIR

None of it is part of this project. What has to be changed to make a step of it run, and is changed here from outside:

* It downloads OpenAI's and Facebook's weights by name: random weights in the same shapes stand in for both.
* `import ffmpeg` (decoding, not part of a step) and torchmetrics' `SumMetric` (its sums are of validation alone, and
  its argument `compute_on_step` no longer exists) are replaced by stand-ins.
* It was written for transformers 4.29, whose mBART had no other attention than the eager one: asked for here.
  Embeddings scale themselves since: the factor it multiplies them with is 1.

The sizes and weights of its losses are those of its `config/exp_spec/comsl.yaml`.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from benchmarks.models import build, mbart_config, whisper_config

SECONDS = 11
"""What it pads or cuts every clip to."""


def published_step(
    directory: Path, size: str, frozen_speech: bool, attention: str
) -> tuple[nn.Module, Callable[[Mapping[str, Any]], Tensor]]:
    """The published model, and a function that gives the loss of a batch as its collator makes it.

    Args:
        directory: a checkout of the published code.
        size: of both parts (see benchmarks.models).
        frozen_speech: as in its first epochs (`disable_spch_grad_epoch`).
        attention: "eager", as it was written, or "sdpa", which it would get from today's transformers.
    """
    if not (directory / "model" / "ComSL_model.py").is_file():
        raise SystemExit(f"{directory}: no published ComSL code there; git clone https://github.com/nethermanpro/ComSL")
    sys.path.insert(0, str(directory))
    _stand_in("ffmpeg")
    _stand_in("torchmetrics", SumMetric=lambda compute_on_step: nn.Identity())
    comsl = importlib.import_module("model.ComSL_model")
    whisper = importlib.import_module("Whisper")
    criterion_module = importlib.import_module("criterion.mix_criterions")
    settings = SimpleNamespace(**yaml.safe_load((directory / "config" / "exp_spec" / "comsl.yaml").read_text()))
    settings.cache_dir, settings.erm_layer, settings.language_regularization_model_path = ".", 4, "teacher"

    def text_model(*_: Any, **__: Any) -> nn.Module:
        from transformers import MBartForConditionalGeneration

        config = mbart_config(size, dropout=settings.dropout)
        config._attn_implementation = attention
        text = build(lambda: MBartForConditionalGeneration(config))
        for stack in (text.model.encoder, text.model.decoder):
            stack.embed_scale = 1.0
        return text

    def speech_model(*_: Any, **__: Any) -> nn.Module:
        shape = whisper_config(size)
        dimensions = whisper.ModelDimensions(
            80, 1500, shape.d_model, shape.encoder_attention_heads, shape.encoder_layers,
            shape.vocab_size, 448, shape.d_model, shape.decoder_attention_heads, 1,
        )  # fmt: skip
        return build(lambda: whisper.Whisper(dimensions))  # its decoder is not used: one layer will do

    comsl.load_mbart_model, whisper.load_model = text_model, speech_model
    model = comsl.ComSTModel(settings).train()
    model.encoder.spch_encoder.spch_encoder.requires_grad_(not frozen_speech)
    criterion = criterion_module.GuidedCrossEntMultiTaskCriterion(settings, padding_idx=1)

    def loss(batch: Mapping[str, Any]) -> Tensor:
        return criterion(model, batch)[0]

    return model, loss


def published_batch(batch: Mapping[str, Tensor]) -> dict[str, Any]:
    """A batch of ours as its collator would have made it: 11 seconds of speech, the decoder reads [language, ...]."""
    mel = batch["input_features"][:, :, : 100 * SECONDS]
    mel = nn.functional.pad(mel, (0, 100 * SECONDS - mel.shape[2]))
    source = batch["transcript_ids"]
    # [language, tokens, end] of the translation, from the decoder's [end, language, tokens] and its labels.
    target = torch.where(batch["translation_labels"] == -100, 1, batch["translation_labels"])
    target = target.clone()
    target[:, 0] = batch["translation_decoder_input_ids"][:, 1]
    masked = (batch["mtp_labels"] != -100) & (source != 1)
    return {
        "net_input": {
            "mel": mel,
            "src_lang_ids": source[:, 0],
            "tokens": [source, target],
            "masked_src_tokens": batch["masked_transcript_ids"],
            "mlm_mask": torch.roll(masked, -1, dims=1),
        },
        "target": [_shifted(source), _shifted(target)],
    }


def _shifted(ids: Tensor) -> Tensor:
    return nn.functional.pad(ids[:, 1:], (0, 1), value=1)


def _stand_in(name: str, **attributes: Any) -> None:
    module = types.ModuleType(name)
    module.__dict__.update(attributes)
    sys.modules[name] = module
