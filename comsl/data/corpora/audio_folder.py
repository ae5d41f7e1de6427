"""A folder of audio files with ``metadata.csv`` or ``metadata.jsonl``, as the AudioFolder of ``datasets`` reads it.

``datasets`` itself needs torchcodec for that, only to make rows, and takes texts such as ``NA`` for missing ones.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import datasets

from comsl.data.errors import CorpusError

_SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test", "testing")
FILE_NAME = "file_name"


def load_audio_folder(folder: Path) -> dict[str, datasets.Dataset] | None:
    """Split -> rows, with their file's path in the column ``audio``; None where there is no metadata file.

    The split is the folder that the metadata file lies in or, at the top, the first folder of the file's name;
    ``train`` where that is no split's name.

    Raises:
        CorpusError: metadata without the column ``file_name``, or without rows.
    """
    files = [
        path for path in (*folder.glob("metadata.*"), *folder.glob("*/metadata.*")) if path.suffix in (".csv", ".jsonl")
    ]
    parts: dict[str, list[datasets.Dataset]] = defaultdict(list)
    for file in sorted(files):
        rows = _read(file)
        if FILE_NAME not in rows.column_names:
            raise CorpusError(f"{file}: no column {FILE_NAME!r}; it names each row's audio file")
        names = rows[FILE_NAME][:]
        if "audio" in rows.column_names:
            rows = rows.remove_columns("audio")
        rows = rows.add_column("audio", [str((file.parent / name).absolute()) for name in names])
        places: dict[str, list[int]] = defaultdict(list)
        for place, name in enumerate(names):
            top = (file.parent / name).relative_to(folder).parts[0]
            places[top if top in _SPLITS else "train"].append(place)
        for split, chosen in places.items():
            parts[split].append(rows.select(chosen))
    if files and not parts:
        raise CorpusError(f"{files[0]}: no rows in it")
    return {split: datasets.concatenate_datasets(some) for split, some in parts.items()} or None


def _read(file: Path) -> datasets.Dataset:
    """All of CSV stays text."""
    if file.suffix == ".jsonl":
        return datasets.load_dataset("json", data_files=str(file), split="train")
    with file.open(encoding="utf-8-sig", newline="") as lines:
        try:
            return datasets.Dataset.from_list(list(csv.DictReader(lines, strict=True)))
        except (csv.Error, UnicodeDecodeError) as error:
            raise CorpusError(f"{file}: not CSV in UTF-8 ({error})") from None
