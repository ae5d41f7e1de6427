"""What each precision costs in BLEU and gains in time and memory: ``python -m benchmarks.precision``.

demo     the shipped model on test sentences of the demo's world, which are made here: BLEU, and the time of decoding
medium   a random model of the paper's Medium size: time of 4 clips of 5.5 s and 20 tokens each, size of the weights,
         and the peak memory of a process that loads it and translates

The first row is torch's own float32, as the model is without ``with_precision``.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import median_seconds, medians_in_turns, peak_memory
from benchmarks.translate_checkpoints import comsl_checkpoint
from comsl.allocator import keep_freed_memory, limit_kernel_caches
from comsl.data.audio import load_clip
from comsl.data.manifest import load_manifest
from comsl.demo.world import build_world
from comsl.errors import UsageError
from comsl.inference import PRECISIONS, Precision
from comsl.inference.clips import prepare_clip
from comsl.inference.decode import DecodingOptions, decode_speech
from comsl.inference.precision import check_precision, load_for_inference, weight_bytes
from comsl.inference.translate import shipped_model
from comsl.model import load_model
from comsl.model.products import onednn_is_faster

OWN = "torch's float32"
LANGUAGES = ("de", "es", "fr", "cy")
CLIPS, SECONDS, TOKENS = 4, 5.5, 20


def load(path: Path, precision: str) -> tuple[Any, Any]:
    return load_model(path, torch.float32) if precision == OWN else load_for_inference(path, "cpu", precision)  # type: ignore[arg-type]


def demo(names: Sequence[str], rows: int, beam: int, repetitions: int, folder: Path) -> None:
    """Print BLEU and seconds of the shipped model in each precision."""
    from comsl.evaluation.metrics import score

    world = build_world(folder / "world", dict.fromkeys(LANGUAGES, 1), test_size=rows, dev_size=1)
    test = load_manifest(world.test)
    models = {name: load(shipped_model(), name) for name in names}
    processor = models[OWN][1]
    clips = [prepare_clip(load_clip(row["audio"]), processor) for row in test]
    sources = [row["source_language"] for row in test]
    texts: dict[str, list[str]] = {}

    def decode(name: str) -> None:
        found = decode_speech(models[name][0], processor, clips, sources, "en", options=DecodingOptions(beam=beam))
        texts[name] = [hypothesis.text for hypothesis in found]

    seconds = medians_in_turns({name: functools.partial(decode, name) for name in names}, repetitions)
    print(f"\ndemo: the shipped model, {rows} test rows a language, beam {beam}, median of {repetitions}")
    columns = "  ".join(f"{code:>5}" for code in LANGUAGES)
    print(f"{'':16}  {columns}   mean   loss   same  seconds  ratio  weights")
    base = 0.0
    for name in names:
        pairs = {
            code: [
                (text, row["translation"])
                for text, row in zip(texts[name], test, strict=True)
                if row["source_language"] == code
            ]
            for code in LANGUAGES
        }
        scores = [score(*zip(*pairs[code], strict=True), "en", n_bootstrap=0).bleu for code in LANGUAGES]  # type: ignore[arg-type]
        mean = statistics.mean(bleu.score for bleu in scores)
        base = mean if name == OWN else base
        same = statistics.mean(map(str.__eq__, texts[name], texts[OWN]))
        each = "  ".join(f"{bleu.score:5.1f}" for bleu in scores)
        middle, own = seconds[name], seconds[OWN]
        print(
            f"{name:16}  {each}  {mean:5.1f}  {base - mean:5.2f}  {same:5.0%}  {middle:7.2f}  {own / middle:4.2f}x"
            f"  {weight_bytes(models[name][0]) / 1e6:4.1f} MB"
        )
    print(f"BLEU: {scores[0].signature}")


def measure(path: Path, name: str, beam: int, repetitions: int) -> dict[str, float]:
    """Seconds and bytes of one precision; in a process of its own, whose peak memory it is."""
    keep_freed_memory()  # both as comsl translate does
    limit_kernel_caches()
    start = time.perf_counter()
    model, processor = load(path, name)
    loading = time.perf_counter() - start
    generator = np.random.default_rng(0)
    noise = [generator.normal(0.0, 0.1, round(SECONDS * 16_000)).astype(np.float32) for _ in range(CLIPS)]
    clips = [prepare_clip(waveform, processor) for waveform in noise]
    options = DecodingOptions(beam=beam, max_new_tokens=TOKENS, batch_size=CLIPS)
    whole = median_seconds(lambda: decode_speech(model, processor, clips, "de", "en", options=options), repetitions)
    batch = processor.pad_features([clip.features for clip in clips])
    speech = {"input_features": batch["input_features"].to(model.dtype), "attention_mask": batch["attention_mask"]}
    ids = torch.full((CLIPS,), processor.language_id("de"))
    with torch.no_grad():
        encoding = median_seconds(lambda: model.encode(**speech, source_language_ids=ids), repetitions)
    bytes_ = {"weights": weight_bytes(model), "peak": peak_memory()}
    return {"load": loading, "whole": whole, "encode": encoding, **bytes_}


def medium(names: Sequence[str], beam: int, repetitions: int, folder: Path) -> None:
    """Print time and memory of a random model of Medium size in each precision."""
    fresh = {"max_workers": 1, "mp_context": multiprocessing.get_context("spawn"), "max_tasks_per_child": 1}
    with ProcessPoolExecutor(**fresh) as pool:  # type: ignore[arg-type]
        path = pool.submit(comsl_checkpoint, folder, "medium").result()
        results = {name: pool.submit(measure, path, name, beam, repetitions).result() for name in names}
    print(f"\nmedium: {CLIPS} clips of {SECONDS} s, {TOKENS} tokens, beam {beam}, median of {repetitions}")
    print(f"{'':16}  seconds  ratio   encoder  ratio   weights  peak memory   loading")
    own = results[OWN]
    for name, row in results.items():
        print(
            f"{name:16}  {row['whole']:7.2f}  {own['whole'] / row['whole']:4.2f}x  {row['encode']:8.2f}  "
            f"{own['encode'] / row['encode']:4.2f}x  {row['weights'] / 1e9:5.2f} GB  {row['peak'] / 1e9:8.2f} GB  "
            f"{row['load']:6.1f} s"
        )


def usable(names: Sequence[Precision]) -> list[str]:
    """The precisions that this machine computes in; it says why it leaves out the others."""
    found = [OWN]
    for name in names:
        try:
            check_precision(name, torch.device("cpu"))
            found.append(name)
        except UsageError as error:
            print(f"{name}: left out: {error}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", default=["demo", "medium"], metavar="PART", help="demo, medium (both)")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--rows", type=int, default=100, help="test rows a language of the demo (default 100)")
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where speech and checkpoint are kept (default: a temporary one)")
    arguments = parser.parse_args()
    names = usable(arguments.precision)
    kernels = "oneDNN's packed weights" if onednn_is_faster() else "torch's own products, which are as fast here"
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}; float32 uses {kernels}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if "demo" in arguments.parts:
            demo(names, arguments.rows, arguments.beam, arguments.repetitions, folder)
        if "medium" in arguments.parts:
            medium(names, arguments.beam, arguments.repetitions, folder)


if __name__ == "__main__":
    main()
