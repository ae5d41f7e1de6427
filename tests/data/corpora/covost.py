"""Small Common Voice releases and CoVoST 2 files, with real mp3 clips."""

from __future__ import annotations

import functools
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from comsl.data.manifest import load_manifest
from tests.data.audio_files import tone, write_av

HEADER = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent"
RELEASE = "cv-corpus-4-2019-12-10"


@functools.cache
def mp3(seconds: float) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_av(Path(folder) / "clip.mp3", tone(seconds, 48_000), 48_000, "libmp3lame").read_bytes()


def write_language(folder: Path, lines: Sequence[str], clips: Mapping[str, bytes]) -> Path:
    """A language of a release: lines "client_id<TAB>path<TAB>sentence", and clips by their file names."""
    (folder / "clips").mkdir(parents=True)
    table = "".join(f"{line}\t2\t0\t\t\t\n" for line in lines)
    (folder / "validated.tsv").write_bytes(f"{HEADER}\n{table}".encode())
    for name, content in clips.items():
        (folder / "clips" / name).write_bytes(content)
    return folder


def write_translations(folder: Path, pair: str, lines: Sequence[str]) -> Path:
    """Lines "path<TAB>translation<TAB>split"."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"covost_v2.{pair}.tsv"
    path.write_bytes("".join(f"{line}\n" for line in ("path\ttranslation\tsplit", *lines)).encode())
    return path


def pack(path: Path, folder: Path, prefix: str = "") -> Path:
    """A tar.gz of what a folder holds, clips first."""
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.add(file, f"{prefix}{file.relative_to(folder)}")
    return path


# A pair to prepare, and what must come out of it.

VALIDATED = [
    "ada\tclip_1.mp3\tNA",
    'bob\tclip_2.mp3\t"Bonjour", dit-il',
    "ada\tclip_3.mp3\tdeux  espaces ",
    "eve\tclip_4.mp3\tune barre \\\\ oblique",
    "eve\tclip_5.mp3\tnull",
    'bob\tclip_6.mp3\t\\"échappé\\"',
    "joe\tclip_7.mp3\tpas traduit",
    "joe\tclip_8.mp3\tdans aucun ensemble",
]
TRANSLATIONS = [
    # In another order than the table, which is the one that counts.
    'clip_6.mp3\t"escaped" \\\\ twice\ttest',
    "clip_1.mp3\tN/A\ttrain",
    "clip_2.mp3\t'Hello', he \"said\ttrain_covost",
    "clip_3.mp3\ttwo  blanks\ttrain",
    "clip_5.mp3\tnan\tdev",
    "clip_4.mp3\ta back\\slash\ttest",
    "clip_8.mp3\tin no split\tdev_covost",
    "clip_9.mp3\tnot in this release\ttrain",
]
EXPECTED = {
    "train": [
        ("clip_1", "ada", "NA", "N/A"),
        ("clip_2", "bob", '"Bonjour", dit-il', "'Hello', he \"said"),
        ("clip_3", "ada", "deux  espaces ", "two  blanks"),
    ],
    "dev": [("clip_5", "eve", "null", "nan")],
    "test": [
        ("clip_4", "eve", "une barre \\ oblique", "a backslash"),
        ("clip_6", "bob", '"échappé"', '"escaped" \\ twice'),
    ],
}
"""Split -> id, speaker, transcript, translation, by hand from the corpus's own procedure."""


def write_corpus(root: Path) -> Path:
    clips = {f"clip_{number}.mp3": mp3(0.5) for number in range(1, 9)}
    write_language(root / RELEASE / "fr", VALIDATED, clips)
    write_translations(root / "covost", "fr_en", TRANSLATIONS)
    return root


def splits(out: Path) -> dict[str, list[tuple[str, ...]]]:
    """What ``EXPECTED`` is compared with."""
    columns = ("id", "speaker", "transcript", "translation")
    return {
        split: [
            tuple(row[name].removeprefix("covost2/fr_en/") for name in columns)
            for row in load_manifest(out / "fr_en" / f"{split}.jsonl")
        ]
        for split in EXPECTED
    }


def layout_of(kind: str, corpus: Path) -> Path:
    """Another layout of the same release."""
    folder, root = corpus / RELEASE / "fr", corpus / "other"
    root.mkdir()
    if kind == "language folders":
        shutil.copytree(folder, root / "fr")
    elif kind == "the language's own folder":
        root = shutil.copytree(folder, root / "somewhere")
    elif kind == "fr.tar.gz":
        pack(root / "fr.tar.gz", folder)
    elif kind == "release tar.gz":
        pack(root / f"{RELEASE}-fr.tar.gz", folder, f"{RELEASE}/fr/")
    return root
