"""What another system made of manifests, read from its files and scored by the code that scores our own."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from comsl.data.manifest import load_manifest
from comsl.errors import ComSLError, UsageError
from comsl.evaluation import LOOKUP
from comsl.evaluation.metrics import BOOTSTRAP_SAMPLES, NORMALISERS
from comsl.evaluation.notes import some
from comsl.evaluation.outcome import Evaluation, ScoringOptions, add_floor, write_evaluation
from comsl.evaluation.records import HYPOTHESES, RecordLog, read_records
from comsl.evaluation.rows import Manifest, ManifestRows, TrainingRows, manifest_paths
from comsl.evaluation.systems import record
from comsl.inference.decode import Hypothesis

WITH_IDS = (".jsonl", ".json")
"""Suffixes of files that hold an object a line; all others hold a text a line."""


class HypothesesError(ComSLError):
    """A file of hypotheses or transcripts that does not fit its manifest."""


def score_external(
    manifest: Manifest,
    hypotheses: Sequence[str | Path],
    system: str,
    out: str | Path,
    *,
    transcripts: Sequence[str | Path] = (),
    train_manifest: Manifest | None = None,
    lookup: bool = True,
    lowercase: bool = False,
    normaliser: str = "basic",
    n_bootstrap: int = BOOTSTRAP_SAMPLES,
    show: bool = True,
) -> Evaluation:
    """Score texts that were made elsewhere, and leave the same folder as ``evaluate``.

    Args:
        manifest: one or several; every row counts.
        hypotheses: the translations. Files of text have one line a row and are as many as the manifests, in their
            order; ``.jsonl`` files have objects with ``id`` and ``hypothesis``, all ids of the manifests among them and
            no others. An empty text is a wrong one, and is counted.
        system: what to call it in tables and comparisons.
        out: folder; that of an evaluation of other systems is an error.
        transcripts: what the system heard, in the same form (``transcript`` in an object), for WER and CER.
        train_manifest, lookup, lowercase, normaliser, n_bootstrap, show: as of ``evaluate``.

    Raises:
        UsageError: a name that is taken or blank, text and ``.jsonl`` files together, another number of files than
            manifests, an unknown normaliser, or ``out`` holds the evaluation of another system.
        HypothesesError: a file that cannot be read, or whose lines or ids are not those of the rows.
    """
    if not system.strip() or system == LOOKUP or not system.isprintable():
        raise UsageError(f"a system cannot be called {system!r}: give it a name of its own")
    if normaliser not in NORMALISERS:
        raise UsageError(f"unknown normaliser {normaliser!r}: known are {', '.join(NORMALISERS)}")
    out = Path(out)
    _check_free(out, system)
    rows = ManifestRows(manifest)
    task = "both" if transcripts else "translate"
    rows.check([], task)
    said = read_texts(hypotheses, manifest, rows, "hypothesis")
    heard = read_texts(transcripts, manifest, rows, "transcript") if transcripts else [None] * len(rows.rows)

    log = RecordLog(out, None)
    made = [
        record(system, row, _text(translation), None if transcript is None else _text(transcript))
        for row, translation, transcript in zip(rows.rows, said, heard, strict=True)
    ]
    log.append(made, system, 0.0)
    systems = [system]
    training = None if train_manifest is None else TrainingRows(train_manifest)
    if training is not None and lookup:
        add_floor(rows.rows, training, log)
        systems.append(LOOKUP)
    facts: dict[str, Any] = {
        "model": system,
        "seconds": {},
        "decoding": None,
        "hypotheses": [str(path) for path in hypotheses],
        "transcripts": [str(path) for path in transcripts],
        "segmentation": {},
        "attention": None,
        "curves": {},
    }
    options = ScoringOptions(task, lowercase, normaliser, n_bootstrap)
    records = log.finish([row["id"] for row in rows.rows], systems)
    return write_evaluation(out, records, systems, rows, training, options, facts, show=show)


def read_texts(files: Sequence[str | Path], manifest: Manifest, rows: ManifestRows, field: str) -> list[str]:
    """One text a row of the manifests, in their order; errors as of ``score_external``."""
    paths = [Path(file) for file in files]
    with_ids = [path.suffix in WITH_IDS for path in paths]
    if all(with_ids):
        return _by_id(paths, [row["id"] for row in rows.rows], field)
    if any(with_ids):
        raise UsageError(f"{', '.join(map(str, paths))}: files with ids and files of lines do not go together")
    return _by_line(paths, manifest, [row["id"] for row in rows.rows])


def _by_line(paths: Sequence[Path], manifest: Manifest, ids: Sequence[str]) -> list[str]:
    manifests = manifest_paths(manifest)
    if len(paths) != len(manifests):
        raise UsageError(
            f"{len(paths)} files of text for {len(manifests)} manifests: name one for each, in the same order"
        )
    texts: list[str] = []
    wrong = []
    for path, name in zip(paths, manifests, strict=True):
        lines, count = list(_lines(path)), len(load_manifest(name))
        if len(lines) < count:
            first = ids[len(texts) + len(lines)]
            wrong.append(
                f"{path}: {len(lines)} lines for the {count} rows of {name}; {first!r} and what follows have none"
            )
        elif len(lines) > count:
            wrong.append(f"{path}: {len(lines)} lines for the {count} rows of {name}; line {count + 1} has no row")
        texts += (lines + [""] * count)[:count]
    if wrong:
        raise HypothesesError(f"{'; '.join(wrong)}. Write one line a row, an empty one where there is no text")
    return texts


def _by_id(paths: Sequence[Path], ids: Sequence[str], field: str) -> list[str]:
    texts: dict[str, str] = {}
    for path in paths:
        for number, line in enumerate(_lines(path), start=1):
            if line.strip():
                row_id, text = _entry(line, field, f"{path}, line {number}")
                if row_id in texts:
                    raise HypothesesError(f"{path}, line {number}: the id {row_id!r} occurs twice; keep one of the two")
                texts[row_id] = text
    _check_ids(texts, ids, ", ".join(map(str, paths)))
    return [texts[row_id] for row_id in ids]


def _check_ids(texts: Mapping[str, str], ids: Sequence[str], name: str) -> None:
    known = set(ids)
    unknown = [row_id for row_id in texts if row_id not in known]
    if unknown:
        raise HypothesesError(f"{name}: {len(unknown)} ids are of no row of the manifests: {some(map(repr, unknown))}")
    missing = [row_id for row_id in ids if row_id not in texts]
    if missing:
        raise HypothesesError(
            f"{name}: {len(missing)} of {len(ids)} rows are missing: {some(map(repr, missing))}; where there is no "
            "text, write an empty one"
        )


def _entry(line: str, field: str, place: str) -> tuple[str, str]:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise HypothesesError(f"{place}: not a JSON object ({error})") from error
    if not isinstance(entry, dict):
        raise HypothesesError(f'{place}: not a JSON object with "id" and "{field}"')
    for name in ("id", field):
        if not isinstance(entry.get(name), str):
            raise HypothesesError(
                f'{place}: "{name}" must be a string' + (", empty for no text" if name != "id" else "")
            )
    return entry["id"], entry[field]


def _lines(path: Path) -> Iterator[str]:
    """Lines without their ends. Only LF and CRLF end one: a text may hold U+2028 and its like."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise HypothesesError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise HypothesesError(f"{path}, line {number}: not UTF-8; save the file as UTF-8") from error
    lines = text.split("\n")
    if not lines[-1]:
        del lines[-1]  # the end of the last line begins no other
    return (line.removesuffix("\r") for line in lines)


def _check_free(out: Path, system: str) -> None:
    if (out / HYPOTHESES).is_file():
        others = {made["system"] for made in read_records(out)} - {system, LOOKUP}
        if others:
            raise UsageError(f"{out} holds an evaluation of {', '.join(sorted(others))}: name another folder")


def _text(text: str) -> Hypothesis:
    return Hypothesis(text, math.nan)
