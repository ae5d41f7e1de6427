"""The paper's Medium at its full size on one machine with 24 GB: ``python -m benchmarks.full_size``.

Random weights in exactly the shapes of openai/whisper-medium and of facebook/mbart-large-50-many-to-many-mmt with two
languages added. One training step of all seven objectives with the frozen teacher (or its cached distributions), AdamW
included, in float32; then one translation of a clip of 5.5 seconds with 5 beams. Printed, and written with ``--json``:
seconds of each and the most memory that the process had.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.batches import with_cached_teacher
from benchmarks.machine import PeakMemory, description, one_line
from benchmarks.models import build, text_model
from benchmarks.train_step import OBJECTIVES, batch
from benchmarks.translate_checkpoints import NEVER, comsl_config
from benchmarks.translate_systems import NEW_TOKENS, clips
from comsl.allocator import limit_kernel_caches
from comsl.inference.clips import prepare_clip
from comsl.inference.decode import DecodingOptions, decode_speech
from comsl.inference.precision import with_precision
from comsl.inference.translate import shipped_model
from comsl.model import ComSLProcessor
from comsl.model.modeling import ComSLForConditionalGeneration
from comsl.objectives import JointModel, ObjectiveSet

UTTERANCES = 2


def train_step(model: Any, top_k: int | None) -> dict[str, Any]:
    """Forward, backward and an update, beside the teacher or with ``top_k`` of its tokens from a cache."""
    teacher = None if top_k else text_model("medium")
    joint = JointModel(model, ObjectiveSet(OBJECTIVES), teacher, cached_teacher=teacher is None).train()
    parameters = [parameter for parameter in joint.parameters() if parameter.requires_grad]
    # Fused: the others write copies of a parameter, a gigabyte each for the vocabulary's, on the way.
    optimizer = torch.optim.AdamW(parameters, 2e-5, (0.9, 0.98), 1e-6, 0.1, fused=True)
    content = with_cached_teacher(batch(UTTERANCES), top_k) if top_k else batch(UTTERANCES)
    with PeakMemory() as peak:
        start = time.perf_counter()
        output = joint(content)
        output.loss.backward()
        until_update = peak.bytes
        optimizer.step()
        seconds = time.perf_counter() - start
    joint.zero_grad(set_to_none=True)
    return {
        "seconds": seconds,
        "peak": peak.bytes,
        "peak_until_update": until_update,
        "loss": output.loss.item(),
        "terms": {name: float(total / count.clamp_min(1)) for name, (total, count) in output.terms.items()},
        "trained": sum(parameter.numel() for parameter in parameters),
        "teacher": 0 if teacher is None else sum(parameter.numel() for parameter in teacher.parameters()),
    }


def translation(model: Any) -> dict[str, Any]:
    """A clip through the encoder and beam search; the end never wins, so that there is something to search."""
    processor = ComSLProcessor.from_pretrained(shipped_model())
    with PeakMemory() as peak:
        model.text_model.final_logits_bias[0, model.config.eos_token_id] = NEVER
        with_precision(model, "float32")
        clip = prepare_clip(clips(1)[0], processor)
        options = DecodingOptions(beam=5, max_new_tokens=NEW_TOKENS)
        start = time.perf_counter()
        (hypothesis,) = decode_speech(model, processor, [clip], "de", "en", options=options)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak": peak.bytes, "tokens": len(hypothesis.tokens), "clip_seconds": clip.seconds}


def measure(top_k: int | None) -> dict[str, Any]:
    limit_kernel_caches()
    model = build(lambda: ComSLForConditionalGeneration(comsl_config("medium")))
    sizes = {"speech_encoder": model.speech_encoder.encoder, "adapter": model.adapter, "text_model": model.text_model}
    parameters = {name: sum(value.numel() for value in part.parameters()) for name, part in sizes.items()}
    trained = train_step(model, top_k)
    gc.collect()
    return {
        "parameters": parameters,
        "train_step": trained,
        "translation": translation(model),
        "machine": description(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cached-teacher", type=int, metavar="K", help="the K likeliest tokens of the teacher instead of the teacher"
    )
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    found = measure(options.cached_teacher)
    step, translated = found["train_step"], found["translation"]
    print(one_line())
    print(", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in found["parameters"].items()), "parameters")
    teacher = f"a teacher of {step['teacher']:,} parameters" if step["teacher"] else "a cached teacher"
    peaks = f"peak {step['peak'] / 1e9:.1f} GB ({step['peak_until_update'] / 1e9:.1f} GB until the update)"
    print(
        f"training step, {UTTERANCES} utterances, AdamW, {teacher}: {step['seconds']:.1f} s, {peaks}, "
        f"loss {step['loss']:.3f}"
    )
    print(
        f"translation of {translated['clip_seconds']:.1f} s, 5 beams, {translated['tokens']} tokens: "
        f"{translated['seconds']:.1f} s, peak {translated['peak'] / 1e9:.1f} GB"
    )
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
