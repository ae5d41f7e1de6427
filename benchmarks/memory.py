"""How a translation memory weighs its sentences, by the figures of a development set.

    python -m benchmarks.memory --model runs/mboshi-study/arms/joint/1 --memory runs/mboshi-study/data/train.jsonl \
           --manifest runs/mboshi-study/data/validation.jsonl

A row for each pair of weights: of how a sentence is spelled (``comsl.inference.memory.LIKENESS``) and of how likely the
CTC head finds it (``SHARPNESS``). *nearest*: cosine of the best sentence and the true transcript, mean over clips; it
varies less than a score of so few translations does. The greatest there is stands below the table.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from comsl.data.audio import load_audio
from comsl.data.characters import normalize_characters
from comsl.data.manifest import load_manifest
from comsl.evaluation.metrics import bleu_metric, chrf_metric
from comsl.inference.clips import prepare_clip
from comsl.inference.encoding import embed_clips
from comsl.inference.lookup import Lookup
from comsl.inference.mbr import least_risk
from comsl.inference.memory import LIKENESS, NEAREST, SHARPNESS, Recalled, TranslationMemory, read_memory
from comsl.model import load_model

RULES = [(0, 5), (5, 1), (10, 1), (15, 1), (10, 2), (15, 2), (20, 2), (15, 3), (20, 3), (20, 5), (40, 5)]
"""Of likeness and sharpness."""

Row = dict[str, Any]


def recalled(rows: list[Row], model: Any, processor: Any, memory: TranslationMemory) -> list[list[Recalled]]:
    found = []
    with torch.inference_mode():
        for row in rows:
            clip = prepare_clip(load_audio(row["audio"]), processor)
            (heard,) = embed_clips(model, processor, [clip], [processor.language_id(row["source_language"])], True)
            assert heard.ctc is not None
            found.append(memory.recall(heard.ctc, processor, row["source_language"], row["target_language"]))
    return found


def ranked(sentences: list[Recalled], likeness: float, sharpness: float) -> list[Recalled]:
    smallest = max(NEAREST, min(each.gap for each in sentences))
    scores = [likeness * each.likeness - sharpness * max(each.gap, NEAREST) / smallest for each in sentences]
    pairs = zip(sentences, scores, strict=True)
    return sorted((replace(each, score=score) for each, score in pairs), key=lambda each: -each.score)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="one with a CTC head")
    parser.add_argument(
        "--manifest", type=Path, required=True, help="development set, with transcripts, of one direction"
    )
    parser.add_argument("--memory", type=Path, required=True, help="manifest of the memory's sentences")
    arguments = parser.parse_args()
    rows: list[Row] = load_manifest(arguments.manifest).to_list()
    model, processor = load_model(arguments.model)
    memory = read_memory([arguments.memory])
    found = recalled(rows, model.eval(), processor, memory)
    texts = sorted({normalize_characters(said) for said in load_manifest(arguments.memory)["transcript"]})
    places, lookup = {text: place for place, text in enumerate(texts)}, Lookup(texts, texts)
    nearest = [lookup.similarities(normalize_characters(row["transcript"])) for row in rows]
    references = [row["translation"] for row in rows]
    table = Table("likeness", "sharpness", "nearest", "chrF++", "BLEU", "of the best one alone")
    for rule in RULES:
        order = [ranked(sentences, *rule) if sentences else [] for sentences in found]
        cosines = [
            cosine[places[best[0].transcript]] if best else 0.0 for cosine, best in zip(nearest, order, strict=True)
        ]
        answers = [least_risk(recalled=memory.voices(best)).text if best else "" for best in order]
        alone = [best[0].translation if best else "" for best in order]
        table.add_row(
            *(f"{weight:g}" for weight in rule),
            f"{sum(cosines) / len(rows):.3f}",
            f"{chrf_metric().corpus_score(answers, [references]).score:.1f}",
            *(f"{bleu_metric().corpus_score(each, [references]).score:.1f}" for each in (answers, alone)),
        )
    greatest = sum(map(max, nearest)) / len(rows)
    Console().print(
        table,
        f"{len(rows)} clips; the sentence nearest to the true transcript: {greatest:.3f}; "
        f"likeness {LIKENESS:g} and sharpness {SHARPNESS:g} are what comsl has",
    )


if __name__ == "__main__":
    main()
