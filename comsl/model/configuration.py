"""Configuration of a ComSL model: a speech part, a text part and the adapter between them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec


@strict
class ComSLConfig(PreTrainedConfig):
    """Everything that is needed to build a [`ComSLForConditionalGeneration`] without its weights.

    Args:
        speech_config: configuration of the speech part (Whisper, wav2vec2, HuBERT, WavLM or wav2vec2-BERT).
        text_config: configuration of the text part (mBART-50, M2M-100 or NLLB-200).
        adapter: "convolution", the paper's length adapter, or "ctc": what the CTC head hears ([`CTCAdapter`]; it needs
            ``ctc_tokens``, and of the settings below it has the dropout alone).
        adapter_strides: stride of each adapter layer; [2, 2] shortens 50 frames a second to 12.5.
        adapter_kernel_size: kernel of the adapter's convolutions (odd).
        adapter_ffn_factor: width of the adapter's feed-forward layers, in multiples of its input width.
        adapter_dropout: dropout inside the adapter.
        languages: canonical language code -> id of its token in the text vocabulary.
        fixed_duration: seconds that every clip is padded to with silence (Whisper's original regime); None: true
            lengths.
        ctc_vocabulary: symbols of the CTC head on the speech encoder, index 0 is the blank; None: no such head.
        ctc_tokens: tokens of the text vocabulary that the CTC head's symbols after the blank stand for; None: the
            symbols are characters.
        translation_targets: languages, of those it has, that training taught it to translate into; None: not recorded.
        mask_token_id: token that stands for a masked transcript token in masked token prediction.
    """

    model_type = "comsl"
    sub_configs_defaults: ClassVar[dict[str, SubConfigSpec]] = {
        "speech_config": SubConfigSpec(config_class=AutoConfig, model_type="whisper"),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="mbart"),
    }

    # Dictionaries become configurations of their own family.
    speech_config: Any = None
    text_config: Any = None
    adapter: Literal["convolution", "ctc"] = "convolution"
    adapter_strides: list[int] | tuple[int, ...] = (2, 2)
    adapter_kernel_size: int = 3
    adapter_ffn_factor: int = 4
    adapter_dropout: float | int = 0.0
    languages: dict[str, int] | None = None
    fixed_duration: float | int | None = None
    ctc_vocabulary: list[str] | None = None
    ctc_tokens: list[int] | None = None
    translation_targets: list[str] | None = None
    # Token ids; None: those of the text part.
    pad_token_id: Any = None
    bos_token_id: Any = None
    eos_token_id: Any = None
    decoder_start_token_id: Any = None
    mask_token_id: Any = None
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.adapter_strides = list(self.adapter_strides)
        self.languages = dict(self.languages or {})
        text = self.text_config
        for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"):
            if getattr(self, name) is None:
                setattr(self, name, getattr(text, name, None))
        # mBART-50, M2M-100 and NLLB all start decoding with the end-of-sentence token, then the language.
        if self.decoder_start_token_id is None:
            self.decoder_start_token_id = self.eos_token_id

    @property
    def vocab_size(self) -> int:
        """Size of the text vocabulary, new language tokens included."""
        return self.text_config.vocab_size

    @property
    def hidden_size(self) -> int:
        """Width d of the text part."""
        return self.text_config.d_model
