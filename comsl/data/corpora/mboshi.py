"""Mboshi -> French: 4.4 hours of human speech with transcripts and translations (Godard et al., 2018).

The protocol of the literature: the first 100 training utterances, sorted by name, are for validation, the official dev
part is the test set. Some of its sentences occur in training too, so the others stand in a manifest of their own.

Text is taken from the raw ``.mb`` and ``.fr`` files, blanks at the ends removed and nothing else: ``.fr.cleaned`` is
tokenized and holds HTML entities, which moves BLEU by several points.

514 test sentences cannot tell systems apart that differ by less than about 2 BLEU. ``folds`` cuts the corpus's train
part into folds for cross-validation, whose tests together are all of it; the test set stays out of them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from comsl.data.audio import AudioError, audio_duration, load_audio
from comsl.data.corpora.audit import bare_text
from comsl.data.errors import CorpusError, DataError
from comsl.data.manifest import write_manifest
from comsl.data.truncation import wav_shortfall
from comsl.progress import console, track

CORPUS_FOLDER = "full_corpus_newsplit"
VALIDATION_ROWS = 100
OFFICIAL_ROWS = {"train": 4616, "dev": 514}
"""Utterances in the published corpus; others are reported, not refused."""

NOVELTY = "the French text, blanks at its ends removed, is not that of any utterance of the corpus's train part"

Row = dict[str, Any]


@dataclasses.dataclass
class Part:
    """One folder of the corpus, read."""

    rows: list[Row]
    dropped: dict[str, str]
    """File name without suffix -> why it is not among the rows."""
    overstated: dict[str, float]
    """File name -> seconds that its wav header announces beyond what is there (and is forgiven)."""
    sha256: str
    """Over the names and contents of the wav, mb and fr files, sorted by name."""


@dataclasses.dataclass
class Summary:
    """What ``prepare`` did; also ``prepare.json``."""

    root: str
    rows: dict[str, int]
    """Manifest -> rows."""
    hours: dict[str, float]
    speakers: dict[str, dict[str, int]]
    dropped: dict[str, dict[str, str]]
    """Folder -> file name -> why it was left out."""
    notes: list[str]
    sha256: dict[str, str]
    """Of each folder's files."""
    novelty: str = NOVELTY
    """How ``test-novel`` was chosen."""


def prepare(root: str | Path, out: str | Path, folds: int = 0) -> Summary:
    """Write train.jsonl, validation.jsonl, test.jsonl, test-novel.jsonl and prepare.json.

    With ``folds`` also fold-1/train.jsonl, fold-1/validation.jsonl, fold-1/test.jsonl and so on, as
    ``cross_validation`` makes them.

    Args:
        root: the repository of the corpus, or its folder ``full_corpus_newsplit``.
        out: folder of the manifests. The audio stays where it is; manifests name it by its path relative to ``out``, so
            that both can be moved, or mounted elsewhere, together.
        folds: of a cross-validation within the corpus's train part, 2 or more; 0 for none.

    Raises:
        CorpusError: ``root`` is something else, or no utterances are left for a manifest.
    """
    folder = _find(Path(root))
    out = Path(out)
    parts = {name: _read_part(folder / name) for name in OFFICIAL_ROWS}
    train, test = parts["train"].rows, parts["dev"].rows
    if len(train) <= VALIDATION_ROWS or not test:
        raise CorpusError(
            f"{folder}: {len(train)} usable training and {len(test)} dev utterances; more than {VALIDATION_ROWS} and"
            f" some are needed{_first_reason(parts)}"
        )
    known = {row["translation"] for row in train}
    manifests = {
        "train": [{**row, "split": "train"} for row in train[VALIDATION_ROWS:]],
        "validation": [{**row, "split": "validation"} for row in train[:VALIDATION_ROWS]],
        "test": [{**row, "split": "test"} for row in test],
        "test-novel": [{**row, "split": "test"} for row in test if row["translation"] not in known],
    }
    if folds:
        manifests |= cross_validation(train, folds)
        old = sorted(path.name for path in out.glob("fold-*") if f"{path.name}/test" not in manifests)
        if old:
            raise CorpusError(f"{out / old[0]} is of another cut into folds: remove it, or choose another --out")
    for name, rows in manifests.items():
        path = out / f"{name}.jsonl"
        # The manifests' folder as the reader of a manifest finds it, with links followed.
        here = path.parent.resolve()
        write_manifest(({**row, "audio": os.path.relpath(row["audio"], here)} for row in rows), path)
    summary = Summary(
        root=str(folder),
        rows={name: len(rows) for name, rows in manifests.items()},
        hours={name: round(sum(row["duration"] for row in rows) / 3600, 4) for name, rows in manifests.items()},
        speakers={name: dict(Counter(row["speaker"] for row in rows)) for name, rows in manifests.items()},
        dropped={name: part.dropped for name, part in parts.items()},
        notes=_notes(parts, manifests),
        sha256={name: part.sha256 for name, part in parts.items()},
    )
    (out / "prepare.json").write_text(json.dumps(dataclasses.asdict(summary), indent=2, ensure_ascii=False) + "\n")
    _report(summary, out)
    return summary


