"""The demo's speech part: a small Whisper-class model trained to transcribe synthetic speech in five languages.

Joint training: CTC over characters on the encoder (decisive at first) and cross-entropy of the decoder. The encoder
runs at true lengths with masks, the way a composite runs it, not on 30 seconds of padding.

B utterances, M mel bands, T frames, F encoder frames, C characters, N tokens.
"""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from types import SimpleNamespace

import jiwer
import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)
from transformers.models.whisper.tokenization_whisper import LANGUAGES as WHISPER_LANGUAGES

from comsl.model.adapter import length_mask
from comsl.model.speech import SpeechEncoder
from comsl.progress import console, track

from . import corpus
from .speech import TEST_VARIANTS, Utterance, speak

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


def train_tokenizer(out: Path, seed: int, lines_a_language: int, vocabulary: int = 700) -> WhisperTokenizer:
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
        max_target_positions=128, dropout=0.05, init_std=0.05, pad_token_id=end, bos_token_id=end, eos_token_id=end,
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
    """The Whisper model run at true lengths, and a CTC head beside it."""

    def __init__(self, model: WhisperForConditionalGeneration) -> None:
        super().__init__()
        self.model = model
        self.encoder = SpeechEncoder(SimpleNamespace(speech_config=model.config))  # type: ignore[arg-type]
        self.encoder.encoder = model.model.encoder
        self.ctc_head = nn.Linear(model.config.d_model, len(CTC_VOCABULARY))

    def encode(self, mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """[B, M, T], [B, T] -> hidden [B, F, d], lengths [B]."""
        return self.encoder(mel, mask)

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
        """mel [B, M, T], mask [B, T], characters [B, C] padded with -100, ids and labels [B, N] padded with -100."""
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


def losses(recognizer: Recognizer, batch: dict[str, Tensor], with_decoder: bool) -> tuple[Tensor, Tensor]:
    """(CTC per character, cross-entropy per token)."""
    hidden, lengths = recognizer.encode(batch["mel"], batch["mask"])
    spelled = recognizer.ctc_head(hidden).float().log_softmax(-1).transpose(0, 1)
    characters = batch["characters"]
    sizes = (characters >= 0).sum(1)
    ctc = nn.functional.ctc_loss(
        spelled, characters.clamp(min=0), lengths, sizes, blank=0, reduction="sum", zero_infinity=True
    )
    ctc = ctc / sizes.sum()
    if not with_decoder:
        return ctc, ctc.new_zeros(())
    logits = recognizer.decode(batch["ids"], hidden, lengths)
    return ctc, nn.functional.cross_entropy(
        logits.transpose(1, 2), batch["labels"], ignore_index=-100, label_smoothing=0.05
    )


@torch.no_grad()
def error_rates(
    recognizer: Recognizer, utterances: list[Utterance], mels: list[np.ndarray], tokenizer: WhisperTokenizer
) -> dict[str, float]:
    """Character error rates in percent: greedy CTC by language and over all, and the decoder's greedy transcripts."""
    recognizer.eval()
    batches = Batches(utterances, mels, tokenizer)
    spelled, written = [""] * len(mels), [""] * len(mels)
    for rows in batches.order(np.random.default_rng(0), 20_000):
        batch = batches.batch(rows)
        hidden, lengths = recognizer.encode(batch["mel"], batch["mask"])
        best = recognizer.ctc_head(hidden).argmax(-1)
        for row, ids, length in zip(rows, best, lengths.tolist(), strict=True):
            merged = torch.unique_consecutive(ids[:length]).tolist()
            spelled[row] = "".join(CTC_VOCABULARY[i] for i in merged if i)
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
        reference = [ctc_text(utterances[i].text) for i in chosen]
        rates[language] = round(100 * jiwer.cer(reference, [spelled[i] or " " for i in chosen]), 2)
    everything = [u.text for u in utterances]
    rates["decoder"] = round(100 * jiwer.cer(everything, [text or " " for text in written]), 2)
    return rates


def pretrain_speech(
    out: Path,
    utterances: int = 9_000,
    epochs: float = 7.0,
    frames: int = 8_000,
    seed: int = 1,
    peak: float = 1.5e-3,
    workers: int = 2,
    cache: Path | None = None,
    test_rows: int = 60,
) -> dict:
    """Train the speech part and save it to `out` (float16 weights). Returns the training log.

    `cache` names a file that keeps the features of the training utterances for the next run; `test_rows` are sentences
    a language.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    started = time.monotonic()
    tokenizer = train_tokenizer(out, seed, min(3000, utterances))
    texts = []
    for language in LANGUAGES:
        count = utterances // len(LANGUAGES)
        texts += [(language, text) for text in corpus.sentences(language, int(count * 0.88), seed)]
        texts += [(language, text) for text in corpus.random_words(language, int(count * 0.12), seed)]
    spoken = speak(texts, seed)
    mels = corpus.features(spoken, workers, cache=cache)
    test = speak([(x, t) for x in LANGUAGES for t in corpus.held_out(x)[:test_rows]], seed + 1, TEST_VARIANTS)
    test_mels = corpus.features(test, workers, "speaking the test set", cache and cache.with_suffix(".test.npz"))

    recognizer = Recognizer(new_model(tokenizer))
    batches = Batches(spoken, mels, tokenizer)
    rng = np.random.default_rng([seed, 4])
    plan: list[np.ndarray] = []
    per_epoch = len(batches.order(np.random.default_rng(0), frames))
    steps = int(per_epoch * epochs)
    while len(plan) < steps:
        plan += batches.order(rng, frames, shortest_first=not plan)  # CTC finds its first alignments in short clips
    optimizer = torch.optim.AdamW(
        [p for p in recognizer.parameters() if p.requires_grad], lr=peak, betas=(0.9, 0.98), weight_decay=0.01
    )
    warmup = max(1, steps // 12)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, max(0.01, (steps - step) / (steps - warmup)))
    )
    log: dict = {
        "steps": steps, "utterances": len(texts), "hours": round(sum(m.shape[1] for m in mels) / 360_000, 2),
        "epochs": epochs, "seed": seed, "test_rows": test_rows, "history": [],
    }  # fmt: skip
    for step, rows in enumerate(track(plan[:steps], description="speech part", unit="step"), 1):
        recognizer.train()
        with_decoder = step > steps * 0.45
        ctc, entropy = losses(recognizer, batches.batch(rows, rng if step > steps * 0.35 else None), with_decoder)
        (ctc + 0.3 * entropy).backward()
        nn.utils.clip_grad_norm_(recognizer.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 100 == 0 or step == steps:
            record: dict = {"step": step, "ctc": round(ctc.item(), 4), "cross_entropy": round(entropy.item(), 4)}
            record["seconds"] = round(time.monotonic() - started, 1)
            if step % 500 == 0:
                record["cer"] = error_rates(recognizer, test, test_mels, tokenizer)
            log["history"].append(record)
            console.print(f"speech part: {record}")
        if step % 300 == 0 and step < steps:
            save(recognizer, tokenizer, out, log)
    log["cer"] = error_rates(recognizer, test, test_mels, tokenizer)
    log["seconds"] = round(time.monotonic() - started, 1)
    log["parameters"] = sum(p.numel() for p in recognizer.model.parameters())
    log["encoder_parameters"] = sum(p.numel() for p in recognizer.model.model.encoder.parameters())
    save(recognizer, tokenizer, out, log)
    return log


def save(recognizer: Recognizer, tokenizer: WhisperTokenizer, out: Path, log: dict) -> None:
    """Weights in half precision, tokenizer, feature extractor, CTC head, log and model card."""
    copy.deepcopy(recognizer.model).half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(out)
    head = {name: tensor.half().contiguous() for name, tensor in recognizer.ctc_head.state_dict().items()}
    save_file(head, out / "ctc_head.safetensors")
    (out / "ctc_vocabulary.json").write_text(json.dumps(CTC_VOCABULARY, ensure_ascii=False) + "\n")
    (out / "training_log.json").write_text(json.dumps(log, indent=1) + "\n")
    if "cer" not in log:  # not finished
        return
    rates = ", ".join(f"{name} {rate}" for name, rate in log["cer"].items())
    (out / "README.md").write_text(
        f"""# Speech part of the ComSL demo

A Whisper-class model (transformers `WhisperForConditionalGeneration`, {log["parameters"] / 1e6:.2f} M
parameters of which the encoder {log["encoder_parameters"] / 1e6:.2f} M, float16). Random weights, then
{log["steps"]} steps of about 80 seconds on {log["utterances"]} utterances ({log["hours"]} hours) of espeak-ng
speech in German, Spanish, French, Welsh and English: sentences of the demo's grammar and, 12%, sequences of random
words. CTC over characters on the encoder plus cross-entropy of the decoder. The encoder was trained at true lengths
with masks, not on 30 seconds of padding; the decoder has no timestamps. It understands the demo's synthetic voices and
vocabulary, not people.

Character error rate in percent on {5 * log["test_rows"]} held-out sentences spoken by voices never heard in training
(greedy; CTC by language, then the decoder with case and punctuation): {rates}.

`ctc_head.safetensors` and `ctc_vocabulary.json` are the CTC head. Made by `comsl demo --pretrain`;
`training_log.json` is its log. Licence: Apache-2.0.
"""
    )
