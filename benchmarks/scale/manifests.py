"""Start-up and memory of a training stage's data against the number of manifest rows.

Each measurement is a process of its own, which loads the manifest, makes data set, costs and sampler, and reads the
first batch: once with an empty cache, where the manifest is converted, and again with the converted copy.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

CLIP = Path(__file__).parents[2] / "docs" / "clip.mp3"
PROCESSOR = Path(__file__).parents[2] / "comsl" / "demo" / "models" / "composite"
STAGES = ("load", "data set", "costs", "sampler", "epoch", "first batch")
LANGUAGES = ("de", "es", "fr", "cy")
_WORDS = "the old man sees a small house near the river and buys three red apples at the market on monday".split()


def write_rows(path: Path, rows: int, seed: int = 0) -> None:
    """A manifest of so many rows that all read one clip, with texts of 5 to 15 words (Common Voice has about 10)."""
    from comsl.data.manifest import write_manifest

    def made() -> Iterator[dict[str, Any]]:
        generator = np.random.default_rng(seed)
        for start in range(0, rows, 10_000):
            lengths = generator.integers(5, 16, size=(10_000, 2))
            seconds = generator.gamma(14, 0.4, 10_000).clip(1, 20).round(3)
            for number in range(start, min(rows, start + 10_000)):
                source, target = lengths[number - start].tolist()
                yield {
                    "id": f"common_voice_{number:010d}",
                    "audio": str(CLIP),
                    "duration": float(seconds[number - start]),
                    "source_language": LANGUAGES[number % len(LANGUAGES)],
                    "target_language": "en",
                    "transcript": " ".join(_WORDS[:source]),
                    "translation": " ".join(_WORDS[-target:]),
                    "split": "train",
                    "speaker": f"speaker_{number % 5000}",
                    "provenance": "made",
                }

    write_manifest(made(), path)


def measure(path: Path) -> dict[str, float]:
    """Seconds of each stage and memory, of this process."""
    import torch

    from benchmarks.machine import peak_memory
    from comsl.data.collate import Collator
    from comsl.data.dataset import NEEDS, SpeechTranslationDataset
    from comsl.data.manifest import load_manifest
    from comsl.data.sampler import BucketBatchSampler
    from comsl.model.processing import ComSLProcessor

    processor = ComSLProcessor.from_pretrained(PROCESSOR)
    torch.set_num_threads(1)  # as in a worker of the loader
    fields = sorted(NEEDS.keys() - {"ctc", "words"})  # which want a CTC head
    result = {"imports MB": peak_memory() / 2**20}
    start = last = time.perf_counter()

    def done(stage: str) -> None:
        nonlocal last
        now = time.perf_counter()
        result[stage], last = now - last, now

    manifest = load_manifest(path)
    done("load")
    dataset = SpeechTranslationDataset(manifest, processor, fields=fields)
    done("data set")
    costs = dataset.costs()
    done("costs")
    sampler = BucketBatchSampler(costs, 120.0, languages=dataset.source_languages(), temperature=2.0)
    done("sampler")
    first = next(iter(sampler))
    done("epoch")
    Collator(processor, fields)([dataset[index] for index in first])
    done("first batch")
    result["total"] = last - start
    result["peak MB"] = peak_memory() / 2**20
    return result


def compare(sizes: list[int], suffixes: list[str], folder: Path) -> list[dict[str, Any]]:
    """First and second start at every size, each in its own process."""
    results = []
    for rows in sizes:
        for suffix in suffixes:
            path = folder / f"{rows}{suffix}"
            write_rows(path, rows)
            with tempfile.TemporaryDirectory(dir=folder) as cache:
                for start in ("first", "second"):
                    measured = _in_process(path, cache)
                    results.append(
                        {"rows": rows, "format": suffix, "start": start, "file MB": path.stat().st_size / 2**20}
                        | measured
                    )
                    print(json.dumps(results[-1]), file=sys.stderr, flush=True)
            path.unlink()
    return results


def _in_process(path: Path, cache: str) -> dict[str, float]:
    environment = {**os.environ, "HF_HOME": cache, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "benchmarks.scale.manifests", str(path)]
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("manifest", type=Path)
    print(json.dumps(measure(parser.parse_args().manifest)))
