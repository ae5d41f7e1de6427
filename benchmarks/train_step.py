"""A training step beside that of the published code: ``python -m benchmarks.train_step --peer DIR``.

Forward and backward of all seven objectives and the frozen teacher, with random weights in the shapes of the paper's
Medium model. Both systems get the same utterances (3 to 8 seconds, 16 + 16 tokens); the published code pads them to its
11 seconds (benchmarks/published_code.py says what it took to run it). Each runs in a process of its own, one after the
other: together they do not fit in 24 GB.

Printed, and written with ``--json``: median seconds a step; the activations that autograd keeps for the backward; the
most memory that the process had during a step, and how much of it is neither weights nor gradients; and how fast useful
arithmetic is done (benchmarks/flops.py: true lengths, everything computed once), as a share of what torch's own product
of large matrices reaches in the same process, and of the fastest product that any library in torch reaches.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.batches import made_batch, with_cached_teacher
from benchmarks.flops import batch_lengths, step_flops
from benchmarks.machine import (
    PeakMemory,
    best_rate,
    description,
    kept_by,
    matrix_rate,
    median_seconds,
    one_line,
    resident_memory,
    run_child,
)
from benchmarks.models import MBART, composite, text_model
from comsl.objectives import JointModel, ObjectiveSet

OBJECTIVES = dict.fromkeys(("asr", "st", "mt", "ddm", "mtp", "stm", "erm"), True)
SECONDS = {2: (4.0, 7.0), 8: (3.0, 4.0, 4.5, 5.0, 5.5, 6.5, 7.5, 8.0)}
"""Utterances -> their lengths: 5.5 seconds on average."""


def batch(utterances: int) -> dict[str, Tensor]:
    return made_batch(torch.tensor([round(100 * seconds) for seconds in SECONDS[utterances]]))


def ours(options: argparse.Namespace) -> tuple[nn.Module, Callable[[], Tensor], dict[str, Any]]:
    """Model, loss of a step, and its useful arithmetic."""
    objectives = ObjectiveSet(OBJECTIVES)
    model = composite(options.size, dropout=0.1)
    cached = options.system == "cached"
    teacher = None if cached else text_model(options.size)
    joint = JointModel(model, objectives, teacher, cached_teacher=cached).to(options.device).train()
    model.speech_encoder.requires_grad_(not options.frozen_speech)
    if options.checkpointing:
        model.activation_checkpointing_enable()
    made = batch(options.utterances)
    made = with_cached_teacher(made, options.cached_teacher) if cached else made
    content = {name: value.to(options.device) for name, value in made.items()}
    flops = step_flops(model.config, batch_lengths(content), objectives, options.frozen_speech)
    if cached:
        del flops["teacher"]
    return joint, lambda: joint(content).loss, {"flops": flops}


def published(options: argparse.Namespace) -> tuple[nn.Module, Callable[[], Tensor], dict[str, Any]]:
    from benchmarks.published_code import published_batch, published_step

    model, loss = published_step(options.peer, options.size, options.frozen_speech, options.peer_attention)
    model.to(options.device)
    here = {name: value.to(options.device) for name, value in batch(options.utterances).items()}
    content = published_batch(here)
    return model, lambda: loss(content), {}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One system in this process."""
    dtype = getattr(torch, options.precision)
    rates = [(matrix_rate(dtype, options.device), best_rate(dtype, options.device))]
    model, loss, facts = (published if options.system == "published" else ours)(options)

    def forward() -> Tensor:
        with torch.autocast(options.device, torch.bfloat16, enabled=options.precision == "bfloat16"):
            return loss()

    def step() -> None:
        model.zero_grad(set_to_none=True)
        forward().backward()

    weights = sum(value.nbytes for value in {p.data_ptr(): p for p in model.parameters()}.values())
    gradients = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    on_gpu = options.device != "cpu"
    before = torch.cuda.memory_allocated() if on_gpu else resident_memory()
    step()
    model.zero_grad(set_to_none=True)
    with PeakMemory(on_gpu) as peak:
        seconds = median_seconds(step, options.repeats, warm_up=0)
    rates.append((matrix_rate(dtype, options.device), best_rate(dtype, options.device)))
    model.zero_grad(set_to_none=True)
    kept = kept_by(forward)  # last: it leaves the allocator's memory in another order
    rate, best = (sum(values) / 2 for values in zip(*rates, strict=True))
    return {
        "seconds": seconds,
        "peak": peak.bytes,
        "weights": weights,
        "gradients": gradients,
        "beyond": peak.bytes - before - gradients,
        "kept": kept,
        "rate": rate,
        "best_rate": best,
        "machine": description(),
        **facts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="checkout of the published ComSL code; without it ours alone is run")
    parser.add_argument("--peer-attention", default="eager", choices=("eager", "sdpa"))
    deep = tuple(size for size, shape in MBART.items() if shape["layers"] >= 4)  # erm compares the fourth layer
    parser.add_argument("--size", default="medium", choices=deep)
    parser.add_argument("--utterances", type=int, default=2, choices=tuple(SECONDS))
    parser.add_argument("--frozen-speech", action="store_true", help="as in the first epochs")
    parser.add_argument("--checkpointing", action="store_true", help="ours: compute activations again in the backward")
    parser.add_argument(
        "--cached-teacher",
        type=int,
        metavar="K",
        help="ours once more, with the teacher's K likeliest tokens from disk",
    )
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--system", choices=("ours", "cached", "published"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.system:
        print(json.dumps(measure(options)))
        return
    arguments = [f"--{name.replace('_', '-')}" for name in ("frozen_speech", "checkpointing") if vars(options)[name]]
    for name in ("peer", "peer_attention", "size", "utterances", "precision", "device", "repeats", "cached_teacher"):
        if vars(options)[name] is not None:
            arguments += [f"--{name.replace('_', '-')}", str(vars(options)[name])]
    systems = ["published"] * bool(options.peer) + ["ours"] + ["cached"] * bool(options.cached_teacher)
    results = {name: run_child("benchmarks.train_step", [*arguments, "--system", name]) for name in systems}
    report(options, results)
    if options.json:
        options.json.write_text(json.dumps({"arguments": arguments, **results}, indent=2) + "\n")


