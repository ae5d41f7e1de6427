"""`comsl demo --covost`: Common Voice and CoVoST 2 look-alikes on disk, with the original names, columns and formats.

    DIR/covost/covost_v2.fr_en.tsv                      path, translation, split, client_id
    DIR/cv-corpus-4-2019-12-10/fr/validated.tsv         client_id, path, sentence, up_votes, ... of all good clips
    DIR/cv-corpus-4-2019-12-10/fr/{train,dev,test}.tsv  Common Voice's own splits; other.tsv, invalidated.tsv
    DIR/cv-corpus-4-2019-12-10/fr/clips/*.mp3           48 kHz, mono
    DIR/planted.json                                    what is wrong with it, on purpose
    DIR/README.md                                       what it is

Speech is espeak-ng's and sentences are the phrase book's; different variants of the voices speak in training, dev and
test sets. The same call again makes only what is missing.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import shutil
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from comsl.data.constants import SAMPLE_RATE
from comsl.errors import UsageError
from comsl.files import replacing, write_atomically
from comsl.languages import LEVELS, get_language
from comsl.progress import track

from . import covost_faults as faults
from .covost_plan import Clip, plan, targets_of
from .speech import render

RELEASE = "cv-corpus-4-2019-12-10"
SOURCES = tuple(code for codes in LEVELS.values() for code in codes)

CLIP_RATE = 48_000
LARGEST_SCALE = 2.0
"""The phrase book has no more different sentences than that needs."""
LONG, SHORT = 40.0, 0.02
"""Seconds of the clips that are too long and too short."""
_COLUMNS = ("client_id", "path", "sentence", "up_votes", "down_votes", "age", "gender", "accent")
_AGES = ("", "teens", "twenties", "thirties", "fourties", "fifties", "sixties")


def build_covost(
    out: Path, languages: Sequence[str] | None = None, scale: float = 1.0, archives: bool = False, workers: int = 2
) -> Path:
    """Write the miniature; a finished one of the same settings is left as it is.

    Args:
        out: directory.
        languages: source languages, "en" included where English into the others is wanted; None or ["all"]: CoVoST's
            21.
        scale: of the number of clips.
        archives: pack every release and every table of CoVoST 2, as they are downloaded.
        workers: processes that speak.

    Returns:
        `OUT/planted.json`, which is written last.

    Raises:
        SpeechSynthesisError: espeak-ng is missing.
        UsageError: a language that CoVoST 2 does not have, or a scale that is not above 0 and at most 2.
    """
    codes = _checked(languages)
    if not 0 < scale <= LARGEST_SCALE:
        raise UsageError(f"--scale {scale:g}: is not above 0 and at most {LARGEST_SCALE:g}")
    done = out / "planted.json"
    planted = faults.plant({code: plan(code, codes, scale) for code in codes})
    clips = {code: _named(rows) for code, rows in planted.items()}
    report = _report(clips, scale, archives)
    if done.exists() and json.loads(done.read_text(encoding="utf-8")) == report:
        return done
    done.unlink(missing_ok=True)
    _speak_all(
        [(_release(out, code) / "clips" / name, clip) for code in codes for name, clip in clips[code].items()], workers
    )
    for code, rows in clips.items():
        _write_release(_release(out, code), rows)
        tables = [
            out / "covost" / f"covost_v2.{get_language(code).common_voice}_{get_language(x).common_voice}.tsv"
            for x in targets_of(code, codes)
        ]
        for table, target in zip(tables, targets_of(code, codes), strict=True):
            _write_covost(table, target, rows)
        for path in (_release(out, code), *tables) if archives else ():
            _pack(path)
    write_atomically(out / "README.md", _readme(report))
    write_atomically(done, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return done


def _report(clips: Mapping[str, Mapping[str, Clip]], scale: float, archives: bool) -> dict[str, Any]:
    """What `planted.json` says."""
    return {
        "scale": scale,
        "archives": archives,
        "clips": {code: _count(rows.values()) for code, rows in clips.items()},
        "faults": [faults.describe(clip, name) for rows in clips.values() for name, clip in rows.items() if clip.fault],
        "borrowed_voices": _borrowed_voices(list(clips)),
    }


def _pack(path: Path) -> None:
    """PATH.tar.gz in the place of a file (beside its name in the archive) or a folder (without its own name)."""
    with (
        replacing(path.with_name(f"{path.name}.tar.gz")) as part,
        tarfile.open(part, "w:gz", compresslevel=1) as archive,
    ):
        for inner in sorted(path.iterdir()) if path.is_dir() else [path]:
            archive.add(inner, inner.name)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _release(out: Path, code: str) -> Path:
    return out / RELEASE / get_language(code).common_voice


def _checked(languages: Sequence[str] | None) -> list[str]:
    every = languages is None or list(languages) == ["all"]
    codes = list(SOURCES) if every else [get_language(name).code for name in languages or ()]
    for code in codes:
        if code not in (*SOURCES, "en"):
            raise UsageError(f"--languages {code}: CoVoST 2 does not have it; it has en {' '.join(SOURCES)}")
    return list(dict.fromkeys(codes))


def _named(clips: Iterable[Clip]) -> dict[str, Clip]:
    """File name -> clip."""
    named: dict[str, Clip] = {}
    for clip in clips:
        number = clip.number
        while (name := f"common_voice_{get_language(clip.language).common_voice}_{number}.mp3") in named:
            number += 1
        named[name] = clip
    return named


# ------------------------------------------------------------------------------------------------------------- tables


def _write_release(folder: Path, clips: Mapping[str, Clip]) -> None:
    """Common Voice's tables of one language. A clip of another release is in none of them."""
    listed = {name: clip for name, clip in clips.items() if clip.fault != faults.NOT_IN_RELEASE}
    rows = [_release_row(name, clip) for name, clip in listed.items()]
    _write_tsv(folder / "validated.tsv", _COLUMNS, rows)
    for split in ("train", "dev", "test"):
        chosen = [row for row in rows if listed[row["path"]].split == split]
        _write_tsv(folder / f"{split}.tsv", _COLUMNS, chosen)
    for empty in ("other", "invalidated"):
        _write_tsv(folder / f"{empty}.tsv", _COLUMNS, [])


