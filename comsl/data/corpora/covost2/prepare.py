"""CoVoST 2 over Common Voice -> manifests and an audit of what is wrong with them.

Source language by source language: unpack what is needed where the release is an archive, decode every clip once (in
several processes, with a record of the results), write the manifests of the language's pairs. Whatever is finished is
known the next time by the sizes and times of its files, so that the same command goes on where it was interrupted and
has nothing to do when all is done. Texts are streamed: in memory are one pair's translations and the clips' lengths.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from comsl.data.corpora.audit import NOT_IN_RELEASE, Auditor, Limits, Row, summary_line
from comsl.data.corpora.clips import Clip, check_clips, processors
from comsl.data.corpora.common_voice import (
    CLIPS,
    VALIDATED,
    Source,
    find,
    read_utterances,
    stamp,
    unpack,
)
from comsl.data.corpora.common_voice import check_root as check_common_voice
from comsl.data.corpora.covost2.page import losses, write_audit
from comsl.data.corpora.covost2.published import RELEASE, SPLITS
from comsl.data.corpora.covost2.splits import DIRECTIONS, SPLIT_OF_MARK, Joined, Translations, find_translations, join
from comsl.data.corpora.covost2.splits import check_root as check_covost
from comsl.data.errors import CorpusError
from comsl.data.jsonl import jsonl_line
from comsl.errors import ComSLError, UsageError
from comsl.files import replacing, write_atomically
from comsl.languages import get_language
from comsl.progress import console

_VERSION = 1
"""Raise it whenever the same files would be prepared differently."""
_AUDIT, _FAILED = "audit.json", "failed.jsonl"
_OUTPUTS = (*(f"{split}.jsonl" for split in SPLITS), _FAILED)


@dataclass
class Result:
    """What ``prepare`` did."""

    page: Path
    losses: int
    """Rows of what was asked for that are lost, or in test fail; and, unless ``partial``, those that the published
    corpus has beyond all these."""
    errors: list[str] = field(default_factory=list)
    """One line for each pair that could not be prepared."""


@dataclass(frozen=True)
class Job:
    """Where things are and how they are judged."""

    covost: Path
    common_voice: Path
    out: Path
    limits: Limits
    workers: int


def prepare(
    covost: str | Path,
    common_voice: str | Path,
    out: str | Path,
    languages: Sequence[str] | None = None,
    direction: str = "xx-en",
    limits: Limits | None = None,
    workers: int | None = None,
    partial: bool = False,
    no_others: bool = False,
) -> Result:
    """Write ``OUT/<source>_<target>/{train,dev,test}.jsonl``, ``OUT/audit-<direction>.{json,md}`` and
    ``OUT/failed-<direction>.jsonl``.

    Args:
        covost: folder with ``covost_v2.<source>_<target>.tsv`` files, or the archives they come in.
        common_voice: folder of a Common Voice release (layouts: ``comsl.data.corpora.common_voice``).
        out: folder of the manifests; clips out of archives go to ``OUT/clips``, what is known of clips to
            ``OUT/checked``.
        languages: the languages that are not English; None for all of the direction.
        direction: ``xx-en`` or ``en-xx``.
        limits: what a usable clip is.
        workers: processes that decode clips; None for one a processor.
        partial: the files are only a part, or a look-alike, of the published corpus: its sizes are no measure of them.
        no_others: refuse an ``out`` with manifests of other pairs of the direction, which a pattern such as
            ``OUT/*_en/train.jsonl`` would take as well.

    Raises:
        UsageError: an unknown language or direction; other pairs, if ``no_others``.
        CorpusError: ``covost`` or ``common_voice`` is no folder.
    """
    pairs = _pairs(languages, direction)
    job = Job(Path(covost), Path(common_voice), Path(out), limits or Limits(), workers or processors())
    check_common_voice(job.common_voice)
    check_covost(job.covost)
    if no_others:
        _refuse_others(job.out, pairs, direction)
    job.out.mkdir(parents=True, exist_ok=True)
    failed: dict[str, ComSLError] = {}
    for source in dict.fromkeys(source for source, _ in pairs):
        failed |= _prepare_source(job, source, [target for known, target in pairs if known == source])
    errors = [f"{pair}: {error}" for pair, error in failed.items()]
    # The page has all that lies there, from earlier runs over other languages too.
    audits = {pair: read_audit(job.out / pair) for pair in map("_".join, DIRECTIONS[direction]) if pair not in failed}
    present = {pair: audit for pair, audit in audits.items() if audit is not None}
    page = write_audit(job.out, direction, present, errors, job.limits, partial)
    asked = {pair: present[pair] for pair in map("_".join, pairs) if pair in present}
    return Result(page, sum(losses(asked, partial)), errors)


def _pairs(languages: Sequence[str] | None, direction: str) -> list[tuple[str, str]]:
    if direction not in DIRECTIONS:
        raise UsageError(f"direction {direction!r}: there are {' and '.join(DIRECTIONS)}")
    pairs = DIRECTIONS[direction]
    if languages is None or list(languages) == ["all"]:
        return list(pairs)
    other = 1 if direction == "en-xx" else 0
    chosen = []
    for name in languages:
        code = get_language(name).code
        found = [pair for pair in pairs if pair[other] == code]
        if not found:
            known = " ".join(pair[other] for pair in pairs)
            raise UsageError(f"language {name}: CoVoST 2 has no {code} in the direction {direction}; it has {known}")
        chosen += found
    return list(dict.fromkeys(chosen))


def _refuse_others(out: Path, pairs: Collection[tuple[str, str]], direction: str) -> None:
    others = ["_".join(pair) for pair in DIRECTIONS[direction] if pair not in pairs]
    found = [pair for pair in others if any((out / pair / f"{split}.jsonl").exists() for split in SPLITS)]
    if found:
        raise UsageError(
            f"{out}: has manifests of {', '.join(found)}, which were not asked for and which a pattern such as "
            "*_en/train.jsonl would take; name another folder, or remove those"
        )


# -------------------------------------------------------------------------------------------------- a source language


def _prepare_source(job: Job, source: str, targets: Sequence[str]) -> dict[str, ComSLError]:
    """Prepare a language's pairs; returns those that could not be, and why."""
    failed: dict[str, ComSLError] = {}
    todo: dict[str, Path] = {}
    wanted: dict[str, None] = {}
    release: Source | None = None
    for target in targets:
        pair = f"{source}_{target}"
        try:
            file = find_translations(job.covost, source, target)
            release = release or find(job.common_voice, source)
            if not _is_done(job.out / pair, _stamp(job, release, file)):
                wanted.update(dict.fromkeys(Translations.read(file).clips))
                todo[target] = file
        except ComSLError as error:
            failed[pair] = error
    if not todo or release is None:
        return failed
    try:
        folder = unpack(release, wanted, job.out / CLIPS)
        stamp_now = {target: _stamp(job, release, file) for target, file in todo.items()}
        checked = _check(job, source, folder, wanted)
    except ComSLError as error:
        return failed | {f"{source}_{target}": error for target in todo}
    for target, file in todo.items():
        try:
            _prepare_pair(job, source, target, Translations.read(file), folder, checked, stamp_now[target])
        except ComSLError as error:
            failed[f"{source}_{target}"] = error
    return failed


def _check(job: Job, source: str, folder: Path, wanted: Collection[str]) -> dict[str, Clip]:
    """Decode the clips that are in a split: wanted by CoVoST 2, and with a sentence."""
    table = folder / VALIDATED
    named = list(dict.fromkeys(row.clip for row in read_utterances(table) if row.clip in wanted))
    if not named:
        raise CorpusError(
            f"{table}: none of the {len(wanted):,} clips that CoVoST 2 translates is in it; is it the right language,"
            f" and {RELEASE}, which CoVoST 2 was made from?"
        )
    record = job.out / "checked" / f"{source}.jsonl"
    return check_clips(folder / CLIPS, named, record, job.workers, f"{source} clips")


def _stamp(job: Job, release: Source, file: Path) -> dict[str, Any]:
    """Changes when anything does that a pair is made of."""
    unpacked = Source(release.language, release.folder(job.out / CLIPS))
    return {
        "version": _VERSION,
        "limits": dataclasses.asdict(job.limits),
        "covost": stamp(file),
        "common_voice": [*release.stamp(), *unpacked.stamp()],
    }


# -------------------------------------------------------------------------------------------------------------- a pair


def _is_done(folder: Path, stamp_now: dict[str, Any]) -> bool:
    """Whether a pair's files are those of these inputs, and the clips that failed are what they were."""
    try:
        done = json.loads((folder / _AUDIT).read_text(encoding="utf-8"))
        sizes = [(folder / name).stat().st_size for name in _OUTPUTS]
    except (OSError, ValueError):
        return False
    if done["stamp"] != stamp_now or done["sizes"] != sizes:
        return False
    return all(stamp(Path(path)) == [path, *rest] for path, *rest in done["faulty"])


def read_audit(folder: Path) -> dict[str, Any] | None:
    """What a pair's audit found; None where there is none."""
    try:
        audit: dict[str, Any] = json.loads((folder / _AUDIT).read_text(encoding="utf-8"))["audit"]
    except (OSError, ValueError):
        return None
    return audit


def _prepare_pair(
    job: Job,
    source: str,
    target: str,
    translations: Translations,
    folder: Path,
    checked: dict[str, Clip],
    stamp_now: dict[str, Any],
) -> None:
    """Write a pair's manifests, the list of what failed and, last of all, its audit, which says that all is there."""
    pair = f"{source}_{target}"
    out = job.out / pair
    out.mkdir(exist_ok=True)
    (out / _AUDIT).unlink(missing_ok=True)
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(stack.enter_context(replacing(out / name)).open("w", encoding="utf-8"))
            for name in _OUTPUTS
        }
        writer = PairWriter(
            files, source, target, os.path.relpath((folder / CLIPS).resolve(), out.resolve()), job.limits
        )
        for row in join(translations, folder / VALIDATED):
            writer.add(row, checked[row.clip])
        audit = writer.finish(translations)
    audit |= {"common_voice": str(folder), "covost": str(translations.path)}
    done = {
        "stamp": stamp_now,
        "sizes": [(out / name).stat().st_size for name in _OUTPUTS],
        "faulty": [stamp(folder / CLIPS / clip) for clip in writer.faulty],
        "audit": audit,
    }
    write_atomically(out / _AUDIT, json.dumps(done, indent=1, ensure_ascii=False))
    console.print(summary_line(pair, audit), markup=False, soft_wrap=True)


class PairWriter:
    """Rows of a pair -> manifests and list of failures, counted on the way."""

    def __init__(self, files: Mapping[str, IO[str]], source: str, target: str, clips: str, limits: Limits) -> None:
        self.files = files
        self.languages = {"source_language": source, "target_language": target}
        self.pair = f"{source}_{target}"
        self.clips = clips
        """Their folder, as seen from that of the manifests."""
        self.auditor = Auditor(files[_FAILED], limits, SPLITS)
        self.seen: dict[str, int] = {}
        """Clip -> rows."""
        self.faulty: list[str] = []
        """Clips that cannot be used."""

    def add(self, joined: Joined, clip: Clip) -> None:
        times = self.seen[joined.clip] = self.seen.get(joined.clip, 0) + 1
        self.auditor.splits[joined.split].repeated += times > 1
        row = self._row(joined, times)
        if clip.fault is not None:
            self.faulty.append(joined.clip)
        if self.auditor.judge(row, clip):
            self.files[f"{row.split}.jsonl"].write(jsonl_line(self._manifest_row(row, clip)))

    def _row(self, joined: Joined, times: int = 1) -> Row:
        again = f"#{times}" if times > 1 else ""
        row_id = f"covost2/{self.pair}/{joined.clip.removesuffix('.mp3')}{again}"
        return Row(row_id, joined.split, joined.clip, joined.sentence, joined.translation, joined.speaker)

    def _manifest_row(self, row: Row, clip: Clip) -> dict[str, Any]:
        return {
            "id": row.id,
            "audio": f"{self.clips}/{row.clip}",
            "duration": clip.seconds or None,  # none of a clip that cannot be read
            **self.languages,
            "transcript": row.transcript,
            "translation": row.translation,
            "split": row.split,
            "speaker": row.speaker,
            "provenance": "covost2",
        }

    def finish(self, translations: Translations) -> dict[str, Any]:
        """List what can only be known when all rows are; the counts."""
        for clip in translations.clips:
            if clip not in self.seen:
                for translation, split in translations.rows_of(clip):
                    row = self._row(Joined(clip, "", translation, "", split))
                    self.auditor.lose(row, NOT_IN_RELEASE, f"{clip} is not in {VALIDATED} of this release")
        marks = {mark: rows for mark, rows in translations.marks.items() if mark not in SPLIT_OF_MARK}
        return {**self.languages, **self.auditor.finish(), "in_no_split": marks}
