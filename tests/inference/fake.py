"""A small stand-in for the model and its processor: one tiny mBART fed with frames or tokens, letters as vocabulary.

Random weights, so its output means nothing, but it depends on the input and has every length from a few tokens up.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import MBartConfig, MBartForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from comsl.errors import UsageError
from comsl.model.modeling import ComSLEncoderOutput

LANGUAGES = {"de": 4, "en": 5, "cy": 6}
LETTERS = " abcdefghijklmnopqrstuvwxyz"
FIRST_LETTER = 7
MELS = 4
END_BIAS = 3.0  # so that some rows end by themselves and others at their limit


class FakeProcessor:
    pad_token_id, eos_token_id = 1, 2

    def __init__(self) -> None:
        self.feature_extractor = SimpleNamespace(kind="whisper")

    def features(self, waveform: np.ndarray) -> np.ndarray:
        frames = waveform[: len(waveform) // 160 * 160].reshape(-1, 4, 40)
        return np.log1p(np.abs(frames).mean(-1) * 100).T.astype(np.float32)

    def pad_features(self, features: list[np.ndarray]) -> dict[str, Tensor]:
        width = max(feature.shape[1] for feature in features)
        padded = torch.zeros(len(features), MELS, width)
        mask = torch.zeros(len(features), width, dtype=torch.long)
        for row, feature in enumerate(features):
            padded[row, :, : feature.shape[1]] = torch.from_numpy(feature)
            mask[row, : feature.shape[1]] = 1
        return {"input_features": padded, "attention_mask": mask, "durations": mask.sum(1) / 100}

    def language_id(self, code: str) -> int:
        if code not in LANGUAGES:
            raise UsageError(f"the model has no language {code!r}, it has de, en, cy")
        return LANGUAGES[code]

    def source_ids(self, text: str, language: str) -> list[int]:
        return [LANGUAGES[language], *(FIRST_LETTER + LETTERS.index(letter) for letter in text), self.eos_token_id]

    def decode(self, ids: list[int]) -> str:
        return "".join(LETTERS[token - FIRST_LETTER] for token in ids if token >= FIRST_LETTER)


class FakeModel(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        text_config = MBartConfig(
            vocab_size=FIRST_LETTER + len(LETTERS),
            d_model=16,
            encoder_layers=1,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            max_position_embeddings=64,
            init_std=0.6,
            dropout=0.5,
            decoder_start_token_id=2,
            forced_eos_token_id=2,
        )
        self.text_model = MBartForConditionalGeneration(text_config)
        self.text_model.final_logits_bias[0, [0, 1, 2, 3, 4, 5, 6]] += torch.tensor([-99.0, -99, END_BIAS, *[-99] * 4])
        self.text_decoder = self.text_model.model.decoder
        self.output_bias = self.text_model.final_logits_bias[0]
        self.front = nn.Linear(MELS, 16)
        self.config = SimpleNamespace(text_config=text_config)
        self.prompts: list[list[list[int]]] = []

    max_positions = 64

    @property
    def text_encoder(self) -> nn.Module:
        return self.text_model.model.encoder

    def encode_speech(self, speech: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        assert not self.text_model.training
        return self.front(speech.transpose(1, 2))[:, ::8] * 4, attention_mask[:, ::8].sum(1)

    def embed_speech(
        self, hidden: Tensor, lengths: Tensor, source_language_ids: Tensor, heard: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        frames = torch.cat([self.embed_text(source_language_ids)[:, None], hidden], 1)
        return frames, (torch.arange(frames.shape[1])[None] <= lengths[:, None]).long()

    def embed_text(self, ids: Tensor) -> Tensor:
        return self.text_model.get_input_embeddings()(ids)

    def encode(self, input_ids: Tensor, text_attention_mask: Tensor) -> ComSLEncoderOutput:
        assert not self.text_model.training
        output = self.text_encoder(input_ids=input_ids, attention_mask=text_attention_mask)
        return ComSLEncoderOutput(last_hidden_state=output.last_hidden_state, memory_mask=text_attention_mask)

    def forward(
        self, encoder_outputs: ComSLEncoderOutput, decoder_input_ids: Tensor, use_cache: bool = False
    ) -> Seq2SeqLMOutput:
        return self.text_model(
            encoder_outputs=encoder_outputs,
            attention_mask=encoder_outputs.memory_mask,
            decoder_input_ids=decoder_input_ids,
        )

    def decoder_prompt(self, target_ids: Tensor) -> Tensor:
        self.prompts.append([[2, target] for target in target_ids.tolist()])
        return torch.stack([torch.full_like(target_ids, 2), target_ids], 1)

    def generate(self, encoder_outputs: ComSLEncoderOutput, decoder_input_ids: Tensor, **settings: Any) -> Tensor:
        mask = encoder_outputs.memory_mask
        states = BaseModelOutput(last_hidden_state=encoder_outputs.last_hidden_state)
        return self.text_model.generate(
            encoder_outputs=states, attention_mask=mask, decoder_input_ids=decoder_input_ids, **settings
        )
