"""Decoding with one target language a row: the speech or text is encoded once, then transformers' own search runs.

Shapes: B utterances, N target tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin

from comsl.errors import UsageError

from .configuration import ComSLConfig
from .vocabulary import find_language

TASKS = ("translate", "transcribe")
ENCODER_ARGUMENTS = ("input_features", "input_values", "attention_mask", "input_ids", "text_attention_mask")


def default_generation_config(config: ComSLConfig) -> GenerationConfig:
    """Beam 5 as in the paper, special tokens set, nothing forced and nothing suppressed."""
    positions = getattr(config.text_config, "max_position_embeddings", 1024)
    return GenerationConfig(
        num_beams=5,
        max_new_tokens=min(256, positions - 2),
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
    )


def language_ids(config: ComSLConfig, languages: str | Sequence[str], rows: int, role: str) -> Tensor:
    """Ids [rows] of the tokens of one language for all rows, or of one language a row.

    Raises MissingLanguage for a language that the model has no token for, UsageError for a wrong number of languages.
    """
    codes = [languages] * rows if isinstance(languages, str) else list(languages)
    if len(codes) != rows:
        raise UsageError(f"{role}_language names {len(codes)} languages for {rows} rows; give one, or one a row")
    known = config.languages or {}
    return torch.tensor([find_language(known, code, role) for code in codes], dtype=torch.long)


class ComSLGenerationMixin(GenerationMixin):
    """`generate` for speech (or text): encode once, prompt the decoder with [end of sentence, language]."""

    config: ComSLConfig
    main_input_name: str
    device: torch.device
    encode: Callable[..., Any]

    def generate(  # type: ignore[override]
        self,
        inputs: Tensor | None = None,
        *,
        source_language: str | Sequence[str] | None = None,
        target_language: str | Sequence[str] | None = None,
        task: str | None = None,
        source_language_ids: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Translate or transcribe speech (`input_features` or `input_values`), or translate text (`input_ids`).

        Args:
            inputs: the speech, for callers that do not name it; same as the model's main input.
            source_language: language code for all rows, or one a row; may be left out for text.
            target_language: the same for the output; "en" unless given; ignored for `task="transcribe"`.
            task: "translate" (default) or "transcribe".
            source_language_ids: ids [B] instead of `source_language`.
            decoder_input_ids: a decoder prompt [B, N] of one's own instead of [end of sentence, language].
            kwargs: everything else that `GenerationMixin.generate` takes (num_beams, do_sample, ...).

        Defaults of the three may be stored as attributes of `generation_config`.

        Returns:
            Token ids [B, N], prompt included, as transformers does; a `ModelOutput` if asked for.

        Raises:
            UsageError: no source language for speech, an unknown language or an unknown task.
        """
        if inputs is not None:
            kwargs[self.main_input_name] = inputs
        settings = kwargs.get("generation_config") or self.generation_config
        source_language = source_language or getattr(settings, "source_language", None)
        target_language = target_language or getattr(settings, "target_language", None) or "en"
        task = task or getattr(settings, "task", None) or "translate"
        if task not in TASKS:
            raise UsageError(f"unknown task {task!r}; use one of {', '.join(TASKS)}")

        encoding = {name: kwargs.pop(name, None) for name in ENCODER_ARGUMENTS}
        encoder_outputs = kwargs.pop("encoder_outputs", None)
        rows = self._rows(encoding, encoder_outputs)
        if source_language is not None and source_language_ids is None:
            source_language_ids = language_ids(self.config, source_language, rows, "source")
        if encoder_outputs is None:
            encoder_outputs = self._encode_for_generation(encoding, source_language_ids, settings, kwargs)
        if decoder_input_ids is None:
            if task == "transcribe":
                if source_language_ids is None:
                    raise UsageError("transcribing needs source_language, the language spoken")
                target_ids = source_language_ids
            else:
                target_ids = language_ids(self.config, target_language, rows, "target")
            decoder_input_ids = self.decoder_prompt(target_ids)
        return super().generate(  # type: ignore[misc]
            encoder_outputs=encoder_outputs, decoder_input_ids=decoder_input_ids, **kwargs
        )

    def decoder_prompt(self, target_ids: Tensor) -> Tensor:
        """Decoder input [B, 2] that every task starts from: [decoder start = end of sentence, language]."""
        target_ids = target_ids.to(self.device)
        start = torch.full_like(target_ids, self.config.decoder_start_token_id)
        return torch.stack([start, target_ids], dim=1)

    def _rows(self, encoding: dict[str, Any], encoder_outputs: Any) -> int:
        if encoder_outputs is not None:
            return encoder_outputs[0].shape[0]
        for name in ("input_ids", "input_features", "input_values"):
            if encoding.get(name) is not None:
                return encoding[name].shape[0]
        raise UsageError("nothing to generate from: give input_features, input_values or input_ids")

    @torch.no_grad()
    def _encode_for_generation(
        self,
        encoding: dict[str, Any],
        source_language_ids: Tensor | None,
        settings: GenerationConfig,
        kwargs: dict[str, Any],
    ) -> Any:
        """The encoder pass; maps and states of the encoder are recorded only where the caller asks for them."""
        if source_language_ids is None and encoding.get("input_ids") is None:
            known = ", ".join(sorted(self.config.languages or {}))
            raise UsageError(f"source_language is missing: the language spoken, one of {known}")
        wanted = {
            name: True
            for name in ("output_attentions", "output_hidden_states")
            if kwargs.get(name, getattr(settings, name, None))
        }
        encoding = {name: value.to(self.device) for name, value in encoding.items() if value is not None}
        if source_language_ids is not None:
            encoding["source_language_ids"] = source_language_ids.to(self.device)
        return self.encode(**encoding, **wanted)
