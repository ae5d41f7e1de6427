"""The input pipeline alone: ``python -m benchmarks.input_pipeline``.

Makes MP3 clips of 3 to 8 seconds (48 kHz, mono, 64 kbit/s, as Common Voice has them) and reads them through the data
set, sampler, collator and loader that training uses. Printed, and written with ``--json``:

* utterances a second on one core and on two, and what the Medium training step takes at most on the same cores: all
  its useful arithmetic (benchmarks/flops.py) at the rate of a large matrix product;
* where the time of an utterance goes, and how fast lengths are found where the manifest does not say them;
* what a cache would cost and gain: the same clips as FLAC and as 16-bit WAV at 16 kHz, and as log-mel in float16.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import av
import numpy as np
import soundfile
import torch

import comsl.data.audio as audio
from benchmarks.flops import Lengths, step_flops
from benchmarks.machine import description, matrix_rate, median_seconds
from benchmarks.models import mbart_config, whisper_config
from comsl.data.collate import Collator
from comsl.data.constants import SAMPLE_RATE
from comsl.data.dataset import SpeechTranslationDataset
from comsl.data.manifest import write_manifest
from comsl.data.recording import Recording
from comsl.data.sampler import BucketBatchSampler
from comsl.model.configuration import ComSLConfig
from comsl.model.processing import ComSLProcessor
from comsl.objectives import ObjectiveSet
from comsl.training.trainer import TrainingData

PROCESSOR = Path(__file__).parents[1] / "comsl" / "demo" / "models" / "composite"
OBJECTIVES = ObjectiveSet(dict.fromkeys(("asr", "st", "mt", "ddm", "mtp", "stm", "erm"), True))
RATE, BITRATE = 48_000, 64_000
TEXT = "the old man sees a small house near the river and buys apples"
"""About as long as a sentence of Common Voice."""


def speech_like(seconds: float, generator: np.random.Generator) -> np.ndarray:
    """[N] at 48 kHz: gliding harmonics under a syllable rhythm, and noise, which costs a decoder what speech does."""
    time_ = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(140 + 40 * np.sin(2 * np.pi * 0.7 * time_ + generator.uniform(0, 6))) / RATE
    harmonics = sum(np.sin(number * phase) / number for number in range(1, 20))
    rhythm = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * time_)
    noise = generator.standard_normal(time_.size)
    return (0.1 * rhythm * harmonics + 0.02 * noise).astype(np.float32)


def write_mp3(path: Path, waveform: np.ndarray) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libmp3lame", rate=RATE, bit_rate=BITRATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=RATE, frame_size=stream.frame_size)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


def make_clips(folder: Path, clips: int) -> list[Path]:
    generator = np.random.default_rng(0)
    paths = []
    for number, seconds in enumerate(generator.permutation(np.linspace(3, 8, clips))):
        paths.append(folder / f"{number:05d}.mp3")
        write_mp3(paths[-1], speech_like(float(seconds), generator))
    return paths


def training_data(paths: list[Path], folder: Path, processor: Any) -> TrainingData:
    """All fields of the seven objectives, in batches of 60 seconds."""
    manifest = folder / f"{paths[0].suffix[1:]}.jsonl"
    languages = {"source_language": "de", "target_language": "en"}
    rows = [
        {"id": path.name, "audio": str(path), "transcript": TEXT, "translation": TEXT, **languages} for path in paths
    ]
    write_manifest(rows, manifest)
    dataset = SpeechTranslationDataset(manifest, processor, fields=OBJECTIVES.fields)
    return TrainingData(dataset, BucketBatchSampler(dataset.costs(), 60.0), Collator(processor, OBJECTIVES.fields))


# --- measuring -------------------------------------------------------------------------------------------------------


@contextmanager
def on_cores(number: int) -> Iterator[None]:
    """This process, and the workers that it starts, on the first so many cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(before)[:number]))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def throughput(data: TrainingData, cores: int, repeats: int) -> float:
    """Utterances a second through the loader with one worker a core."""

    def epoch() -> None:
        for _ in data.loader(cores):
            pass

    with on_cores(cores):
        return len(data.dataset) / median_seconds(epoch, repeats)  # type: ignore[arg-type]


