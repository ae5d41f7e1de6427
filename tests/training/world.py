"""A dozen clips of tones, their manifests, and tiny pretrained parts: enough to run whole stages in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import soundfile

from comsl.data.manifest import write_manifest
from comsl.training.configuration import TrainConfiguration, configuration_from
from tests.tiny import SENTENCES, tiny_mbart50, tiny_whisper, waveform

OBJECTIVES: dict[str, Any] = {
    "asr": {"weight": 0.35},
    "st": {"weight": 0.35},
    "mt": {"weight": 0.2, "teacher_share": 0.2},
    "ddm": {"share": 0.8},
    "mtp": {},
    "stm": {},
    "erm": {"weight": 0.02, "layer": 2},
}


def build_world(root: Path) -> Path:
    """train.jsonl (9 rows), dev.jsonl (3), text.jsonl (9, without audio), speech/ and text/ (pretrained parts)."""
    rows = []
    for number in range(12):
        seconds = 0.6 + 0.1 * (number % 4)
        soundfile.write(root / f"{number}.wav", waveform(seconds, number), 16_000)
        rows.append(
            {
                "id": f"row-{number}",
                "audio": f"{number}.wav",
                "duration": seconds,
                "source_language": "de",
                "target_language": "en",
                "transcript": " ".join(SENTENCES[2 + number % 2].split()[: 2 + number % 3]),
                "translation": " ".join(SENTENCES[number % 2].split()[: 2 + number % 4]),
            }
        )
    write_manifest(rows[:9], root / "train.jsonl")
    write_manifest(rows[9:], root / "dev.jsonl")
    write_manifest([{**row, "audio": None, "duration": None} for row in rows[:9]], root / "text.jsonl")
    tiny_whisper(root / "speech")
    tiny_mbart50(root / "text")
    return root


def stage(world: Path, output: Path, **changes: Any) -> TrainConfiguration:
    """All objectives for six steps; ``training__max_steps=2`` changes ``training.max_steps``."""
    tree: dict[str, Any] = {
        "output_dir": str(output),
        "compose": {"speech": str(world / "speech"), "text": str(world / "text"), "new_languages": {"cy": "en"}},
        "objectives": OBJECTIVES,
        "data": {
            "train": str(world / "train.jsonl"),
            "dev": str(world / "dev.jsonl"),
            "max_batch_seconds": 2.0,
            "num_workers": 0,
        },
        "optimizer": {"learning_rate": 1e-3, "warmup_steps": 1},
        "training": {"max_steps": 6, "eval_steps": 3, "logging_steps": 1, "use_cpu": True},
        "evaluation": {"max_new_tokens": 6},
    }
    for key, value in changes.items():
        group, _, name = key.partition("__")
        if name:
            tree.setdefault(group, {})[name] = value
        else:
            tree[group] = value
    return configuration_from(tree)