def report(options: argparse.Namespace, results: dict[str, dict[str, Any]]) -> None:
    mine = results["ours"]
    useful = sum(mine["flops"].values())
    state = "speech encoder frozen" if options.frozen_speech else "everything trained"
    print(f"\n{one_line()}\n{options.size}, {options.utterances} utterances, {options.precision}, {state}")
    print(f"useful arithmetic {useful / 1e12:.2f} TFLOP: " + ", ".join(
        f"{name} {value / useful:.0%}" for name, value in mine["flops"].items()
    ))  # fmt: skip
    for name, result in results.items():
        speed = sum(result.get("flops", mine["flops"]).values()) / result["seconds"]
        print(
            f"{name:>10}: {result['seconds']:6.2f} s a step, {speed / 1e9:4.0f} GFLOP/s of useful arithmetic "
            f"({speed / result['rate']:.0%} of torch's product, {speed / result['best_rate']:.0%} of the fastest); "
            f"activations kept {result['kept'] / 1e9:.2f} GB; peak {result['peak'] / 1e9:.2f} GB, "
            f"{result['beyond'] / 1e9:.2f} GB beyond weights and gradients"
        )
    if options.cached_teacher:
        cached = results["cached"]
        scored = int((batch(options.utterances)["translation_labels"] != -100).sum())
        print(
            f"{'cached':>10}: {cached['seconds'] / mine['seconds']:.2f} of the time a step; "
            f"{(mine['weights'] - cached['weights']) / 1e9:.2f} GB less of weights, "
            f"{(mine['peak'] - cached['peak']) / 1e9:.2f} GB less at the peak; "
            f"{8 * options.cached_teacher} bytes on disk for each position of a translation ({scored} in the batch)"
        )
    if "published" in results:
        peer = results["published"]
        print(
            f"{'ratio':>10}: {peer['seconds'] / mine['seconds']:.2f}x the throughput, "
            f"{mine['kept'] / peer['kept']:.2f} of the activations, "
            f"{mine['beyond'] / peer['beyond']:.2f} of the memory beyond weights and gradients"
        )


if __name__ == "__main__":
    main()
