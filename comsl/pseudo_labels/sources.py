"""Where transcribed rows come from, and what they are checked against."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from comsl.data.corpora.common_voice import CLIPS, VALIDATED, find, has_table, is_unpacked, read_utterances, unpack
from comsl.data.corpora.common_voice import Source as Release
from comsl.data.held_out import HeldOut
from comsl.data.manifest import load_manifest
from comsl.errors import UsageError
from comsl.languages import get_language
from comsl.progress import console
from comsl.pseudo_labels.label import Source
from comsl.pseudo_labels.shards import POLL, Row
from comsl.training.distributed import rank

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


def from_common_voice(root: Path, languages: Sequence[str], held_out: HeldOut, out: Path) -> Source:
    """The validated clips of a release, by language.

    Args:
        root: the release, in any layout of :mod:`comsl.data.corpora.common_voice`. Of archives those clips are unpacked
            that may be labelled, by the first process; the others wait.
        out: folder to unpack into.

    Raises:
        CorpusError: a language that is not there, or a damaged archive.
    """
    source = {}
    for code in languages:
        language = get_language(code).code
        release = find(root, language)
        rows = functools.partial(_utterances, release.folder(out).absolute(), language)
        if release.is_archive:
            _unpack(release, rows, held_out, out)
        source[language] = rows
    return source


def _utterances(folder: Path, language: str) -> Iterator[Row]:
    for utterance in read_utterances(folder / VALIDATED):
        yield {
            "id": Path(utterance.clip).stem,
            "audio": str(folder / CLIPS / utterance.clip),
            "duration": None,
            "source_language": language,
            "transcript": utterance.sentence,
            "translation": None,
            "speaker": utterance.speaker,
        }


def _unpack(release: Release, rows: Callable[[], Iterator[Row]], held_out: HeldOut, out: Path) -> None:
    """The table first, which says what clips are wanted: that of an earlier archive would say something else."""
    if rank() == 0 and not has_table(release, out):
        unpack(release, (), out)
    while not has_table(release, out):
        time.sleep(POLL)
    wanted = [Path(row["audio"]).name for row in rows() if held_out.reason(row) is None]
    if rank() == 0:
        unpack(release, wanted, out)
    while not is_unpacked(release, wanted, out):
        time.sleep(POLL)


def covost_languages(covost: Path | None, target: str) -> list[str]:
    """Source languages that ``comsl prepare covost2`` wrote for a target.

    Raises:
        UsageError: there are none.
    """
    suffix = f"_{target}"
    names = [] if covost is None else sorted(path.parent.name for path in covost.glob(f"*{suffix}/test.jsonl"))
    if not names:
        raise UsageError(
            f"--common-voice needs --covost-manifests with <source>{suffix}/, which says what has a translation and "
            "what is held out; make it with comsl prepare covost2"
        )
    return [name.removesuffix(suffix) for name in names]


def covost_manifests(folder: Path) -> tuple[list[Path], list[Path]]:
    """Of what ``comsl prepare covost2`` wrote: the manifests of dev and test, and those of training.

    Raises:
        UsageError: there are none.
    """
    held_out = sorted([*folder.glob("*_*/dev.jsonl"), *folder.glob("*_*/test.jsonl")])
    if not held_out:
        raise UsageError(f"--covost-manifests {folder}: no <source>_<target>/dev.jsonl or test.jsonl there; make them "
                         "with comsl prepare covost2")  # fmt: skip
    return held_out, sorted(folder.glob("*_*/train.jsonl"))


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
    if not held_out and rank() == 0:
        console.print("no dev or test set was named (--held-out): nothing is checked for leaks", markup=False)
    described = {"held_out": list(map(str, held_out)), "translated": list(map(str, translated))}
    return HeldOut.read(held_out, translated), described


def open_sources(
    common_voice: Path | None,
    manifest: Sequence[Path] | None,
    covost_manifests: Path | None,
    held_out: Sequence[Path],
    languages: Sequence[str] | None,
    target: str,
    out: Path,
) -> tuple[Source, HeldOut, dict[str, Any]]:
    """What the options of ``comsl pseudo-label`` of these names mean: rows, what is held out, and both for the report.

    Raises:
        UsageError, DataError: as of the functions above.
    """
    if common_voice is not None:
        found = covost_languages(covost_manifests, target)
        languages = found if languages in (None, ["all"]) else languages
    known, described = read_held_out(covost_manifests, held_out)
    if common_voice is not None:
        source = from_common_voice(common_voice, languages or (), known, out / CLIPS)
        return source, known, {"common_voice": str(common_voice), **described}
    paths = manifest or ()
    return from_manifests(paths, languages), known, {"manifests": list(map(str, paths)), **described}
