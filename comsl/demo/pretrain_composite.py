"""The composite that ships as the default model of `comsl translate`: the demo's, with more triples and more steps."""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch

from comsl.evaluation.evaluate import evaluate
from comsl.model.compose import compose
from comsl.model.loading import load_model
from comsl.training.configuration import load_configuration
from comsl.training.run import train

from .demo import LANGUAGES, NEW_LANGUAGES, RECIPES
from .world import build_world

SIZES = {"de": 2500, "es": 2500, "fr": 2500, "cy": 2500}


def pretrain_composite(out: Path, parts: Path, work: Path, seed: int = 1, overrides: tuple[str, ...] = ()) -> dict:
    """Train the composite of `parts`/speech and `parts`/text and save it to `out` (float16 weights).

    Args:
        out: directory of the model.
        parts: directory that holds the two pretrained parts.
        work: directory of the speech and the training runs; an interrupted call goes on from what is there.
        seed: of the sentences, the voices and the training.
        overrides: configuration words for both trainings.

    Returns:
        The training log: BLEU by language, steps, seconds.
    """
    started = time.monotonic()
    world = build_world(work / "world", SIZES, seed=seed)
    start = work / "parts"
    compose(parts / "speech", parts / "text", new_languages=NEW_LANGUAGES, languages=LANGUAGES, out=start)
    for recipe in ("shipped_mt", "shipped"):
        words = [
            "--model", str(start), "--output_dir", str(work / recipe), "--seed", str(seed),
            "--data.train", str(world.train), "--data.dev", str(world.dev), *overrides,
        ]  # fmt: skip
        result = train(load_configuration(RECIPES / f"{recipe}.yaml", words))
        start = result.output_dir
    model, processor = load_model(start, torch.float32)
    for config in (model.config.speech_config, model.config.text_config):
        config._name_or_path = ""  # where the parts lay on the machine that trained is nobody's business
    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out)
    processor.save_pretrained(out)
    measured = evaluate(out, world.test, work / "test", ("direct",), beam=5, batch_size=32, show=False)
    translated, heard = measured.scores["systems"]["direct"], measured.scores["transcription"]["direct"]
    log = {
        "bleu": {name: round(pair["bleu"]["score"], 2) for name, pair in translated["pairs"].items()},
        "signature": next(iter(translated["pairs"].values()))["bleu"]["signature"],
        "wer": {name: round(pair["wer"], 2) for name, pair in heard["pairs"].items()},
        "triples": SIZES,
        "steps": result.steps,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(time.monotonic() - started, 1),
        "seed": seed,
    }
    (out / "training_log.json").write_text(json.dumps(log, indent=1) + "\n")
    _write_card(out, log)
    return log


def _write_card(out: Path, log: dict) -> None:
    bleu = ", ".join(f"{name} {value}" for name, value in log["bleu"].items())
    errors = ", ".join(f"{name} {value}" for name, value in log["wer"].items())
    (out / "README.md").write_text(
        f"""# The default model of `comsl translate`

A ComSL composite ({log["parameters"] / 1e6:.2f} M parameters, float16) of the two small parts beside this folder,
trained with all seven objectives for {log["steps"]} steps on {sum(log["triples"].values())} synthetic
speech-translation triples: German, Spanish, French and Welsh into English. It shows what the toolkit does and lets
every command run offline; it knows about 100 concepts and espeak-ng's voices. For real speech, train on real speech.

On 100 unseen sentences a language, spoken by unseen voices, beam 5:
BLEU {bleu}
({log["signature"]});
word error rate in percent {errors}.

Made by `comsl demo --pretrain`. Licence: Apache-2.0.
"""
    )
