"""Waveforms and texts -> what the model reads; token ids -> text.

Shapes: N samples at 16 kHz, T feature frames, B clips.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor
from transformers import BatchFeature, ProcessorMixin

from comsl.data.characters import fold_case, normalize_characters
from comsl.data.constants import IGNORED_LABEL
from comsl.errors import UsageError

from .extraction import ComSLFeatureExtractor, Features
from .vocabulary import WORD_START, find_language, plain_encoding


class ComSLProcessor(ProcessorMixin):
    """Features, tokens and language ids of one composite model.

    Args:
        feature_extractor: a `ComSLFeatureExtractor`, or a pretrained speech model's own, which is wrapped in one.
        tokenizer: of the text part; never changed by use.
        languages: language code -> token id, as in the model's configuration.
        ctc_vocabulary: symbols of the CTC head, index 0 is the blank; None: no such head.
        ctc_tokens: text tokens that the symbols after the blank stand for; None: they are characters.
        max_positions: tokens of the longest text, language and end included, that the model has positions for; None:
            no limit of its own.
    """

    feature_extractor: ComSLFeatureExtractor
    tokenizer: Any

    def __init__(
        self,
        feature_extractor: Any,
        tokenizer: Any,
        languages: dict[str, int] | None = None,
        ctc_vocabulary: list[str] | None = None,
        ctc_tokens: list[int] | None = None,
        max_positions: int | None = None,
        **kwargs: Any,
    ):
        if not isinstance(feature_extractor, ComSLFeatureExtractor):
            feature_extractor = ComSLFeatureExtractor.from_extractor(feature_extractor)
        self.languages = dict(languages or {})
        self.ctc_vocabulary = ctc_vocabulary
        self.ctc_tokens = ctc_tokens
        self.max_positions = max_positions
        super().__init__(feature_extractor, tokenizer, **kwargs)
        special = {*tokenizer.all_special_ids, *self.languages.values()}
        self._silent = {*special, IGNORED_LABEL}
        # Split or not, mBART-50's special tokens stand among the pieces of its vocabulary, where text still finds them.
        self._spelled: dict[str, list[int]] = {}
        if tokenizer.eos_token_id in plain_encoding(tokenizer, tokenizer.eos_token)["input_ids"]:
            names = tokenizer.convert_ids_to_tokens(sorted(special))
            self._spelled = {name: tokenizer.convert_tokens_to_ids(list(name)) for name in names}
        self._symbols: dict[str, int] = {}
        for number, symbol in enumerate(ctc_vocabulary or []):
            if number:  # the blank is never spelled
                self._symbols.setdefault(fold_case(symbol), number)
        self._symbol_of_token = {token: number for number, token in enumerate(ctc_tokens or [], 1)}

    # --- speech ------------------------------------------------------------------------------------------------------

    @property
    def fixed_duration(self) -> float | None:
        """Seconds that every clip is padded to with silence; None: true lengths."""
        return self.feature_extractor.fixed_duration

    def features(self, waveform: npt.ArrayLike) -> Features:
        """Features of one clip [N] at its true length: [n_mels, T], [N] or [T, S * n_mels] as the speech part wants."""
        return self.feature_extractor.features(waveform)

    def pad_features(self, features: Sequence[Features]) -> dict[str, Tensor]:
        """Batch of clips: `input_features` or `input_values`, and `attention_mask`."""
        return self.feature_extractor.pad_features(features)

    # --- text --------------------------------------------------------------------------------------------------------

    @property
    def mask_token_id(self) -> int:
        """Token that stands for a masked one."""
        return self.tokenizer.mask_token_id

    @property
    def pad_token_id(self) -> int:
        """Token that pads ids."""
        return self.tokenizer.pad_token_id

    @property
    def eos_token_id(self) -> int:
        """Token that ends a text and starts decoding."""
        return self.tokenizer.eos_token_id

    @property
    def unk_token_id(self) -> int | None:
        """Token that stands for what the vocabulary lacks."""
        return self.tokenizer.unk_token_id

    def language_id(self, code: str) -> int:
        """Token id of a language. Raises MissingLanguage, listing the languages the model has."""
        return find_language(self.languages, code)

    def token_ids(self, text: str) -> list[int]:
        """Ids of the text alone, without language and end; "</s>" or "de_DE" in it is text like any other."""
        encoded = plain_encoding(self.tokenizer, text)
        if not self._spelled:
            return encoded["input_ids"]
        pieces = zip(encoded["input_ids"], encoded.tokens(), strict=True)
        return [number for own, piece in pieces for number in self._spelled.get(piece, [own])]

    def source_ids(self, text: str, language: str) -> list[int]:
        """What the text encoder reads: [language, tokens, end], for every family alike."""
        return [self.language_id(language), *self.token_ids(text), self.eos_token_id]

    def target_ids(self, text: str, language: str) -> tuple[list[int], list[int]]:
        """What the decoder reads and what it is to predict: ([end, language, tokens], [-100, tokens, end]).

        The language is given when decoding, so predicting it is not scored.
        """
        tokens = self.token_ids(text)
        return [self.eos_token_id, self.language_id(language), *tokens], [IGNORED_LABEL, *tokens, self.eos_token_id]

    def ctc_ids(self, text: str) -> tuple[list[int], int]:
        """Ids of the text in the CTC vocabulary, and the number of characters or pieces left out: what it has no symbol
        for, a space excepted.

        Pieces are those that the text model reads. Characters go longest symbol first and are compared as
        ``comsl.data.characters`` collects them: composed and lower-cased.
        """
        spelled = self._spell(text)
        return [symbol for symbol, _ in spelled if symbol is not None], sum(symbol is None for symbol, _ in spelled)

    def word_numbers(self, text: str) -> tuple[list[int], list[int]]:
        """Which word (0, 1, ...) each of ``token_ids`` and each of ``ctc_ids`` belongs to.

        A space belongs to the word behind it. The two need not agree on how many words there are: a token may be
        nothing but a space, a word may have no symbol.
        """
        symbols = [word for symbol, word in self._spell(text) if symbol is not None]
        return self._token_words(self.token_ids(text)), symbols

    def _token_words(self, tokens: Sequence[int]) -> list[int]:
        words: list[int] = []
        word, spelled = 0, False  # whether the word has anything but space yet
        for name in self.tokenizer.convert_ids_to_tokens(list(tokens)):
            if name.startswith(WORD_START) and spelled:
                word, spelled = word + 1, False
            spelled |= name.strip(WORD_START) != ""
            words.append(word)
        # Space at the end makes no word of its own.
        return words if spelled else [min(each, max(word - 1, 0)) for each in words]

    def _spell(self, text: str) -> list[tuple[int | None, int]]:
        """The CTC symbols of a text, None for what has none, each with the number of its word."""
        if not self._symbols:
            raise UsageError("the model has no CTC vocabulary; compose it with ctc_vocabulary")
        if self.ctc_tokens is not None:
            tokens = self.token_ids(text)
            symbols = [self._symbol_of_token.get(token) for token in tokens]
            return list(zip(symbols, self._token_words(tokens), strict=True))
        text = normalize_characters(text)
        longest = max(map(len, self._symbols))
        spelled: list[tuple[int | None, int]] = []
        start = word = 0
        while start < len(text):
            for size in range(min(longest, len(text) - start), 0, -1):
                symbol = self._symbols.get(text[start : start + size])
                if symbol is not None:
                    break
            word += start > 0 and text[start] == " "
            if symbol is not None or text[start] != " ":
                spelled.append((symbol, word))
            start += size
        return spelled

    def decode(self, ids: Iterable[int] | Tensor, **kwargs: Any) -> str:
        """Text of token ids; special and language tokens, padding and -100 are left out."""
        listed = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        return self.tokenizer.decode([number for number in listed if number not in self._silent], **kwargs).strip()

    def batch_decode(self, sequences: Iterable[Iterable[int]] | Tensor, **kwargs: Any) -> list[str]:
        """Texts of several rows of token ids."""
        return [self.decode(ids, **kwargs) for ids in sequences]

    # --- both --------------------------------------------------------------------------------------------------------

    def __call__(
        self,
        audio: Any = None,
        text: str | Sequence[str] | None = None,
        *,
        source_language: str | Sequence[str] | None = None,
        sampling_rate: int | None = None,
        return_tensors: str = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Model inputs of clips (waveforms [N] at 16 kHz) or of texts, ready for `model.generate(**inputs)`.

        Args:
            audio: one waveform or a list of them.
            text: one source text or a list of them.
            source_language: language code of all rows, or one a row; needed for text.
            sampling_rate: of the audio, if known; anything but 16 kHz is an error.
        """
        if (audio is None) == (text is None):
            raise UsageError("give audio or text, one of the two")
        if return_tensors != "pt":
            raise UsageError("only PyTorch tensors are made: return_tensors='pt'")
        if audio is not None:
            clips = list(audio) if isinstance(audio, list | tuple) else [audio]
            if sampling_rate not in (None, self.feature_extractor.sampling_rate):
                raise UsageError(f"audio is at {sampling_rate} Hz; resample it to 16000 Hz")
            inputs = self.pad_features([self.features(clip) for clip in clips])
            if source_language is not None:
                codes = _per_row(source_language, len(clips))
                inputs["source_language_ids"] = torch.tensor([self.language_id(code) for code in codes])
            return BatchFeature(inputs)
        if source_language is None:
            raise UsageError("text needs source_language, the language it is in")
        texts = [text] if isinstance(text, str) else list(text or ())
        rows = [
            self.source_ids(row, code) for row, code in zip(texts, _per_row(source_language, len(texts)), strict=True)
        ]
        longest = max(map(len, rows))
        ids = [row + [self.pad_token_id] * (longest - len(row)) for row in rows]
        mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
        return BatchFeature({"input_ids": torch.tensor(ids), "text_attention_mask": torch.tensor(mask)})

    @property
    def model_input_names(self) -> list[str]:
        return [*self.feature_extractor.model_input_names, "source_language_ids", "input_ids", "text_attention_mask"]


def _per_row(codes: str | Sequence[str], rows: int) -> list[str]:
    return [codes] * rows if isinstance(codes, str) else list(codes)
