"""`comsl demo`: the whole path on a small world.

Two small pretrained parts are composed, trained on a deliberately small and unbalanced set of speech-translation
triples, and measured on unseen sentences from unseen voices against the honest alternatives:

    scratch      the composite's architecture from random weights, speech translation only
    st           the composite, speech translation only
    comsl        the composite, all seven objectives
    cascade      the composite trained on transcription alone, then the text part fine-tuned on translation
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from transformers.utils import logging as transformers_logging

from comsl.data.manifest import load_manifest
from comsl.errors import ComSLError
from comsl.evaluation.evaluate import evaluate
from comsl.evaluation.records import REPORT
from comsl.evaluation.report import show
from comsl.evaluation.significance import compare
from comsl.inference.inputs import FileError
from comsl.inference.translate import Translator
from comsl.languages import get_language
from comsl.model.compose import compose
from comsl.training.configuration import load_configuration
from comsl.training.run import train

from .pretrain import MODELS
from .world import TEST_SIZE, World, build_world

RECIPES = Path(__file__).parent / "recipes"
LANGUAGES = ["de", "es", "fr", "cy", "en"]
NEW_LANGUAGES = {"cy": "en"}
SUMMARY = "demo.json"


@dataclass(frozen=True)
class System:
    """One line of the table: how it is trained and which system of `evaluate` it is."""

    name: str
    recipe: str
    system: str = "direct"
    overrides: tuple[str, ...] = ()
    title: str = ""


SYSTEMS = (
    System(
        "scratch", "st", "direct", ("--reinitialize", "true", "--freeze_speech_encoder", "0"), "from scratch, ST only"
    ),
    System("st", "st", "direct", (), "composite, ST only"),
    System("comsl", "comsl", "direct", (), "composite, all objectives"),
    System("cascade", "asr", "cascade", (), "cascade (ASR, then MT)"),
)


def run_demo(
    out: Path,
    sizes: Mapping[str, int] | None = None,
    overrides: tuple[str, ...] = (),
    beam: int = 4,
    test_size: int = TEST_SIZE,
) -> dict[str, Any]:
    """Build the world, compose, train, compare, translate a clip.

    Args:
        out: directory of everything; a demo that was interrupted goes on where it stopped.
        sizes: training triples by language; None: those of `world.DEFAULT_SIZES`.
        overrides: configuration words for every training, such as ("--training.max_steps", "20").
        beam: of the evaluation.
        test_size: test triples a language.

    Returns:
        What `OUT/demo.json` holds: BLEU by system and language, with signature, and the seconds of each step.

    Raises:
        ComSLError: espeak-ng or the shipped parts are missing, or a step failed.
    """
    transformers_logging.disable_progress_bar()
    screen, last = Console(highlight=False), time.monotonic()
    earlier = _earlier_seconds(out / SUMMARY)
    seconds: dict[str, float] = {}

    def done(name: str) -> None:
        nonlocal last
        last, before = time.monotonic(), last
        # A step that an earlier start has finished takes no time again: what it took then is what it takes.
        seconds[name] = max(round(last - before, 1), earlier.get(name, 0.0))

    screen.rule("1. Two pretrained parts become one model")
    start = _compose(out, screen)
    done("compose")

    screen.rule("2. A small world")
    world = build_world(out / "world", sizes, test_size=test_size)
    _describe(screen, world)
    done("world")

    screen.rule("3. Training")
    text_model = _train("mt", out / "runs" / "mt", start, world, overrides)
    done("train mt")
    for system in SYSTEMS:
        screen.print(f"[bold]{system.title}[/bold] (comsl/demo/recipes/{system.recipe}.yaml)")
        _train(system.recipe, out / "runs" / system.name, text_model, world, (*system.overrides, *overrides))
        done(f"train {system.name}")

    screen.rule("4. Unseen sentences from unseen voices")
    results = {system.name: _evaluate(system, out, text_model, world, beam) for system in SYSTEMS}
    done("evaluate")
    summary = {"bleu": _bleu(results), "world": world.facts, "seconds": seconds}
    _table(screen, summary)
    show(compare(out / "eval" / "st", out / "eval" / "comsl").render())

    screen.rule("5. A clip")
    _translate_one(screen, out / "runs" / "comsl", world)
    done("clip")
    seconds["all"] = round(sum(seconds.values()), 1)
    (out / SUMMARY).write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    screen.print(f"\nScores, curves, best and worst examples: [bold]{out / 'eval' / 'comsl' / REPORT}[/bold]")
    screen.print(f"Everything above again as numbers: {out / SUMMARY} ({seconds['all']:.0f} s in all)")
    return summary


def _earlier_seconds(summary: Path) -> dict[str, float]:
    """Seconds of each step of a demo that has been through in this directory."""
    return json.loads(summary.read_text(encoding="utf-8"))["seconds"] if summary.is_file() else {}


def _describe(screen: Console, world: World) -> None:
    table = Table()
    for column in ("language", "resource level", "training triples", "test triples"):
        table.add_column(column, justify="left" if column == "language" else "right")
    largest = max(world.facts["sizes"].values())
    for code, size in world.facts["sizes"].items():
        level = "high" if size == largest else "mid" if size >= largest / 3 else "low"
        table.add_row(get_language(code).name, level, str(size), str(world.facts["test_size"]))
    screen.print(table)
    screen.print(
        f"{world.facts['test_sources_unseen']:.0%} of the test sentences and all of their voices are unseen in "
        f"training; of their translations {world.facts['test_translations_unseen']:.0%} are unseen."
    )


def _compose(out: Path, screen: Console) -> Path:
    """The composite before any training, with a Welsh token that starts from the English one."""
    start = out / "parts"
    model, _ = compose(
        MODELS / "speech",
        MODELS / "text",
        new_languages=NEW_LANGUAGES,
        languages=LANGUAGES,
        out=start,
    )
    sizes = {
        "speech encoder": model.speech_encoder,
        "length adapter (new)": model.adapter,
        "text model": model.text_model,
    }
    counts = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in sizes.items()}
    screen.print(" + ".join(f"{name} {count:.2f} M" for name, count in counts.items()) + " parameters")
    return start


def _train(recipe: str, run: Path, start: Path, world: World, overrides: tuple[str, ...]) -> Path:
    """Train a recipe from the model in `start`; a finished run is left alone."""
    words = [
        "--model", str(start), "--output_dir", str(run), "--data.train", str(world.train), "--data.dev", str(world.dev),
        *overrides,
    ]  # fmt: skip
    return train(load_configuration(RECIPES / f"{recipe}.yaml", words)).output_dir


def _evaluate(system: System, out: Path, text_model: Path, world: World, beam: int) -> dict[str, Any]:
    """scores.json of one system on the test set."""
    run = out / "runs" / system.name
    kinds = ("cascade", "text") if system.system == "cascade" else ("direct",)
    return evaluate(
        run, world.test, out / "eval" / system.name, kinds, cascade_asr=run, cascade_mt=text_model,
        train_manifest=world.train if system.name == "comsl" else None, task="translate", beam=beam, batch_size=32,
        show=False,
    ).scores  # fmt: skip


def _bleu(results: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """BLEU by system and language, the two reference lines of the cascade and the look-up included; the signature."""
    scores: dict[str, dict[str, float]] = {}
    signatures = set()
    for name, result in results.items():
        for kind, measured in result["systems"].items():
            line = name if kind in ("direct", "cascade") else kind
            scores[line] = {pair.split("-")[0]: values["bleu"]["score"] for pair, values in measured["pairs"].items()}
            signatures |= {values["bleu"]["signature"] for values in measured["pairs"].values()}
    return {**scores, "signature": sorted(signatures)}


def _table(screen: Console, summary: dict[str, Any]) -> None:
    bleu, facts = summary["bleu"], summary["world"]
    titles = {system.name: system.title for system in SYSTEMS}
    titles |= {"lookup": "floor: nearest training transcript", "text": "ceiling: MT of the reference transcript"}
    table = Table(title="BLEU into English", title_justify="left")
    table.add_column("system")
    for code in facts["sizes"]:
        table.add_column(get_language(code).name, justify="right")
    table.add_column("mean", justify="right", style="bold")
    for name in ("lookup", "scratch", "st", "comsl", "cascade", "text"):
        values = [bleu[name][code] for code in facts["sizes"]]
        row = [titles[name], *(f"{value:.1f}" for value in values), f"{sum(values) / len(values):.1f}"]
        table.add_row(*row, style="bold green" if name == "comsl" else None)
    screen.print(table)
    for signature in bleu["signature"]:
        screen.print(f"{signature}; {facts['test_size']} rows a language", style="dim")


def _translate_one(screen: Console, model: Path, world: World) -> None:
    """Play a held-out clip through the finished model."""
    row = next(row for row in load_manifest(world.test) if len(row["transcript"].split()) >= 7)
    translator = Translator.from_pretrained(model, device="cpu")
    (result,) = translator.translate([row["audio"]], row["source_language"], "en", "both")
    if isinstance(result, FileError):
        raise ComSLError(result.message)
    name = get_language(row["source_language"]).name
    screen.print(f"{row['audio']}  ({row['duration']:.1f} s of {name}, voice {row['speaker']})")
    for label, text in (
        ("heard", result.transcript or ""),
        ("translated", result.translation or ""),
        ("said", row["transcript"]),
        ("reference", row["translation"]),
    ):
        screen.print(f"  {label:<11} {text}")