def stages(data: TrainingData) -> dict[str, float]:
    """Milliseconds an utterance by stage, in this process on one thread; "other" is what none of them takes."""
    spent: dict[str, float] = defaultdict(float)

    def timed(function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                spent[stage] += time.perf_counter() - start

        return run

    torch.set_num_threads(1)  # as in a worker
    processor = data.collate.processor  # type: ignore[attr-defined]
    places = [
        (audio, "inspect", "inspect"),
        (audio, "_decode_soundfile", "decode"),
        (Recording, "feed", "resample"),
        (processor, "features", "log-mel"),
        (processor, "token_ids", "tokenise"),
        (processor, "pad_features", "pad"),
    ]
    with ExitStack() as stack:
        for owner, name, stage in places:
            stack.enter_context(mock.patch.object(owner, name, timed(getattr(owner, name), stage)))
        for _ in range(2):  # of which the first fills the caches
            spent.clear()
            start = time.perf_counter()
            for _ in data.loader(0):
                pass
            total = time.perf_counter() - start
    spent["decode"] -= spent["resample"]  # which happens while it is decoded
    spent["other"] = total - sum(spent.values())
    return {stage: 1000 * seconds / len(data.dataset) for stage, seconds in spent.items()}  # type: ignore[arg-type]


def step_bound(rate: float, frozen_speech: bool) -> float:
    """Utterances a second of the Medium step if it were nothing but useful products at the machine's rate."""
    config = ComSLConfig(speech_config=whisper_config("medium"), text_config=mbart_config("medium"))
    lengths = Lengths(frames=550, transcript=16, translation=16, masked=2)
    return rate / sum(step_flops(config, [lengths], OBJECTIVES, frozen_speech).values())


# --- caches ----------------------------------------------------------------------------------------------------------


def converted(paths: list[Path], folder: Path, suffix: str) -> list[Path]:
    """The clips at 16 kHz and 16 bits."""
    targets = [folder / path.with_suffix(suffix).name for path in paths]
    for path, target in zip(paths, targets, strict=True):
        soundfile.write(target, audio.load_audio(path), SAMPLE_RATE, subtype="PCM_16")
    return targets


class CachedFeatures(SpeechTranslationDataset):
    """Reads float16 log-mel instead of audio, as a cache would: what is left of the pipeline is all but the audio."""

    files: list[Path]

    def _add_speech(self, example: Any, source: str | bytes) -> None:
        example.features = np.load(self.files[example.index]).astype(np.float32)
        example.duration = example.features.shape[1] / 100


def with_cached_features(paths: list[Path], folder: Path, processor: Any) -> tuple[TrainingData, list[Path]]:
    data = training_data(paths, folder, processor)
    files = [folder / path.with_suffix(".npy").name for path in paths]
    for path, file in zip(paths, files, strict=True):
        np.save(file, processor.features(audio.load_audio(path)).astype(np.float16))
    data.dataset.__class__ = CachedFeatures
    data.dataset.files = files  # type: ignore[attr-defined]
    return data, files


def megabytes_per_hour(files: list[Path], hours: float) -> float:
    return sum(file.stat().st_size for file in files) / 2**20 / hours


# --- the command -----------------------------------------------------------------------------------------------------


def measure(folder: Path, clips: int, repeats: int) -> dict[str, Any]:
    processor = ComSLProcessor.from_pretrained(PROCESSOR)
    paths = make_clips(folder, clips)
    start = time.perf_counter()
    data = training_data(paths, folder, processor)
    headers = clips / (time.perf_counter() - start)
    hours = float(data.dataset.durations().sum()) / 3600  # type: ignore[attr-defined]
    features, files = with_cached_features(paths, folder, processor)
    kinds = {
        "mp3": (data, paths),
        "flac, 16 kHz": (training_data(flac := converted(paths, folder, ".flac"), folder, processor), flac),
        "wav, 16 kHz": (training_data(wav := converted(paths, folder, ".wav"), folder, processor), wav),
        "log-mel, float16": (features, files),
    }
    available = len(os.sched_getaffinity(0))
    result: dict[str, Any] = {"machine": description(), "clips": clips, "hours": hours, "headers/s": headers}
    result["stages"] = stages(data)
    result["kinds"] = {
        name: {
            "MB/hour": megabytes_per_hour(kind_files, hours),
            "utterances/s": {cores: throughput(kind, cores, repeats) for cores in (1, 2) if cores <= available},
        }
        for name, (kind, kind_files) in kinds.items()
    }
    result["step"] = {}
    for cores in (1, 2):
        if cores <= available:
            torch.set_num_threads(cores)
            with on_cores(cores):
                rate = matrix_rate()
            result["step"][cores] = {
                "matrix product GFLOP/s": rate / 1e9,
                "utterances/s at most": step_bound(rate, frozen_speech=False),
                "utterances/s at most, speech encoder frozen": step_bound(rate, frozen_speech=True),
            }
    return result


def show(result: dict[str, Any]) -> None:
    total = sum(result["stages"].values())
    print(f"{result['clips']} MP3 clips of 3 to 8 s; one utterance takes {total:.2f} ms on one core, of which")
    for stage, milliseconds in sorted(result["stages"].items(), key=lambda item: -item[1]):
        print(f"  {stage:10} {milliseconds:6.2f} ms {100 * milliseconds / total:4.0f}%")
    print(f"\nlengths of clips without a duration column: {result['headers/s']:.0f} files/s, at every start")
    print("\nread from            MB/hour   utterances/s by cores")
    for name, kind in result["kinds"].items():
        rates = "  ".join(f"{cores}: {rate:7.1f}" for cores, rate in kind["utterances/s"].items())
        print(f"  {name:18} {kind['MB/hour']:7.1f}   {rates}")
    print("\nthe Medium step of all objectives, if it were nothing but products at the machine's rate")
    for cores, step in result["step"].items():
        ratio = result["kinds"]["mp3"]["utterances/s"][cores] / step["utterances/s at most, speech encoder frozen"]
        print(
            f"  {cores} cores, {step['matrix product GFLOP/s']:.0f} GFLOP/s: at most {step['utterances/s at most']:.2f}"
            f" utterances/s ({step['utterances/s at most, speech encoder frozen']:.2f} with the speech encoder frozen);"
            f" the pipeline is {ratio:.0f} times as fast or more"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3, help="of which the median is taken")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), arguments.clips, arguments.repeats)
    show(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
