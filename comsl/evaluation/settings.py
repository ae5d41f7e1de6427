"""What hypotheses depend on, so that none are taken over that other settings made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comsl.evaluation.rows import Manifest, manifest_paths
from comsl.inference import Precision
from comsl.inference.confidence import CALIBRATION
from comsl.inference.decode import DecodingOptions
from comsl.inference.memory import TranslationMemory
from comsl.provenance import versions

SUFFIXES = (".json", ".safetensors", ".model")


def decoding_settings(
    models: dict[str, Any],
    manifest: Manifest,
    train_manifest: Manifest | None,
    task: str,
    options: DecodingOptions,
    precision: Precision | None = None,
    memory: Manifest | None = None,
    remembered: TranslationMemory | None = None,
) -> dict[str, Any] | None:
    """All that hypotheses depend on (batches are not among it); None for models that live in memory."""
    if any(model is not None and not isinstance(model, str | Path) for model in models.values()):
        return None
    return {
        "models": {role: None if model is None else stamp(model) for role, model in models.items()},
        "manifests": [stamp(path) for path in manifest_paths(manifest)],
        "train_manifests": [stamp(path) for path in manifest_paths(train_manifest)],
        "task": task,
        "decoding": options.outcome(),
        "precision": precision,
        "versions": versions(),
        **(_memory_settings(memory, remembered) if remembered is not None else {}),
    }


def stamp(path: str | Path) -> list[Any]:
    """Changes when a file, or a file directly in a folder, does; what was learned of a model's confidence aside."""
    path = Path(path)
    files = (
        sorted(entry for entry in path.iterdir() if entry.suffix in SUFFIXES and entry.name != CALIBRATION)
        if path.is_dir()
        else [path]
    )
    return [str(path), *([file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file())]


def model_name(model: Any) -> str | None:
    """Of a model, as the user gave it."""
    if model is None:
        return None
    return str(model) if isinstance(model, str | Path) else type(model).__name__


def _memory_settings(manifests: Manifest | None, memory: TranslationMemory) -> dict[str, Any]:
    return {"memory": [stamp(path) for path in manifest_paths(manifests)], "memory_settings": memory.settings}
