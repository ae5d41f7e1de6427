"""The composite model: speech encoder -> adapter -> text encoder -> text decoder.

Shapes: B utterances, T input steps of speech, F frames of the speech encoder, F' frames after the adapter,
S source tokens, N target tokens, d_s and d the widths of the speech and the text part, V text vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from comsl.data.constants import IGNORED_LABEL
from comsl.errors import ComSLError

from .adapter import AdapterLayer, CTCAdapter, LengthAdapter, length_mask
from .configuration import ComSLConfig
from .generation import ComSLGenerationMixin, default_generation_config
from .speech import WAVEFORM_MODELS, SpeechEncoder, SpeechLengthError

TEXT_MODELS = ("mbart", "m2m_100")
ADAPTERS: dict[str, type[LengthAdapter] | type[CTCAdapter]] = {"convolution": LengthAdapter, "ctc": CTCAdapter}


class TextLengthError(ComSLError):
    """A text is longer than the model has positions for."""


@dataclass
class ComSLEncoderOutput(BaseModelOutput):
    """Output of the text encoder [B, S, d] together with the mask [B, S] of its real positions.

    The mask travels with the states because the `attention_mask` a caller passes is that of the speech.
    """

    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    memory_mask: Tensor | None = None


class ComSLForConditionalGeneration(ComSLGenerationMixin, PreTrainedModel):
    """Speech and text in, text out; see the module's first lines for the parts and the shapes."""

    config: ComSLConfig
    config_class = ComSLConfig
    base_model_prefix = ""
    input_modalities = ["audio", "text"]  # noqa: RUF012
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    sparse_lookups = False
    """Whether lookups in the token embedding hand back a gradient of the rows looked up alone; training says so."""
    _supports_flash_attn = True

    def __init__(self, config: ComSLConfig):
        super().__init__(config)
        if config.text_config.model_type not in TEXT_MODELS:
            kind = config.text_config.model_type
            raise ComSLError(f"text model type {kind!r} is not supported; use one of {', '.join(TEXT_MODELS)}")
        if config.adapter == "ctc" and not config.ctc_tokens:
            raise ComSLError("the adapter ctc reads a CTC head over pieces of the text vocabulary: give ctc_tokens")
        if config.ctc_tokens and len(config.ctc_vocabulary or ()) != 1 + len(config.ctc_tokens):
            raise ComSLError("ctc_tokens: one is wanted for each symbol of ctc_vocabulary but the blank")
        self.main_input_name = (
            "input_values" if config.speech_config.model_type in WAVEFORM_MODELS else "input_features"
        )
        self.speech_encoder = SpeechEncoder(config)
        self.adapter = ADAPTERS[config.adapter](config, self.speech_encoder.hidden_size)
        self.text_model = AutoModelForSeq2SeqLM.from_config(config.text_config)
        self.ctc_head = (
            nn.Linear(self.speech_encoder.hidden_size, len(config.ctc_vocabulary)) if config.ctc_vocabulary else None
        )
        self.generation_config = default_generation_config(config)
        self.post_init()
        # FSDP wraps these classes one by one; it refuses names that do not occur in the model.
        layers = (AdapterLayer, GradientCheckpointingLayer)
        self._no_split_modules = {type(module).__name__ for module in self.modules() if isinstance(module, layers)}

    def _init_weights(self, module: nn.Module) -> None:
        """The adapter and the CTC head start as torch starts them; the parts initialise themselves."""
        if isinstance(module, nn.Linear | nn.Conv1d):
            init.kaiming_uniform_(module.weight, a=5**0.5)
            if module.bias is not None:
                bound = module.weight[0].numel() ** -0.5
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, CTCAdapter):
            init.zeros_(module.gate)

    # --- parts -------------------------------------------------------------------------------------------------------

    @property
    def text_encoder(self) -> Any:
        """Encoder of the text model, shared by speech and text."""
        return self.text_model.model.encoder

    @property
    def text_decoder(self) -> Any:
        """Decoder of the text model, shared by all tasks."""
        return self.text_model.model.decoder

    @property
    def output_weight(self) -> Tensor:
        """Output projection [V, d]; the text embedding itself where the text model ties them."""
        return self.text_model.lm_head.weight

    @property
    def output_bias(self) -> Tensor | None:
        """Output bias [V] (mBART's `final_logits_bias`), or None (M2M-100, NLLB)."""
        bias = getattr(self.text_model, "final_logits_bias", None)
        return None if bias is None else bias[0]

    @property
    def max_duration(self) -> float | None:
        """Longest clip in seconds that the speech encoder has positions for; None: only memory limits it."""
        return self.speech_encoder.max_duration

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.text_model.get_output_embeddings()

    def set_output_embeddings(self, value: nn.Module) -> None:
        self.text_model.set_output_embeddings(value)

    def get_encoder(self, *args: Any, **kwargs: Any) -> nn.Module:
        return self.text_encoder

    def get_decoder(self) -> nn.Module:
        return self.text_decoder

    # --- encoding ----------------------------------------------------------------------------------------------------

    def adapted_lengths(self, attention_mask: Tensor) -> Tensor:
        """Frames [B] after the adapter for a speech mask [B, T]; the language embedding is not counted.

        Of a `CTCAdapter` the most that it can be.
        """
        return self.speech_positions(attention_mask.sum(dim=1)) - 1

    def speech_positions(self, steps: Tensor) -> Tensor:
        """Positions [B] of the text encoder that speech of so many input steps [B] takes: the language and frames.

        Of a `CTCAdapter` the most that it can be.
        """
        return 1 + self.adapter.output_lengths(self.speech_encoder.output_lengths(steps))

    def encode_speech(self, speech: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run the speech encoder: `(hidden [B, F, d_s], lengths [B])`. Raises SpeechLengthError, never cuts."""
        return self.speech_encoder(speech, attention_mask)

    def embed_speech(
        self, hidden: Tensor, lengths: Tensor, source_language_ids: Tensor, heard: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Adapter, with the embedding of the source language in front: `(embeds [B, 1+F', d], mask [B, 1+F'])`.

        Args:
            heard: logits [B, F, C] of the CTC head for `hidden`, where they are known already; only the adapter "ctc"
                reads them.
        """
        if isinstance(self.adapter, CTCAdapter):
            assert self.ctc_head is not None  # the constructor has seen to that
            tokens = torch.tensor([*(self.config.ctc_tokens or ()), self.config.eos_token_id], device=hidden.device)
            embedded = self.embed_text(tokens)
            heard = self.ctc_head(hidden) if heard is None else heard
            frames, lengths = self.adapter(hidden, lengths, heard, embedded[:-1], embedded[-1])
        else:
            frames, lengths = self.adapter(hidden, lengths)
        language = self.embed_text(source_language_ids[:, None])
        embeds = torch.cat([language, frames.to(language.dtype)], dim=1)
        limit = self.max_positions
        if limit is not None and embeds.shape[1] > limit:
            raise SpeechLengthError(
                f"a clip takes {embeds.shape[1]} positions after the adapter, more than the {limit} "
                "that the text encoder has; cut it into segments"
            )
        return embeds, length_mask(lengths + 1, embeds.shape[1]).long()

    def embed_text(self, ids: Tensor) -> Tensor:
        """Embeddings [..., d] of token ids [...] for the text encoder, scaled as the text model scales them."""
        return self._look_up(self.text_encoder.embed_tokens, ids)

    def embed_target(self, ids: Tensor) -> Tensor:
        """The same for the text decoder."""
        return self._look_up(self.text_decoder.embed_tokens, ids)

    def _look_up(self, embedding: Any, ids: Tensor) -> Tensor:
        if not self.sparse_lookups:
            return embedding(ids)
        # The module's forward, but for the gradient; its own switch for that makes DDP expect a sparse sum.
        rows = nn.functional.embedding(ids, embedding.weight, embedding.padding_idx, sparse=True)
        return rows * embedding.embed_scale

    @property
    def max_positions(self) -> int | None:
        """Positions of the text encoder, and of the decoder; None where they are computed as needed (M2M-100, NLLB)."""
        text = self.config.text_config
        return text.max_position_embeddings if text.model_type == "mbart" else None

    def encode(
        self,
        input_features: Tensor | None = None,
        input_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        source_language_ids: Tensor | None = None,
        input_ids: Tensor | None = None,
        text_attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> ComSLEncoderOutput:
        """Encode speech, or text when `input_ids` is given, to the memory the decoder attends to."""
        if input_ids is not None:
            mask = text_attention_mask if text_attention_mask is not None else attention_mask
            mask = input_ids.ne(self.config.pad_token_id) if mask is None else mask
            embeds = self.embed_text(input_ids)
            if self.max_positions is not None and embeds.shape[1] > self.max_positions:
                raise TextLengthError(
                    f"a text of {embeds.shape[1]} tokens is longer than the {self.max_positions} that the text "
                    "encoder has positions for; split it into sentences"
                )
        else:
            speech = input_features if input_features is not None else input_values
            if speech is None or source_language_ids is None:
                raise ValueError("give speech (input_features or input_values) with source_language_ids, or input_ids")
            embeds, mask = self.embed_speech(*self.encode_speech(speech, attention_mask), source_language_ids)
        output = self.text_encoder(inputs_embeds=embeds, attention_mask=mask, **kwargs)
        return ComSLEncoderOutput(
            last_hidden_state=output.last_hidden_state,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
            memory_mask=mask,
        )

    # --- forward -----------------------------------------------------------------------------------------------------

    def forward(
        self,
        input_features: Tensor | None = None,
        input_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        source_language_ids: Tensor | None = None,
        input_ids: Tensor | None = None,
        text_attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[Tensor, ...] | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Logits [B, N, V] over the text vocabulary, and the mean cross-entropy when `labels` [B, N] are given.

        Speech is `input_features` or `input_values` with `attention_mask` and `source_language_ids` [B]; text is
        `input_ids` [language, tokens, end]. `decoder_input_ids` = [end, language, tokens]; `labels` = [-100, tokens,
        end], -100 is not scored. With `encoder_outputs` nothing is encoded; `attention_mask` is then the mask of
        those states, unless they bring their own (`memory_mask`).
        """
        recorded = {name: kwargs[name] for name in ("output_attentions", "output_hidden_states") if kwargs.get(name)}
        if encoder_outputs is None:
            encoder_outputs = self.encode(
                input_features,
                input_values,
                attention_mask,
                source_language_ids,
                input_ids,
                text_attention_mask,
                **recorded,
            )
        memory_mask = getattr(encoder_outputs, "memory_mask", None)
        if decoder_input_ids is None:
            raise ValueError("decoder_input_ids is missing: [end of sentence, language, tokens]")
        decoded = self.text_decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=encoder_outputs[0],
            encoder_attention_mask=attention_mask if memory_mask is None else memory_mask,
            past_key_values=past_key_values,
            use_cache=False if labels is not None else use_cache,
            **recorded,
        )
        logits = self.text_model.lm_head(decoded.last_hidden_state)
        if self.output_bias is not None:
            logits = logits + self.output_bias
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(
                logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED_LABEL
            )
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=decoded.past_key_values,
            decoder_hidden_states=decoded.hidden_states,
            decoder_attentions=decoded.attentions,
            cross_attentions=decoded.cross_attentions,
            encoder_last_hidden_state=encoder_outputs[0],
            encoder_hidden_states=getattr(encoder_outputs, "hidden_states", None),
            encoder_attentions=getattr(encoder_outputs, "attentions", None),
        )