def cross_validation(rows: list[Row], folds: int) -> dict[str, list[Row]]:
    """fold-K/train, fold-K/validation and fold-K/test for K = 1 to ``folds``; the tests together are ``rows``.

    All utterances with the same French, whatever its case and punctuation, are in the same fold, so no test reference
    occurs in that fold's training or validation. The assignment is drawn from the text alone: it stays the same when
    utterances come or go. Validation is the first 100 utterances of the others, sorted by name.

    Raises:
        CorpusError: fewer than 2 folds, or so few utterances that a manifest would be empty.
    """
    if folds < 2:
        raise CorpusError(f"cross-validation needs at least 2 folds, not {folds}")
    fold = {row["id"]: _drawn(row["translation"]) % folds for row in rows}
    manifests = {}
    for number in range(folds):
        others = [row for row in rows if fold[row["id"]] != number]
        parts = {
            "train": others[VALIDATION_ROWS:],
            "validation": others[:VALIDATION_ROWS],
            "test": [row for row in rows if fold[row["id"]] == number],
        }
        for name, part in parts.items():
            if not part:
                raise CorpusError(f"{len(rows)} usable training utterances are too few for {folds} folds")
            manifests[f"fold-{number + 1}/{name}"] = [{**row, "split": name} for row in part]
    return manifests


def _drawn(text: str) -> int:
    """A number that is as good as random, the same for texts that differ in case and punctuation alone."""
    return int.from_bytes(hashlib.sha256(bare_text(text).encode()).digest()[:8], "big")


def _find(root: Path) -> Path:
    for folder in (root, root / CORPUS_FOLDER):
        if all((folder / part).is_dir() for part in OFFICIAL_ROWS):
            return folder.resolve()
    what = "is not a directory" if not root.is_dir() else f"holds neither {CORPUS_FOLDER}/train nor train and dev"
    raise CorpusError(
        f"{root}: {what}; name the clone of besacier/mboshi-french-parallel-corpus, or its folder {CORPUS_FOLDER}"
    )


def _read_part(folder: Path) -> Part:
    names = sorted({path.name.removesuffix(path.suffix) for path in folder.iterdir() if path.suffix in _SUFFIXES})
    part = Part([], {}, {}, "")
    digest = hashlib.sha256()
    for name in track(names, description=f"mboshi {folder.name}", unit="clips"):
        files = {suffix: folder / f"{name}{suffix}" for suffix in _SUFFIXES}
        missing = [suffix for suffix, path in files.items() if not path.is_file()]
        if missing:
            part.dropped[name] = f"no {' and no '.join(missing)} file"
            continue
        contents = {suffix: path.read_bytes() for suffix, path in files.items()}
        for suffix in _SUFFIXES:
            digest.update(f"{name}{suffix}\0{len(contents[suffix])}\0".encode())
            digest.update(contents[suffix])
        try:
            part.rows.append(_row(name, files[".wav"], contents))
        except DataError as error:
            part.dropped[name] = str(error)
            continue
        shortfall = wav_shortfall(contents[".wav"])
        if shortfall is not None and shortfall[2] > 0:
            part.overstated[name] = shortfall[2]
    part.sha256 = digest.hexdigest()
    return part


_SUFFIXES = (".wav", ".mb", ".fr")


def _row(name: str, audio: Path, contents: dict[str, bytes]) -> Row:
    texts = {}
    for suffix in (".mb", ".fr"):
        try:
            texts[suffix] = contents[suffix].decode("utf-8").strip()
        except UnicodeDecodeError:
            raise CorpusError(f"the {suffix} file is not UTF-8") from None
        if not texts[suffix]:
            raise CorpusError(f"the {suffix} file is empty")
        if "\n" in texts[suffix]:
            raise CorpusError(f"the {suffix} file has more than one line")
    try:
        load_audio(contents[".wav"])
    except AudioError as error:
        raise CorpusError(str(error).replace(f"audio of {len(contents['.wav']):,} bytes", "the .wav file", 1)) from None
    return {
        "id": name,
        "audio": str(audio),
        "duration": round(audio_duration(contents[".wav"]), 4),
        "source_language": "mdw",
        "target_language": "fr",
        "transcript": texts[".mb"],
        "translation": texts[".fr"],
        "speaker": name.split("_", 1)[0],
        "provenance": f"mboshi-french-parallel-corpus/{CORPUS_FOLDER}/{audio.parent.name}",
    }


def _first_reason(parts: dict[str, Part]) -> str:
    for name, part in parts.items():
        for file, reason in part.dropped.items():
            return f" ({sum(len(some.dropped) for some in parts.values())} left out, first {name}/{file}: {reason})"
    return ""


def _notes(parts: dict[str, Part], manifests: dict[str, list[Row]]) -> list[str]:
    """What a reader of the numbers should know."""
    notes = []
    for name, official in OFFICIAL_ROWS.items():
        found = len(parts[name].rows)
        if found != official:
            notes.append(f"{name}: {found} usable utterances, the published corpus has {official}")
        if parts[name].dropped:
            notes.append(f"{name}: {len(parts[name].dropped)} left out, listed under dropped")
        overstated = parts[name].overstated
        if overstated:
            notes.append(
                f"{name}: {len(overstated)} wav headers announce up to {1000 * max(overstated.values()):.0f} ms more"
                " than the file holds; read as far as they go"
            )
    trained = {row["translation"] for row in manifests["train"]}
    again = sum(row["translation"] in trained for row in manifests["validation"])
    notes.append(f"{again} of the {len(manifests['validation'])} validation references occur in train too")
    again = len(manifests["test"]) - len(manifests["test-novel"])
    notes.append(f"{again} of the {len(manifests['test'])} test references occur in the corpus's train part too")
    return notes


def _report(summary: Summary, out: Path) -> None:
    for name, rows in summary.rows.items():
        line = f"{out / name}.jsonl: {rows} utterances, {summary.hours[name]:.2f} h"
        console.print(line, markup=False, soft_wrap=True)
    for note in summary.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    for folder, files in summary.dropped.items():
        for name, reason in list(files.items())[:10]:
            console.print(f"left out: {folder}/{name}: {reason}", markup=False, soft_wrap=True)
        if len(files) > 10:
            console.print(f"left out: {len(files) - 10} more of {folder}, see {out / 'prepare.json'}", markup=False)
