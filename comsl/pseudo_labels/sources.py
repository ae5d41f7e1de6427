"""Where transcribed rows come from, and what they are checked against."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from comsl.data.manifest import load_manifest
from comsl.errors import UsageError
from comsl.languages import get_language
from comsl.progress import console
from comsl.pseudo_labels.held_out import HeldOut, covost_manifests
from comsl.pseudo_labels.label import Source
from comsl.pseudo_labels.shards import Row

FIELDS = ("id", "audio", "duration", "source_language", "transcript", "translation", "speaker")
BLOCK = 4096
"""Rows that are Python objects at a time."""


def from_manifests(paths: Sequence[Path], languages: Sequence[str] | None = None) -> Source:
    """The rows of manifests by source language.

    Args:
        languages: those that are wanted, in their order; None: all that the manifests have, sorted.

    Raises:
        ManifestError: a manifest that cannot be used.
        UsageError: a language that no row has, or a manifest that holds the clips themselves.
    """
    dataset = load_manifest(paths)
    names = ", ".join(map(str, paths))
    table = dataset.data
    if "binary" in str(table.schema.field("audio").type):
        raise UsageError(f"--manifest {names}: it holds its clips as bytes; pseudo-labels name files: write the clips "
                         "as files first")  # fmt: skip
    column = table.column("source_language")
    there = sorted(pc.unique(column).to_pylist())
    wanted = there if languages is None else [get_language(language).code for language in languages]
    for language in wanted:
        if language not in there:
            raise UsageError(f"--languages: no row of {names} is in {language!r}; there are {', '.join(there)}")

    def rows(language: str) -> Iterator[Row]:
        for start in range(0, len(dataset), BLOCK):
            block: Any = table.slice(start, BLOCK).select(list(FIELDS))
            yield from block.filter(pc.equal(block.column("source_language"), language)).to_pylist()

    return {language: functools.partial(rows, language) for language in wanted}


def read_held_out(covost: Path | None, further: Sequence[Path]) -> tuple[HeldOut, dict[str, list[str]]]:
    """What must not be labelled, and the manifests that say so.

    Args:
        covost: folder that ``comsl prepare covost2`` wrote.
        further: manifests of dev and test sets.

    Raises:
        UsageError: the folder holds none. ManifestError: a manifest that cannot be used.
    """
    held_out, translated = ([], []) if covost is None else covost_manifests(covost)
    held_out = [*held_out, *further]
    if not held_out:
        console.print("no dev or test set was named (--held-out): nothing is checked for leaks", markup=False)
    described = {"held_out": list(map(str, held_out)), "translated": list(map(str, translated))}
    return HeldOut.read(held_out, translated), described
