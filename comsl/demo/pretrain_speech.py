"""The demo's speech part: a small Whisper-class model trained to transcribe synthetic speech in five languages.

CTC over characters on the encoder, then hierarchical CTC (characters halfway up, pieces on top) together with the
cross-entropy of the decoder.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import WhisperFeatureExtractor, WhisperTokenizer

from comsl.progress import console, track

from . import corpus
from .recognizer import LANGUAGES, Batches, Recognizer, error_rates, losses, new_model, train_tokenizer
from .snapshot import Snapshot
from .speech import DEV_VARIANTS, TEST_VARIANTS, Utterance, speak


@dataclass(frozen=True)
class Stage:
    """Characters first, then pieces and the decoder (see `recognizer.losses`); `peak` is the highest learning rate."""

    steps: int
    pieces: bool
    peak: float


SAVE_STEPS = 500
"""Steps between two snapshots."""
STAGES = (Stage(11_000, False, 1.5e-3), Stage(14_000, True, 1.2e-3))


class _Trainer:
    """The recogniser, its data and its log."""

    def __init__(self, out: Path, utterances: int, seed: int, workers: int, cache: Path | None, test_rows: int) -> None:
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(seed)
        self.out, self.seed, self.started = out, seed, time.monotonic()
        self.tokenizer = train_tokenizer(out, seed, min(3000, utterances))
        texts = []
        for language in LANGUAGES:
            count = utterances // len(LANGUAGES)
            texts += [(language, text) for text in corpus.sentences(language, int(count * 0.88), seed)]
            texts += [(language, text) for text in corpus.random_words(language, int(count * 0.12), seed)]
        spoken = speak(texts, seed)
        mels = corpus.features(spoken, workers, cache=cache)
        self.batches = Batches(spoken, mels, self.tokenizer)
        self.workers, self.test_rows = workers, test_rows
        self.dev = self.measured("dev")
        self.recognizer = Recognizer(new_model(self.tokenizer))
        self.log: dict[str, Any] = {
            "steps": 0, "utterances": len(texts), "hours": round(sum(m.shape[1] for m in mels) / 360_000, 2),
            "seed": seed, "test_rows": test_rows, "history": [],
        }  # fmt: skip

    def plan(self, steps: int, frames: int, rng: np.random.Generator, shortest_first: bool) -> list[np.ndarray]:
        """The rows of every step; CTC finds its first alignments in short clips, so a fifth of them come first."""
        plan: list[np.ndarray] = []
        if shortest_first:
            ordered = self.batches.order(rng, frames, shortest_first=True)
            rest = [batch for i, batch in enumerate(ordered) if i % 5]
            plan = ordered[::5] + [rest[i] for i in rng.permutation(len(rest))]
        while len(plan) < steps:
            plan += self.batches.order(rng, frames)
        return plan[:steps]

    def run(self, stage: Stage, frames: int, snapshot_file: Path) -> None:
        """One rise and fall of the learning rate, from where an interrupted call left it."""
        steps, warmup = stage.steps, max(1, min(400, stage.steps // 12))
        rng = np.random.default_rng([self.seed, 4, int(stage.pieces)])
        optimizer = torch.optim.AdamW(self.recognizer.parameters(), lr=stage.peak, betas=(0.9, 0.98), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / warmup, max(0.01, (steps - step) / max(1, steps - warmup)))
        )
        plan = self.plan(steps, frames, rng, shortest_first=not stage.pieces)
        settings = {"stage": asdict(stage), "frames": frames, "utterances": self.log["utterances"], "seed": self.seed}
        snapshot = Snapshot(snapshot_file, settings, recognizer=self.recognizer, optimizer=optimizer, schedule=schedule)
        done = 0
        if (progress := snapshot.restore()) is not None:
            done, self.log, rng.bit_generator.state = progress["step"], progress["log"], progress["rng"]
            self.started = time.monotonic() - progress["seconds"]
        description = "speech part, " + ("pieces" if stage.pieces else "characters")
        for step, rows in enumerate(track(plan[done:], description=description, unit="step"), done + 1):
            self.recognizer.train()
            augment = rng if stage.pieces or step > steps * 0.3 else None
            ctc, entropy = losses(self.recognizer, self.batches.batch(rows, augment), stage.pieces)
            (ctc + 0.3 * entropy).backward()
            nn.utils.clip_grad_norm_(self.recognizer.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            self.log["steps"] += 1
            if step % 500 == 0 or step == steps:
                self.record(ctc.item(), entropy.item(), measure=step % 1500 == 0)
            if step % SAVE_STEPS == 0 or step == steps:
                seconds = time.monotonic() - self.started
                snapshot.save(step=step, log=self.log, rng=rng.bit_generator.state, seconds=seconds)

    def record(self, ctc: float, entropy: float, measure: bool) -> None:
        """One line of the log; the model so far is saved where it is measured."""
        entry: dict[str, Any] = {"step": self.log["steps"], "ctc": round(ctc, 4), "cross_entropy": round(entropy, 4)}
        entry["seconds"] = round(time.monotonic() - self.started, 1)
        if measure:
            entry["cer"] = error_rates(self.recognizer, *self.dev, self.tokenizer)
            save(self.recognizer, self.tokenizer, self.out, self.log)
        self.log["history"].append(entry)
        console.print(f"speech part: {entry}")

    def measured(self, split: str) -> tuple[list[Utterance], list[np.ndarray]]:
        """Held-out sentences in voices that are in no training set, and their features."""
        texts = [(x, text) for x in LANGUAGES for text in corpus.held_out(x, split)[: self.test_rows]]
        spoken = speak(texts, self.seed + 1, {"dev": DEV_VARIANTS, "test": TEST_VARIANTS}[split])
        return spoken, corpus.features(spoken, self.workers, f"speaking the {split} set")

    def finish(self) -> dict[str, Any]:
        model = self.recognizer.model
        self.log["cer"] = error_rates(self.recognizer, *self.measured("test"), self.tokenizer)
        self.log["seconds"] = round(time.monotonic() - self.started, 1)
        self.log["parameters"] = sum(p.numel() for p in model.parameters())
        self.log["encoder_parameters"] = sum(p.numel() for p in model.model.encoder.parameters())
        save(self.recognizer, self.tokenizer, self.out, self.log)
        return self.log


def pretrain_speech(
    out: Path,
    utterances: int = 36_000,
    stages: Sequence[Stage] = STAGES,
    frames: int = 3_000,
    seed: int = 1,
    workers: int = 2,
    cache: Path | None = None,
    test_rows: int = 60,
) -> dict[str, Any]:
    """Train the speech part and save it to `out` (float16 weights). Interrupted, it goes on from its last snapshot.

    Args:
        out: directory of the model.
        utterances: training utterances, all languages together.
        stages: of training.
        frames: mel frames (10 ms) in a batch, padding included.
        seed: of everything random.
        workers: processes that synthesise.
        cache: a file that keeps the features of the training utterances for the next run.
        test_rows: test sentences a language; and as many of the development set, which progress is measured on.

    Returns:
        The training log, which is saved beside the weights.
    """
    trainer = _Trainer(out, utterances, seed, workers, cache, test_rows)
    snapshots = [out / f"snapshot-{number}.pt" for number, _ in enumerate(stages, 1)]
    for stage, file in zip(stages, snapshots, strict=True):
        trainer.run(stage, frames, file)
    log = trainer.finish()
    for file in snapshots:
        file.unlink()
    return log


def save(recognizer: Recognizer, tokenizer: WhisperTokenizer, out: Path, log: dict) -> None:
    """Weights in half precision, tokenizer, feature extractor, log and model card."""
    copy.deepcopy(recognizer.model).half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(out)
    (out / "training_log.json").write_text(json.dumps(log, indent=1) + "\n")
    if "cer" not in log:  # not finished
        return
    rates = ", ".join(f"{name} {rate}" for name, rate in log["cer"].items())
    (out / "README.md").write_text(
        f"""# Speech part of the ComSL demo

A Whisper-class model (transformers `WhisperForConditionalGeneration`, {log["parameters"] / 1e6:.2f} M
parameters of which the encoder {log["encoder_parameters"] / 1e6:.2f} M, float16). Random weights, then
{log["steps"]} steps of about 30 seconds on {log["utterances"]} utterances ({log["hours"]} hours) of espeak-ng
speech in German, Spanish, French, Welsh and English: sentences of the demo's grammar and, 12%, sequences of random
words. CTC over characters on the encoder, then CTC over characters halfway up and over pieces on top, together with the
cross-entropy of the decoder. The encoder was trained at true lengths with masks, not on 30 seconds of padding; the
decoder has no timestamps. It understands the demo's synthetic voices and vocabulary, not people.

Character error rate in percent on {5 * log["test_rows"]} held-out sentences spoken by voices never heard in training
(greedy; neither case nor punctuation counts):
{rates}.
The first six are the decoder's, "pieces" and "characters" those of two CTC heads that only the training needs.

Made by `comsl demo --pretrain`; `training_log.json` is its log. Licence: Apache-2.0.
"""
    )
