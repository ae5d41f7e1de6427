"""The demo's text part: a small mBART-50-class model that knows German, Spanish, French and English.

Trained on translation into English, denoising and copying. Welsh letters are in its sentencepiece model but the
language is not: composing has to add its token, as ComSL does for Welsh and Catalan.

B rows, S source tokens, N target tokens.
"""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import sacrebleu
import sentencepiece
import torch
from transformers import MBart50Tokenizer, MBartConfig, MBartForConditionalGeneration

from comsl.progress import console, track

from . import corpus
from .grammar import generate, held_out, held_out_sentences

LANGUAGES = {"de": "de_DE", "es": "es_XX", "fr": "fr_XX", "en": "en_XX"}
SOURCES = ("de", "es", "fr")
_LETTERS = "aáàâäæbcçdeéèêëfghiíîïjklmnñoóôöœpqrsßtuúùûüvwŵxyŷÿz"
_SIZES = {"d_model": 128, "layers": 3, "heads": 4, "ffn": 512}


def train_tokenizer(out: Path, seed: int, lines_a_language: int, vocabulary: int = 1500) -> MBart50Tokenizer:
    """A sentencepiece unigram model over all five languages, in the hub's layout for mBART-50."""
    lines = [text for language in (*LANGUAGES, "cy") for text in corpus.sentences(language, lines_a_language, seed)]
    lines += [text for language in (*LANGUAGES, "cy") for text in corpus.random_words(language, 500, seed)]
    lines += [
        " ".join(_LETTERS),
        " ".join(_LETTERS.upper()),
        "0 1 2 3 4 5 6 7 8 9",
        ". , ? ! ' ’ - : ; ( ) \" ¿ ¡ & %",
    ] * 5
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(out / "sentencepiece.bpe"), vocab_size=vocabulary,
        model_type="unigram", character_coverage=1.0, minloglevel=2, num_threads=1, hard_vocab_limit=False,
    )  # fmt: skip
    (out / "sentencepiece.bpe.vocab").unlink()
    config = {"tokenizer_class": "MBart50Tokenizer", "src_lang": "en_XX", "mask_token": "<mask>"}
    (out / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = MBart50Tokenizer.from_pretrained(out)
    tokenizer.save_pretrained(out)
    return tokenizer


def new_model(tokenizer: MBart50Tokenizer) -> MBartForConditionalGeneration:
    """Random weights."""
    config = MBartConfig(
        vocab_size=len(tokenizer), d_model=_SIZES["d_model"], encoder_layers=_SIZES["layers"],
        decoder_layers=_SIZES["layers"],
        encoder_attention_heads=_SIZES["heads"], decoder_attention_heads=_SIZES["heads"],
        encoder_ffn_dim=_SIZES["ffn"], decoder_ffn_dim=_SIZES["ffn"], max_position_embeddings=512, dropout=0.1,
        attention_dropout=0.0, activation_dropout=0.0, scale_embedding=True, init_std=0.05,
        bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id, forced_eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return MBartForConditionalGeneration(config)


class Examples:
    """Draws training examples: (source ids, target ids), both [language, tokens, end].

    A text model that has read the world has seen words whole, in parts and misspelt, and pages as well as sentences.
    One this small would only ever read whole words of short sentences, and adapted speech, some twelve frames a second
    with gaps and repetitions, is nothing like that. So sources come in three kinds (`spell`), and some rows are
    several sentences long.
    """

    def __init__(self, tokenizer: MBart50Tokenizer, pieces: Path, pairs: int, seed: int) -> None:
        self.tokenizer = tokenizer
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
        self.rng = np.random.default_rng([seed, 3])
        sentencepiece.set_random_generator_seed(seed)
        self.languages = dict(zip(LANGUAGES, self._ids(list(LANGUAGES.values())), strict=True))
        self.ready: list[list[tuple[list[int], list[int]]]] = []
        self.translation: dict[str, list[tuple[str, str]]] = {}
        self.plain: dict[str, list[str]] = {}
        for language in track(SOURCES, description="writing sentences", unit="language"):
            found = generate(language, pairs, seed, held_out_sentences())
            self.translation[language] = [(pair.source, pair.english) for pair in found]
            self.plain[language] = [pair.source for pair in found]
            self.plain.setdefault("en", []).extend(pair.english for pair in found)
        for language in LANGUAGES:
            self.plain[language] += corpus.random_words(language, pairs // 8, seed)

    def spell(self, text: str) -> list[int]:
        """Ids of a source: its usual pieces (50%), random pieces (15%), or as it is heard (35%)."""
        kind = self.rng.random()
        if kind < 0.5:
            return self._best(text)
        if kind < 0.65:
            found = self.pieces.encode(text, out_type=str, enable_sampling=True, alpha=0.2, nbest_size=-1)
            return self._ids(found)
        return self._heard(self._best(text))

    def _heard(self, ids: list[int]) -> list[int]:
        """What a listener might note 12 times a second: pieces drawn out, gaps between them, slips."""
        pace, slips = self.rng.uniform(0.2, 0.7), self.rng.random(len(ids))
        times, gaps = self.rng.geometric(1 - 0.4 * pace, len(ids)), self.rng.geometric(1 - pace, len(ids))
        heard: list[int] = []
        for piece, slip, count, gap in zip(ids, slips, times.tolist(), gaps.tolist(), strict=True):
            if slip > 0.03:  # else left out
                heard += [int(self.rng.integers(4, len(self.pieces))) if slip < 0.06 else piece] * count
            heard += [self.tokenizer.unk_token_id] * (gap - 1)
        return heard

    def _best(self, text: str) -> list[int]:
        return self._ids(self.pieces.encode(text, out_type=str))

    def _ids(self, pieces: list[str]) -> list[int]:
        found = self.tokenizer.convert_tokens_to_ids(pieces)
        assert isinstance(found, list)
        return found

    def _noised(self, ids: list[int]) -> list[int]:
        """Either spans of about three tokens become one mask each (35% of the text), or 15% of the tokens do singly."""
        mask = self.tokenizer.mask_token_id
        if self.rng.random() < 0.5:
            hidden = self.rng.random(len(ids)) < 0.15
            return [mask if h else i for h, i in zip(hidden, ids, strict=True)]
        noised, index = [], 0
        while index < len(ids):
            if self.rng.random() < 0.14:
                index += max(1, int(self.rng.poisson(3)))
                noised.append(mask)
            else:
                noised.append(ids[index])
                index += 1
        return noised

    def _choose(self, items: list[Any]) -> list[Any]:
        """One item, or (10%) two or three."""
        count = 1 if self.rng.random() < 0.9 else int(self.rng.integers(2, 4))
        return [items[i] for i in self.rng.integers(0, len(items), count)]

    def draw(self) -> tuple[list[int], list[int]]:
        """60% translation, 15% denoising, 25% copying (from whatever spelling to the usual one)."""
        kind, end = self.rng.random(), self.tokenizer.eos_token_id
        if kind < 0.6:
            language = SOURCES[int(self.rng.integers(len(SOURCES)))]
            pairs, other = self._choose(self.translation[language]), "en"
        else:
            language = other = tuple(LANGUAGES)[int(self.rng.integers(len(LANGUAGES)))]
            pairs = [(text, text) for text in self._choose(self.plain[language])]
        source = self.spell(" ".join(s for s, _ in pairs))
        if 0.6 <= kind < 0.75:
            source = self._noised(source)
        target = self._best(" ".join(t for _, t in pairs))
        return [self.languages[language], *source, end], [self.languages[other], *target, end]

    def batch(self, tokens: int) -> dict[str, torch.Tensor]:
        """A batch of at most `tokens` source tokens, padding included.

        input_ids, attention_mask [B, S]; decoder_input_ids [B, N] = [end, language, tokens]; labels [B, N].
        """
        if not self.ready:  # rows of similar length together: a third less padding
            batches: list[list[tuple[list[int], list[int]]]] = [[]]
            for row in sorted((self.draw() for _ in range(512)), key=lambda row: len(row[0]) + len(row[1])):
                if len(batches[-1]) * max(len(source) for source, _ in [*batches[-1], row]) > tokens - len(row[0]):
                    batches.append([])
                batches[-1].append(row)
            self.ready = [batches[i] for i in self.rng.permutation(len(batches))]
        rows = self.ready.pop()
        end, pad = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        source = _pad([s for s, _ in rows], pad)
        return {
            "input_ids": source,
            "attention_mask": (source != pad).long(),
            "decoder_input_ids": _pad([[end, *t[:-1]] for _, t in rows], pad),
            "labels": _pad([t for _, t in rows], -100),
        }


def _pad(rows: list[list[int]], value: int) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


@torch.no_grad()
def translate(
    model: MBartForConditionalGeneration, tokenizer: MBart50Tokenizer, texts: list[str], language: str, batch: int = 50
) -> list[str]:
    """Greedy translation into English."""
    model.eval()
    tokenizer.src_lang = LANGUAGES[language]
    found: list[str] = []
    for start in range(0, len(texts), batch):
        inputs = tokenizer(texts[start : start + batch], return_tensors="pt", padding=True)
        ids: Any = model.generate(  # type: ignore[misc]
            **inputs, forced_bos_token_id=tokenizer.convert_tokens_to_ids("en_XX"), max_new_tokens=48, num_beams=1,
            do_sample=False,
        )  # fmt: skip
        found += tokenizer.batch_decode(ids, skip_special_tokens=True)
    return found


def evaluate(
    model: MBartForConditionalGeneration, tokenizer: MBart50Tokenizer, split: str, count: int
) -> dict[str, float]:
    """BLEU on the first `count` held-out sentences of "test" or "dev" by source language."""
    scores = {}
    for language in SOURCES:
        pairs = held_out(language, split)[:count]
        hypotheses = translate(model, tokenizer, [p.source for p in pairs], language)
        scores[language] = round(sacrebleu.corpus_bleu(hypotheses, [[p.english for p in pairs]]).score, 2)
    return scores


def pretrain_text(
    out: Path,
    steps: int = 3500,
    batch_tokens: int = 1300,
    pairs: int = 30_000,
    seed: int = 1,
    peak: float = 2e-3,
    test_rows: int = 300,
) -> dict:
    """Train the text part and save it to `out` (float16 weights). Returns the training log.

    `pairs` and `test_rows` are sentence pairs a language.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    started = time.monotonic()
    tokenizer = train_tokenizer(out, seed, min(4000, pairs))
    model = new_model(tokenizer)
    examples = Examples(tokenizer, out / "sentencepiece.bpe.model", pairs, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
    warmup = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, max(0.01, (steps - step) / (steps - warmup)))
    )
    log: dict = {"steps": steps, "batch_tokens": batch_tokens, "pairs_per_language": pairs, "seed": seed, "history": []}
    log["test_rows"] = test_rows
    for step in track(range(1, steps + 1), description="text part", unit="step"):
        model.train()
        batch = examples.batch(batch_tokens)
        labels = batch.pop("labels")
        logits = model(**batch, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), labels, ignore_index=-100, label_smoothing=0.05
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 100 == 0 or step == steps:
            record: dict[str, Any] = {
                "step": step,
                "loss": round(loss.item(), 4),
                "seconds": round(time.monotonic() - started, 1),
            }
            if step % 1000 == 0:
                record["bleu"] = evaluate(model, tokenizer, "dev", 60)
            log["history"].append(record)
            console.print(f"text part: {record}")
        if step % 500 == 0 and step < steps:
            save(model, tokenizer, out, log)
    log["bleu"] = evaluate(model, tokenizer, "test", test_rows)
    log["seconds"] = round(time.monotonic() - started, 1)
    log["parameters"] = sum(p.numel() for p in model.parameters())
    save(model, tokenizer, out, log)
    return log


def save(model: MBartForConditionalGeneration, tokenizer: MBart50Tokenizer, out: Path, log: dict) -> None:
    """Weights in half precision, tokenizer, log and model card."""
    tokenizer.src_lang = "en_XX"
    copy.deepcopy(model).half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "training_log.json").write_text(json.dumps(log, indent=1) + "\n")
    if "bleu" not in log:  # not finished
        return
    scores = ", ".join(f"{language} {score}" for language, score in log["bleu"].items())
    (out / "README.md").write_text(
        f"""# Text part of the ComSL demo

An mBART-50-class model (transformers `MBartForConditionalGeneration`, {log["parameters"] / 1e6:.2f} M parameters,
float16) and its `MBart50Tokenizer` (sentencepiece unigram). Random weights, then {log["steps"]} steps of
{log["batch_tokens"]} source tokens: translation of German, Spanish and French into English (60%), denoising (15%) and
copying (25%) in all four. Of the sources 15% are cut into random pieces, and 35% are drawn out, with gaps and slips, as
a listener might note them. All text comes from the grammar in `comsl/demo/grammar.py`; it knows nothing else, and no
Welsh.

BLEU into English on {log["test_rows"]} held-out sentences a language, greedy, sacreBLEU defaults: {scores}.

Made by `comsl demo --pretrain`; `training_log.json` is its log. Licence: Apache-2.0.
"""
    )
