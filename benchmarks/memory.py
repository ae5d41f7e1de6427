"""How a translation memory chooses, by the figures of a development set.

    python -m benchmarks.memory --model runs/mboshi-study/arms/joint/1 --memory runs/mboshi-study/data/train.jsonl \
           --manifest runs/mboshi-study/data/validation.jsonl

A row for each rule (``comsl.inference.memory.Rule``): transcripts that are drawn of a clip, weight of how a sentence is
spelled, weight of how likely the CTC head finds it. *nearest*: cosine of the best sentence and the true transcript, the
mean over clips and its standard error; it is a cosine of the same kind as likeness and says nothing of translations.
The scores have their 95% intervals.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from comsl.data.audio import load_audio
from comsl.data.characters import normalize_characters
from comsl.data.manifest import load_manifest
from comsl.evaluation.metrics import score
from comsl.inference.clips import prepare_clip
from comsl.inference.encoding import embed_clips
from comsl.inference.lookup import Lookup
from comsl.inference.mbr import least_risk
from comsl.inference.memory import Recalled, Rule, TranslationMemory, read_memory
from comsl.model import load_model

WEIGHTS = [(0, 5), (10, 0), (5, 1), (10, 1), (15, 1), (10, 2), (15, 2), (20, 2), (15, 3), (20, 3), (20, 5), (40, 5)]
"""Of likeness and sharpness."""
RULES = [
    *(Rule(likeness=likeness, sharpness=sharpness) for likeness, sharpness in WEIGHTS),
    *(Rule(hearings=hearings) for hearings in (0, 16, 256)),
]

Row = dict[str, Any]


def heard(rows: Sequence[Row], model: Any, processor: Any) -> list[Tensor]:
    """Log-probabilities of the CTC head."""
    found = []
    with torch.inference_mode():
        for row in rows:
            clip = prepare_clip(load_audio(row["audio"]), processor)
            (embedded,) = embed_clips(model, processor, [clip], [processor.language_id(row["source_language"])], True)
            assert embedded.ctc is not None
            found.append(embedded.ctc)
    return found


class Nearest:
    """Cosines of the memory's sentences and the true transcripts."""

    def __init__(self, rows: Sequence[Row], memory: Path) -> None:
        both = [row for row in load_manifest(memory) if row["transcript"] and row["translation"]]
        texts = sorted({normalize_characters(row["transcript"]) for row in both})
        lookup = Lookup(texts, texts)
        self._places = {text: place for place, text in enumerate(texts)}
        self._cosines = [lookup.similarities(normalize_characters(row["transcript"])) for row in rows]

    def greatest(self) -> float:
        return float(np.mean([cosines.max() for cosines in self._cosines]))

    def of(self, found: Sequence[Sequence[Recalled]]) -> str:
        cosines = np.array(
            [
                cosines[self._places[best[0].transcript]] if best else 0.0
                for cosines, best in zip(self._cosines, found, strict=True)
            ]
        )
        return f"{cosines.mean():.3f} ± {cosines.std(ddof=1) / len(cosines) ** 0.5:.3f}"


def answer(memory: TranslationMemory, best: Sequence[Recalled]) -> str:
    return least_risk(recalled=memory.voices(best)).text if best else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="one with a CTC head")
    parser.add_argument(
        "--manifest", type=Path, required=True, help="development set, with both texts, of one direction"
    )
    parser.add_argument("--memory", type=Path, required=True, help="manifest of the memory's sentences")
    arguments = parser.parse_args()
    rows: list[Row] = load_manifest(arguments.manifest).to_list()
    model, processor = load_model(arguments.model)
    if not model.config.ctc_vocabulary:
        parser.error(f"{arguments.model} has no CTC head")
    log_probs = heard(rows, model.eval(), processor)
    nearest = Nearest(rows, arguments.memory)
    memory, references = read_memory([arguments.memory]), [row["translation"] for row in rows]
    directions = [(row["source_language"], row["target_language"]) for row in rows]
    table = Table("drawn", "likeness", "sharpness", "nearest", "chrF++", "BLEU")
    for rule in RULES:
        memory.rule = rule
        pairs = zip(log_probs, directions, strict=True)
        found = [memory.recall(each, processor, *direction) for each, direction in pairs]
        scores = score([answer(memory, best) for best in found], references, directions[0][1])
        table.add_row(
            *(f"{value:g}" for value in (rule.hearings, rule.likeness, rule.sharpness)),
            nearest.of(found),
            *(f"{each.score:.1f} ± {each.ci:.1f}" for each in (scores.chrf, scores.bleu)),
            style="bold" if rule == Rule() else None,
        )
    Console().print(
        table, f"{len(rows)} clips; of the sentence nearest to the true transcript: {nearest.greatest():.3f}"
    )


if __name__ == "__main__":
    main()
