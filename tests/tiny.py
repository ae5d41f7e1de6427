"""Random tiny checkpoints of every supported family, saved in the file layout that the hub's own checkpoints have.

Each builder writes a directory and returns its path; the same seed gives the same weights.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
from transformers import (
    HubertConfig,
    HubertModel,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MBartConfig,
    MBartForConditionalGeneration,
    NllbTokenizer,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)
from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES as M2M100_CODES
from transformers.tokenization_utils_sentencepiece import SentencePieceExtractor

SENTENCES = (
    "the old man sees a small house near the river",
    "she buys three red apples at the market on Monday",
    "der alte Mann sieht ein kleines Haus am Fluß",
    "sie kauft am Montag drei rote Äpfel auf dem Markt",
    "el hombre viejo ve una casa pequeña cerca del río",
    "ella compra tres manzanas rojas en el mercado el lunes",
    "le vieil homme voit une petite maison près de la rivière",
    "elle achète trois pommes rouges au marché lundi",
    "mae'r hen ddyn yn gweld tŷ bach ger yr afon",
    "we leave at ten past four, he said: (bring 25 maps)!",
)
TEXT_WIDTH = 24
TEXT_SIZES = {
    "d_model": TEXT_WIDTH,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "max_position_embeddings": 128,
    "scale_embedding": True,
    "dropout": 0.1,
    "attention_dropout": 0.0,
}
SPEECH_SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "layerdrop": 0.0,
    "vocab_size": 32,
}
WAVEFORM_SIZES = {
    **SPEECH_SIZES,
    "conv_dim": (8, 8, 8, 8, 8, 8, 8),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


def tiny_whisper(directory: str | Path, *, n_mels: int = 80, seed: int = 0, **changes: Any) -> Path:
    """openai/whisper-*: a full sequence-to-sequence checkpoint."""
    sizes: dict[str, Any] = {
        "vocab_size": 60,
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 1,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "pad_token_id": 50,
        "bos_token_id": 50,
        "eos_token_id": 50,
        "decoder_start_token_id": 51,
    }
    config = WhisperConfig(num_mel_bins=n_mels, **(sizes | changes))
    extractor = WhisperFeatureExtractor(feature_size=n_mels)
    return _save(WhisperForConditionalGeneration, config, directory, seed, extractor)


def tiny_wav2vec2(directory: str | Path, *, seed: int = 0, **changes: Any) -> Path:
    """facebook/wav2vec2-base: group normalisation, no attention mask."""
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=False)
    return _save(Wav2Vec2Model, Wav2Vec2Config(**(WAVEFORM_SIZES | changes)), directory, seed, extractor)


def tiny_wav2vec2_large(directory: str | Path, *, seed: int = 0, **changes: Any) -> Path:
    """facebook/wav2vec2-xls-r-*: layer normalisation, stable layer norm."""
    sizes = WAVEFORM_SIZES | {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
    return _save(
        Wav2Vec2Model,
        Wav2Vec2Config(**(sizes | changes)),
        directory,
        seed,
        Wav2Vec2FeatureExtractor(return_attention_mask=True),
    )


def tiny_hubert(directory: str | Path, *, seed: int = 0, **changes: Any) -> Path:
    """facebook/hubert-base-ls960."""
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=False)
    return _save(HubertModel, HubertConfig(**(WAVEFORM_SIZES | changes)), directory, seed, extractor)


def tiny_wavlm(directory: str | Path, *, seed: int = 0, **changes: Any) -> Path:
    """microsoft/wavlm-base."""
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=False)
    return _save(WavLMModel, WavLMConfig(**(WAVEFORM_SIZES | changes)), directory, seed, extractor)


def tiny_wav2vec2_bert(directory: str | Path, *, seed: int = 0, **changes: Any) -> Path:
    """facebook/w2v-bert-2.0."""
    sizes = SPEECH_SIZES | {"conv_depthwise_kernel_size": 5}
    return _save(
        Wav2Vec2BertModel, Wav2Vec2BertConfig(**(sizes | changes)), directory, seed, SeamlessM4TFeatureExtractor()
    )


def tiny_mbart50(directory: str | Path, *, seed: int = 0, sentences: Sequence[str] = SENTENCES, **changes: Any) -> Path:
    """facebook/mbart-large-50-many-to-many-mmt: its sentencepiece model comes without tokenizer.json."""
    path = Path(directory)
    pieces = _train_sentencepiece(path, "unigram", sentences)
    # <s> <pad> </s> <unk>, the pieces without sentencepiece's own three, 52 languages, <mask>
    vocabulary = 4 + (pieces - 3) + 52 + 1
    config = MBartConfig(vocab_size=vocabulary, decoder_start_token_id=2, **(TEXT_SIZES | changes))
    _save(MBartForConditionalGeneration, config, path, seed)
    # What the hub's files say beyond the architecture; none of it may reach a composed model.
    _update_json(
        path / "generation_config.json", num_beams=5, max_length=200, early_stopping=True, forced_bos_token_id=9
    )
    _write_tokenizer_config(path, "MBart50Tokenizer", language_codes="mbart50", mask_token="<mask>")
    return path


def tiny_m2m100(
    directory: str | Path, *, seed: int = 0, sentences: Sequence[str] = SENTENCES, listed: bool = True, **changes: Any
) -> Path:
    """facebook/m2m100_418M: vocab.json beside the sentencepiece model; eight made-up words at the end.

    listed: its files list the language tokens as special tokens (as the hub's do), or leave them to the class.
    """
    path = Path(directory)
    _train_sentencepiece(path, "bpe", sentences)
    vocabulary = _fairseq_vocabulary(path)
    (path / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    size = len(vocabulary) + len(M2M100_CODES["m2m100"]) + 8
    _save(M2M100ForConditionalGeneration, M2M100Config(vocab_size=size, **(TEXT_SIZES | changes)), path, seed)
    languages = [f"__{code}__" for code in M2M100_CODES["m2m100"]] if listed else []
    _write_tokenizer_config(
        path, "M2M100Tokenizer", language_codes="m2m100", num_madeup_words=8, additional_special_tokens=languages
    )
    return path


def tiny_nllb(directory: str | Path, *, seed: int = 0, sentences: Sequence[str] = SENTENCES, **changes: Any) -> Path:
    """facebook/nllb-200-distilled-600M: tokenizer.json beside the sentencepiece model."""
    path = Path(directory)
    _train_sentencepiece(path, "bpe", sentences)
    _, _, merges = SentencePieceExtractor(str(path / "sentencepiece.bpe.model")).extract()
    tokenizer = NllbTokenizer(vocab=_fairseq_vocabulary(path), merges=merges)
    tokenizer.save_pretrained(path)
    config = M2M100Config(vocab_size=len(tokenizer), **(TEXT_SIZES | changes))
    return _save(M2M100ForConditionalGeneration, config, path, seed)


def tiny_comsl(directory: str | Path, *, seed: int = 0, **changes: Any) -> tuple[Any, Any]:
    """A Whisper + mBART-50 composite with Welsh added, saved in `directory`; returns `(model, processor)`.

    The parts are kept beside it (`<directory>-parts/speech` and `/text`); `changes` go to `compose`.
    """
    from comsl.model import compose

    parts = Path(f"{directory}-parts")
    settings = {"new_languages": {"cy": "en"}, "seed": seed} | changes
    model, processor = compose(tiny_whisper(parts / "speech"), tiny_mbart50(parts / "text"), **settings)
    separate_new_tokens(model, processor)
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return model.eval(), processor


def separate_new_tokens(model: Any, processor: Any) -> None:
    """Move the last language token away from the one it was copied from: equal logits would make argmax a coin toss."""
    row = max(processor.languages.values())
    with torch.no_grad():
        model.output_weight[row] += 0.01 * torch.randn(
            model.config.hidden_size, generator=torch.Generator().manual_seed(1)
        )


def waveform(seconds: float, seed: int = 0) -> np.ndarray:
    """Something with structure in time: a few gliding tones and noise [samples], 16 kHz."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * 16_000)) / 16_000
    tones = [np.sin(2 * np.pi * (f + 40 * time) * time) for f in generator.uniform(100, 3000, size=4)]
    return (0.1 * sum(tones) + 0.02 * generator.standard_normal(len(time))).astype(np.float32)


def _save(model_class: Any, config: Any, directory: str | Path, seed: int, extractor: Any = None) -> Path:
    path = Path(directory)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = model_class(config)
        with torch.no_grad():  # the usual small initial values make every row of a tiny model look the same
            for parameter in model.parameters():
                if parameter.requires_grad and parameter.dim() > 1:
                    parameter.mul_(4.0)
    model.save_pretrained(path)
    if extractor is not None:
        # The hub's checkpoints name it preprocessor_config.json.
        extractor.save_pretrained(path)
        assert (path / "preprocessor_config.json").exists()
    return path


def _train_sentencepiece(path: Path, kind: str, sentences: Sequence[str]) -> int:
    path.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*sentences] * 4),
        model_writer=stream,
        vocab_size=150,
        model_type=kind,
        character_coverage=1.0,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (path / "sentencepiece.bpe.model").write_bytes(stream.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=stream.getvalue()).get_piece_size()


def _fairseq_vocabulary(path: Path) -> dict[str, int]:
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path / "sentencepiece.bpe.model"))
    pieces = [processor.id_to_piece(i) for i in range(3, processor.get_piece_size())]
    return {piece: i for i, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", *pieces])}


def _write_tokenizer_config(path: Path, tokenizer_class: str, **fields: Any) -> None:
    names = {"bos": "<s>", "eos": "</s>", "sep": "</s>", "cls": "<s>", "unk": "<unk>", "pad": "<pad>"}
    tokens = {f"{name}_token": token for name, token in names.items()}
    config = {"tokenizer_class": tokenizer_class, "src_lang": None, "tgt_lang": None, **tokens, **fields}
    (path / "tokenizer_config.json").write_text(json.dumps(config))


def _update_json(path: Path, **fields: Any) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | fields))
