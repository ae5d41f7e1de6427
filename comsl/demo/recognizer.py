"""The demo's speech recogniser: a small Whisper with two CTC heads, its batches, losses and error rates.

The encoder runs at true lengths with masks, the way a composite runs it, not on 30 seconds of padding. One head spells
characters, the other, on the encoder's output, pieces of the tokenizer.

B utterances, M mel bands, T frames, F encoder frames, C characters, N tokens, V symbols.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jiwer
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration, WhisperTokenizer
from transformers.models.whisper.tokenization_whisper import LANGUAGES as WHISPER_LANGUAGES

from comsl.model.adapter import length_mask
from comsl.model.packing import Spans
from comsl.model.speech import SpeechEncoder

from . import corpus
from .speech import Utterance

LANGUAGES = ("de", "es", "fr", "cy", "en")
CTC_VOCABULARY = ["<blank>", *" '-aáàâäbcçdeéèêëfghiíîïjklmnñoóôöœpqrsßtuúùûüvwŵxyŷz"]
_START, _END, _NO_TIMES = "<|startoftranscript|>", "<|endoftext|>", "<|notimestamps|>"
_SPECIAL = [
    _END, _START, *(f"<|{code}|>" for code in WHISPER_LANGUAGES), "<|translate|>", "<|transcribe|>", "<|startoflm|>",
    "<|startofprev|>", "<|nospeech|>", _NO_TIMES,
]  # fmt: skip
_SIZES = {"d_model": 128, "encoder_layers": 4, "decoder_layers": 2, "heads": 4}


def ctc_text(text: str) -> str:
    """What the CTC head spells: lower case, letters, apostrophes, hyphens and single spaces."""
    known = set(CTC_VOCABULARY)
    return " ".join("".join(c for c in text.lower() if c in known).split())


def train_tokenizer(out: Path, seed: int, lines_a_language: int, vocabulary: int = 1500) -> WhisperTokenizer:
    """Byte-level BPE with Whisper's special tokens (but no timestamps), in Whisper's files."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    lines = (f" {text}" for language in LANGUAGES for text in corpus.sentences(language, lines_a_language, seed))
    tokenizer.train_from_iterator(lines, trainer)
    content = json.loads(tokenizer.to_str())["model"]
    (out / "vocab.json").write_text(json.dumps(content["vocab"], ensure_ascii=False))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in content["merges"]]
    (out / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    whisper = WhisperTokenizer(
        vocab=content["vocab"], merges=[tuple(m.split(" ")) for m in merges], unk_token=_END, bos_token=_END,
        eos_token=_END, pad_token=_END, additional_special_tokens=_SPECIAL,
    )  # fmt: skip
    whisper.save_pretrained(out)
    return WhisperTokenizer.from_pretrained(out)


def _id(tokenizer: WhisperTokenizer, token: str) -> int:
    found = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(found, int)
    return found


def new_model(tokenizer: WhisperTokenizer) -> WhisperForConditionalGeneration:
    """Random weights; sinusoid positions in the encoder."""
    end = _id(tokenizer, _END)
    config = WhisperConfig(
        vocab_size=len(tokenizer), num_mel_bins=80, d_model=_SIZES["d_model"],
        encoder_layers=_SIZES["encoder_layers"], decoder_layers=_SIZES["decoder_layers"],
        encoder_attention_heads=_SIZES["heads"], decoder_attention_heads=_SIZES["heads"],
        encoder_ffn_dim=4 * _SIZES["d_model"], decoder_ffn_dim=4 * _SIZES["d_model"], max_source_positions=1500,
        max_target_positions=128, dropout=0.0, init_std=0.05, pad_token_id=end, bos_token_id=end, eos_token_id=end,
        decoder_start_token_id=_id(tokenizer, _START),
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        decoder_start_token_id=config.decoder_start_token_id, bos_token_id=end, eos_token_id=end, pad_token_id=end,
        max_length=128, is_multilingual=True, no_timestamps_token_id=_id(tokenizer, _NO_TIMES),
        lang_to_id={f"<|{code}|>": _id(tokenizer, f"<|{code}|>") for code in WHISPER_LANGUAGES},
        task_to_id={task: _id(tokenizer, f"<|{task}|>") for task in ("translate", "transcribe")},
    )  # fmt: skip
    return model


class Recognizer(nn.Module):
    """The Whisper model run at true lengths, and two CTC heads for characters and for pieces, whose blank is last."""

    def __init__(self, model: WhisperForConditionalGeneration) -> None:
        super().__init__()
        self.model = model
        self.encoder = SpeechEncoder(SimpleNamespace(speech_config=model.config))  # type: ignore[arg-type]
        self.encoder.encoder = model.model.encoder
        self.ctc_head = nn.Linear(model.config.d_model, len(CTC_VOCABULARY))
        self.piece_head = nn.Linear(model.config.d_model, model.config.vocab_size + 1)
        self.middle: Tensor | None = None  # [1, all frames, d] of the last pass, packed, halfway up the encoder
        self.spans: Spans | None = None  # where its clips lie
        layers = model.model.encoder.layers
        layers[len(layers) // 2 - 1].register_forward_hook(self._keep_middle)

    def _keep_middle(self, _layer: nn.Module, _inputs: Any, output: Any) -> None:
        self.middle = output[0] if isinstance(output, tuple) else output

    def halfway(self) -> Tensor:
        """States [B, F, d] of the last pass halfway up the encoder, behind its final layer norm."""
        assert self.middle is not None, "nothing has been encoded yet"
        assert self.spans is not None
        return self.spans.padded(self.model.model.encoder.layer_norm(self.middle)[0])

    def encode(self, mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """[B, M, T], [B, T] -> hidden [B, F, d], lengths [B]."""
        hidden, lengths = self.encoder(mel, mask)
        self.spans = Spans.consecutive(lengths)
        return hidden, lengths

    def decode(self, ids: Tensor, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Token ids [B, N] -> logits [B, N, V]; as WhisperDecoder.forward, with the encoder's padding masked."""
        decoder = self.model.model.decoder
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        states = decoder.embed_tokens(ids) + decoder.embed_positions(ids, position_ids=positions.expand_as(ids))
        states = nn.functional.dropout(states, p=decoder.dropout, training=self.training)
        causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()[None, None]
        inside = length_mask(lengths, hidden.shape[1])[:, None, None, :].expand(-1, 1, ids.shape[1], -1)
        for layer in decoder.layers:
            states = layer(
                states, causal.expand(len(ids), -1, -1, -1), hidden, encoder_attention_mask=inside, use_cache=False
            )
        return self.model.proj_out(decoder.layer_norm(states))


class Batches:
    """Utterances as padded batches of similar length, with SpecAugment."""

    def __init__(self, utterances: list[Utterance], mels: list[np.ndarray], tokenizer: WhisperTokenizer) -> None:
        self.mels = mels
        index = {c: i for i, c in enumerate(CTC_VOCABULARY)}
        self.characters = [[index[c] for c in ctc_text(u.text)] for u in utterances]
        start, no_times = (_id(tokenizer, t) for t in (_START, _NO_TIMES))
        task, self.end = (_id(tokenizer, t) for t in ("<|transcribe|>", _END))
        languages = {code: _id(tokenizer, f"<|{code}|>") for code in LANGUAGES}
        bodies = tokenizer([" " + u.text for u in utterances], add_special_tokens=False).input_ids
        self.prompts = [[start, languages[u.language], task, no_times] for u in utterances]
        self.tokens = [p + b for p, b in zip(self.prompts, bodies, strict=True)]

    def order(self, rng: np.random.Generator, frames: int, shortest_first: bool = False) -> list[np.ndarray]:
        """One epoch: random batches of clips of similar length, at most `frames` mel frames with padding."""
        lengths = np.array([m.shape[1] for m in self.mels])
        order = np.argsort(lengths * rng.uniform(0.95, 1.05, len(lengths)))
        batches: list[np.ndarray] = []
        current: list[int] = []
        longest = 0
        for i in order:
            longest = max(longest, lengths[i])
            if current and longest * (len(current) + 1) > frames:
                batches.append(np.array(current))
                current, longest = [], lengths[i]
            current.append(i)
        batches.append(np.array(current))
        return batches if shortest_first else [batches[i] for i in rng.permutation(len(batches))]

    def batch(self, rows: np.ndarray, rng: np.random.Generator | None = None) -> dict[str, Tensor]:
        """mel [B, M, T], mask [B, T], characters [B, C] and pieces [B, N] padded with -100, ids and labels."""
        mels = [torch.from_numpy(self.mels[i].astype(np.float32)) for i in rows]
        if rng is not None:
            mels = [_spec_augment(m, rng) for m in mels]
        longest = max(m.shape[1] for m in mels)
        tokens = [self.tokens[i] for i in rows]
        labels = [[-100] * 3 + t[4:] + [self.end] for t in tokens]  # the prompt is given, not predicted
        return {
            "mel": torch.stack([nn.functional.pad(m, (0, longest - m.shape[1])) for m in mels]),
            "mask": torch.tensor([[1] * m.shape[1] + [0] * (longest - m.shape[1]) for m in mels]),
            "characters": _pad([self.characters[i] for i in rows], -100),
            "pieces": _pad([t[4:] for t in tokens], -100),
            "ids": _pad(tokens, self.end),
            "labels": _pad(labels, -100),
        }


def _pad(rows: list[list[int]], value: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


def _spec_augment(mel: Tensor, rng: np.random.Generator) -> Tensor:
    """Two bands of up to 10 mels and two stretches of up to 8% of the time, set to the clip's mean."""
    mel, mean = mel.clone(), mel.mean()
    for _ in range(2):
        height, width = int(rng.integers(0, 11)), int(rng.integers(0, max(2, min(25, mel.shape[1] // 12))))
        top, left = int(rng.integers(0, 81 - height)), int(rng.integers(0, mel.shape[1] - width))
        mel[top : top + height] = mean
        mel[:, left : left + width] = mean
    return mel


def _ctc(head: nn.Linear, hidden: Tensor, lengths: Tensor, labels: Tensor, blank: int) -> Tensor:
    """CTC per symbol of `labels` [B, N], padded with -100, read from `hidden` [B, F, d]."""
    sizes = (labels >= 0).sum(1)
    spelled = head(hidden).float().log_softmax(-1).transpose(0, 1)
    total = nn.functional.ctc_loss(
        spelled, labels.clamp(min=0), lengths, sizes, blank=blank, reduction="sum", zero_infinity=True
    )
    return total / sizes.sum()


def losses(recognizer: Recognizer, batch: dict[str, Tensor], pieces: bool) -> tuple[Tensor, Tensor]:
    """(CTC, cross-entropy of the decoder per token).

    First the encoder learns to spell characters, with 30% of the loss halfway up, read by the same head (Lee and
    Watanabe 2021, "Intermediate loss regularization for CTC-based speech recognition"). With `pieces` its output names
    pieces and only the states halfway up characters (hierarchical CTC, Sanabria and Metze 2018), and the decoder learns
    too; before, the cross-entropy is 0.
    """
    hidden, lengths = recognizer.encode(batch["mel"], batch["mask"])
    halfway = _ctc(recognizer.ctc_head, recognizer.halfway(), lengths, batch["characters"], 0)
    if not pieces:
        return 0.7 * _ctc(
            recognizer.ctc_head, hidden, lengths, batch["characters"], 0
        ) + 0.3 * halfway, hidden.new_zeros(())
    named = _ctc(recognizer.piece_head, hidden, lengths, batch["pieces"], recognizer.model.config.vocab_size)
    logits = recognizer.decode(batch["ids"], hidden, lengths)
    return 0.7 * named + 0.3 * halfway, nn.functional.cross_entropy(
        logits.transpose(1, 2), batch["labels"], ignore_index=-100, label_smoothing=0.05
    )


@torch.no_grad()
def error_rates(
    recognizer: Recognizer, utterances: list[Utterance], mels: list[np.ndarray], tokenizer: WhisperTokenizer
) -> dict[str, float]:
    """Character error rates in percent: the decoder's by language and over all, then those of the two CTC heads."""
    recognizer.eval()
    blank = recognizer.model.config.vocab_size
    batches = Batches(utterances, mels, tokenizer)
    spelled, read, written = [""] * len(mels), [""] * len(mels), [""] * len(mels)
    for rows in batches.order(np.random.default_rng(0), 20_000):
        batch = batches.batch(rows)
        hidden, lengths = recognizer.encode(batch["mel"], batch["mask"])
        best, named = recognizer.ctc_head(recognizer.halfway()).argmax(-1), recognizer.piece_head(hidden).argmax(-1)
        for place, row in enumerate(rows):
            characters, pieces = (torch.unique_consecutive(x[place, : lengths[place]]).tolist() for x in (best, named))
            spelled[row] = "".join(CTC_VOCABULARY[i] for i in characters if i)
            read[row] = tokenizer.decode([i for i in pieces if i != blank], skip_special_tokens=True)
        ids = batch["ids"][:, :4]
        done = torch.zeros(len(ids), dtype=torch.bool)
        while not done.all() and ids.shape[1] < 60:
            token = recognizer.decode(ids, hidden, lengths)[:, -1].argmax(-1).masked_fill(done, batches.end)
            ids, done = torch.cat([ids, token[:, None]], 1), done | (token == batches.end)
        for row, text in zip(rows, tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
            written[row] = text.strip()
    rates = {}
    for language in (*LANGUAGES, "all"):
        chosen = [i for i, u in enumerate(utterances) if language in (u.language, "all")]
        rates[language] = _cer([utterances[i].text for i in chosen], [written[i] for i in chosen])
    everything = [u.text for u in utterances]
    return rates | {"pieces": _cer(everything, read), "characters": _cer(everything, spelled)}


def _cer(references: list[str], hypotheses: list[str]) -> float:
    """In percent, on what the character head can spell: neither case nor punctuation counts."""
    pairs = [[ctc_text(text) for text in texts] for texts in (references, hypotheses)]
    return round(100 * jiwer.cer(pairs[0], [text or " " for text in pairs[1]]), 2)