def _release_row(name: str, clip: Clip) -> dict[str, Any]:
    draw = np.random.default_rng(clip.number)
    # The speaker's own answers, which most do not give.
    about = np.random.default_rng(int(clip.client_id[:12], 16))
    gender = "female" if clip.said.voice.variant.startswith("f") else "male"
    return {
        "client_id": clip.client_id, "path": name, "sentence": clip.sentence, "up_votes": int(draw.integers(2, 5)),
        "down_votes": int(draw.random() < 0.1), "age": _AGES[int(about.integers(len(_AGES)))],
        "gender": gender if about.random() < 0.6 else "", "accent": "",
    }  # fmt: skip


def _write_covost(path: Path, target: str, clips: Mapping[str, Clip]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"path": name, "translation": clip.translations[target], "split": clip.split, "client_id": clip.client_id}
        for name, clip in clips.items()
        if clip.split is not None
    ]
    _write_tsv(path, ("path", "translation", "split", "client_id"), rows)


def _write_tsv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """As both corpora write them: no quoting, a backslash before what would end a field."""
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(
            file, columns, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None, escapechar="\\"
        )
        writer.writeheader()
        writer.writerows(rows)


# -------------------------------------------------------------------------------------------------------------- clips


def _speak_all(tasks: Sequence[tuple[Path, Clip]], workers: int) -> None:
    """Write the clips that are not there; the name says everything that is said in it."""
    for folder in {path.parent for path, _ in tasks}:
        folder.mkdir(parents=True, exist_ok=True)
    todo = [task for task in tasks if not task[0].exists()]
    if workers < 2 or len(todo) < 200:
        for task in track(todo, description="speaking", unit="clip"):
            _write_clip(task)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        done = pool.map(_write_clip, todo, chunksize=32)
        for _ in track(done, total=len(todo), description="speaking", unit="clip"):
            pass


def _write_clip(task: tuple[Path, Clip]) -> None:
    path, clip = task
    if clip.fault in (faults.MISSING, faults.NOT_IN_RELEASE):
        return
    if clip.fault == faults.ZERO_LENGTH:
        write_atomically(path, b"")
    elif clip.fault == faults.UNDECODABLE:
        write_atomically(path, np.random.default_rng(clip.number).bytes(20_000))
    else:
        _write_mp3(path, _cut(render(clip.said), clip.fault))


def _cut(waveform: np.ndarray, fault: str | None) -> np.ndarray:
    """float32 [N] at 16 kHz, made too long or too short where that is the fault."""
    if fault == faults.TOO_LONG:
        return np.resize(waveform, int(LONG * SAMPLE_RATE))
    if fault == faults.TOO_SHORT:
        return waveform[: int(SHORT * SAMPLE_RATE)]
    return waveform


def _write_mp3(path: Path, waveform: np.ndarray) -> None:
    samples = soxr.resample(waveform, SAMPLE_RATE, CLIP_RATE)
    with replacing(path) as part:
        soundfile.write(part, samples, CLIP_RATE, format="MP3", subtype="MPEG_LAYER_III")


# ------------------------------------------------------------------------------------------------------------- report


def _count(clips: Iterable[Clip]) -> dict[str, int]:
    """Clips by split as CoVoST counts them."""
    counts = dict.fromkeys(("train", "dev", "test", "untranslated"), 0)
    for clip in clips:
        counts[{"train_covost": "train", None: "untranslated"}.get(clip.split, clip.split or "")] += 1
    return counts


def _borrowed_voices(codes: Sequence[str]) -> dict[str, str]:
    """Language -> the neighbour's voice that speaks it, where espeak-ng has none of its own."""
    return {code: str(get_language(code).espeak) for code in codes if not get_language(code).espeak_exact}


def _readme(report: Mapping[str, Any]) -> str:
    rows = [
        f"| {get_language(code).name} | {' | '.join(str(number) for number in counts.values())} |"
        for code, counts in report["clips"].items()
    ]
    voices = [
        f"{get_language(code).name} has no voice in espeak-ng; `{voice}` ({get_language(voice).name}) speaks it.\n"
        for code, voice in report["borrowed_voices"].items()
    ]
    kinds = ", ".join(dict.fromkeys(fault["kind"] for fault in report["faults"]))
    return f"""# A miniature of Common Voice and CoVoST 2

Written by `comsl demo --covost`. File names, columns and formats are those of the originals; the sentences are a phrase
book's and the voices are synthetic. No recording of a person is in it.

| language | train | dev | test | not translated |
|---|---|---|---|---|
{chr(10).join(rows)}

{"".join(voices)}
Some rows are faulty on purpose ({kinds}): `planted.json` lists them.

In this folder, with the languages that are here:

    comsl prepare covost2 --covost covost --common-voice cv-corpus-4-2019-12-10 --partial \\
          --languages {" ".join(code for code in report["clips"] if code != "en")} --out data

The model that ships with comsl was trained on other sentences: train one (recipes/covost2-mini) before you judge.
"""
