"""Time and memory of a training step against batch, vocabulary and model, on one process or on several.

Each measurement is a process of its own: all seven objectives and the frozen teacher, random weights and content,
forward and backward. With two processes, one thread each, gradients are averaged by DDP over gloo.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from benchmarks.batches import made_batch
from benchmarks.flops import batch_lengths, step_flops
from benchmarks.machine import PeakMemory, matrix_rate, median_seconds, resident_memory, run_child
from benchmarks.models import composite, text_model
from comsl.objectives import JointModel, ObjectiveSet

OBJECTIVES = dict.fromkeys(("asr", "st", "mt", "ddm", "mtp", "stm"), True)
"""And erm, whose layer the smallest model lacks."""
MEAN_SECONDS = 5.5


@dataclass(frozen=True)
class Step:
    size: str = "small"
    """Of ``benchmarks.models``."""
    utterances: int = 4
    vocabulary: int = 250_056
    frozen_speech: bool = False
    processes: int = 1
    threads: int = 0
    """Of each process; 0: as many as there are cores."""
    repeats: int = 3


def frames_of(utterances: int) -> Tensor:
    """Mel frames [B] of utterances of 3 to 8 seconds."""
    seconds = torch.linspace(3, 8, utterances) if utterances > 1 else torch.tensor([MEAN_SECONDS])
    return (100 * seconds).long()


def measure(step: Step, rank: int = 0, meeting_point: str = "") -> dict[str, Any]:
    """Median seconds, peak memory and what of it are activations, share of the machine's rate; of this process."""
    torch.set_num_threads(step.threads or os.cpu_count() or 1)
    rate = matrix_rate()
    model = composite(step.size, vocabulary=step.vocabulary).train()
    model.speech_encoder.requires_grad_(not step.frozen_speech)
    layer = min(4, model.config.text_config.encoder_layers)
    objectives = ObjectiveSet({**OBJECTIVES, "erm": {"layer": layer}})
    joint: torch.nn.Module = JointModel(model, objectives, text_model(step.size, vocabulary=step.vocabulary))
    if step.processes > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=step.processes
        )
        joint = DistributedDataParallel(joint, gradient_as_bucket_view=True)
    batch = made_batch(frames_of(step.utterances), step.vocabulary, rank)

    def run() -> None:
        joint(batch).loss.backward()

    run()  # makes the gradients, which stay
    before = resident_memory()
    with PeakMemory() as peak:
        seconds = median_seconds(run, step.repeats, warm_up=0)
    useful = sum(step_flops(model.config, batch_lengths(batch), objectives, step.frozen_speech).values())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return {
        **asdict(step),
        "seconds": seconds,
        "audio seconds": float(batch["attention_mask"].sum()) / 100,
        "trained parameters": trained,
        "peak MB": peak.bytes / 2**20,
        "activations MB": (peak.bytes - before) / 2**20,
        "useful GFLOP": useful / 1e9,
        "matrix product GFLOP/s": rate / 1e9,
        "share of limit": useful / seconds / rate,
    }


@functools.cache
def in_own_process(step: Step) -> dict[str, Any]:
    result = run_child("benchmarks.scale.steps", [json.dumps(asdict(step))])
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def _rank(rank: int, step: Step, meeting_point: str, output: str) -> None:
    result = measure(step, rank, meeting_point)
    torch.distributed.destroy_process_group()
    if rank == 0:
        with open(output, "w") as file:
            json.dump(result, file)


def _all_ranks(step: Step) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "result.json")
        torch.multiprocessing.spawn(  # type: ignore[attr-defined]
            _rank, (step, os.path.join(folder, "meeting point"), output), step.processes
        )
        with open(output) as file:
            return json.load(file)


def efficiency(step: Step) -> dict[str, Any]:
    """Throughput of two processes over twice that of one; every process has one thread and the same batch size."""
    one = in_own_process(replace(step, processes=1, threads=1))
    two = in_own_process(replace(step, processes=2, threads=1))
    return {"one": one, "two": two, "efficiency": one["seconds"] / two["seconds"]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("step", help="a Step as JSON")
    chosen = Step(**json.loads(parser.parse_args().step))
    print(json.dumps(measure(chosen) if chosen.processes == 1 else _all_ranks(chosen)))
