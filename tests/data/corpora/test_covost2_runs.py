"""CoVoST 2: runs that are interrupted, repeated, or given the wrong files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from comsl import cli
from comsl.data.corpora import clips as clips_module
from comsl.data.corpora import common_voice
from comsl.data.corpora.audit import Limits
from comsl.data.corpora.covost2 import prepare as prepare_module
from comsl.data.corpora.covost2.prepare import prepare
from tests.data.corpora.covost import (
    EXPECTED,
    RELEASE,
    TRANSLATIONS,
    layout_of,
    mp3,
    pack,
    splits,
    write_language,
    write_translations,
)

# ------------------------------------------------------------------------------------------- going on where it stopped


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the clips that are decoded from now on (in this process, which takes what fits one chunk)."""
    names: list[str] = []
    check = clips_module.check_clip

    def spy(source: Any) -> Any:
        names.append(Path(source).name)
        return check(source)

    monkeypatch.setattr(clips_module, "check_clip", spy)
    return names


def everything(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.jsonl"))}


def test_a_second_run_does_nothing(corpus: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = corpus / "out"
    first = prepare(corpus / "covost", corpus, out, ["fr"])
    assert sorted(decoded) == [f"clip_{number}.mp3" for number in range(1, 7)]
    before, page = everything(out), first.page.read_text()
    monkeypatch.setattr(prepare_module, "_prepare_pair", None)
    second = prepare(corpus / "covost", corpus, out, ["fr"])
    assert (second.losses, len(decoded), everything(out), second.page.read_text()) == (first.losses, 6, before, page)


def test_what_has_changed_is_done_again(corpus: Path, decoded: list[str]) -> None:
    out, clips = corpus / "out", corpus / RELEASE / "fr" / "clips"
    (clips / "clip_1.mp3").unlink()
    (clips / "clip_2.mp3").write_bytes(b"")
    assert prepare(corpus / "covost", corpus, out, ["fr"], partial=True).losses == 3
    decoded.clear()
    (clips / "clip_2.mp3").write_bytes(mp3(0.5))  # the folder itself stays as it is
    assert prepare(corpus / "covost", corpus, out, ["fr"], partial=True).losses == 2
    (clips / "clip_1.mp3").write_bytes(mp3(0.5))
    assert prepare(corpus / "covost", corpus, out, ["fr"], partial=True).losses == 1
    assert decoded == ["clip_1.mp3", "clip_2.mp3", "clip_1.mp3"]  # the missing one was looked for again
    write_translations(corpus / "covost", "fr_en", TRANSLATIONS[:-1])
    assert prepare(corpus / "covost", corpus, out, ["fr"], partial=True).losses == 0
    limits = Limits(max_duration=0.2)
    assert prepare(corpus / "covost", corpus, out, ["fr"], limits=limits, partial=True).losses == 6
    assert len(decoded) == 3
    (out / "fr_en" / "dev.jsonl").unlink()
    prepare(corpus / "covost", corpus, out, ["fr"])
    assert splits(out) == EXPECTED


def test_killed_while_decoding(corpus: Path, decoded: list[str]) -> None:
    """Half a line at the end of the record: the clip is decoded again, the others are not."""
    out = corpus / "out"
    prepare(corpus / "covost", corpus, out, ["fr"])
    before = everything(out)
    record = out / "checked" / "fr.jsonl"
    record.write_bytes(record.read_bytes()[:-9])
    shutil.rmtree(out / "fr_en")
    decoded.clear()
    prepare(corpus / "covost", corpus, out, ["fr"])
    assert len(decoded) == 1
    assert everything(out) == before


def test_killed_while_writing(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = corpus / "out"
    prepare(corpus / "covost", corpus, out, ["fr"])
    before = everything(out)
    add = prepare_module.PairWriter.add

    def die(self: Any, row: Any, clip: Any) -> None:
        if row.clip == "clip_5.mp3":
            raise KeyboardInterrupt
        add(self, row, clip)

    write_translations(corpus / "covost", "fr_en", [*TRANSLATIONS, "clip_7.mp3\tnew\ttrain"])
    with monkeypatch.context() as patch:
        patch.setattr(prepare_module.PairWriter, "add", die)
        with pytest.raises(KeyboardInterrupt):
            prepare(corpus / "covost", corpus, out, ["fr"])
    assert {name: content for name, content in everything(out).items() if name in before} == before | {
        "checked/fr.jsonl": (out / "checked" / "fr.jsonl").read_bytes()
    }
    assert not list(out.rglob(".*"))
    prepare(corpus / "covost", corpus, out, ["fr"])
    assert [row[0] for row in splits(out)["train"]] == ["clip_1", "clip_2", "clip_3", "clip_7"]


def test_killed_while_unpacking(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is not written again, and is not taken for all."""
    archive = layout_of("fr.tar.gz", corpus)
    out = corpus / "out"
    write, written = common_voice._write, list[str]()

    def spy(content: Any, target: Path, member: Any) -> None:
        written.append(target.name)
        write(content, target, member)

    def die_at_the_third(content: Any, target: Path, member: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        spy(content, target, member)

    monkeypatch.setattr(common_voice, "_write", die_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        prepare(corpus / "covost", archive, out, ["fr"])
    monkeypatch.setattr(common_voice, "_write", spy)
    prepare(corpus / "covost", archive, out, ["fr"])
    assert sorted(written) == [*(f"clip_{number}.mp3" for number in range(1, 7)), "validated.tsv"]
    assert splits(out) == EXPECTED
    monkeypatch.setattr(common_voice, "_write", None)
    prepare(corpus / "covost", archive, out, ["fr"])


@pytest.mark.slow
def test_killed_for_real(tmp_path: Path) -> None:
    """By SIGKILL while its processes decode: they end too, and the same command goes on and gives the same files."""
    names = [f"clip_{number}.mp3" for number in range(600)]
    lines = [f"s{number % 5}\t{name}\tmot {number}" for number, name in enumerate(names)]
    write_language(tmp_path / "fr", lines, dict.fromkeys(names, mp3(0.5)))
    write_translations(tmp_path, "fr_en", [f"{name}\tword\ttrain" for name in names])
    words = ["-m", "comsl", "prepare", "covost2", "--covost", ".", "--common-voice", ".", "--languages", "fr"]
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    command = [sys.executable, *words, "--workers", "2", "--out"]
    process = subprocess.Popen([*command, "killed"], cwd=tmp_path, env=environment)
    record = tmp_path / "killed" / "checked" / "fr.jsonl"
    while not (record.exists() and record.stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    known = record.read_bytes().count(b"\n")
    assert 0 < known < 600
    assert not (tmp_path / "killed" / "fr_en").exists()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{child}").exists() for child in children):  # they do not live on
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for out in ("killed", "undisturbed"):
        subprocess.run([*command, out], cwd=tmp_path, env=environment, check=True)
    assert len(record.read_text().splitlines()) == 600
    manifests = [(tmp_path / out / "fr_en" / "train.jsonl").read_bytes() for out in ("killed", "undisturbed")]
    assert manifests[0] == manifests[1]
    assert manifests[0].count(b"\n") == 600


def test_an_archive_that_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the clips of another pair: what is there stays, and so does what was made of it."""
    clips = {f"{name}.mp3": mp3(0.5) for name in "abc"}
    write_language(tmp_path / "en", [f"x\t{name}\tOne" for name in clips], clips)
    pack(tmp_path / "en.tar.gz", tmp_path / "en")
    shutil.rmtree(tmp_path / "en")
    write_translations(tmp_path, "en_de", ["a.mp3\tEins\ttrain"])
    write_translations(tmp_path, "en_ca", ["b.mp3\tUn\ttrain"])
    out = tmp_path / "out"
    prepare(tmp_path, tmp_path, out, ["de"], "en-xx")
    first = {path: path.stat().st_ino for path in out.rglob("*") if path.suffix in (".tsv", ".mp3")}
    assert {path.name for path in first} == {"validated.tsv", "a.mp3"}
    prepare(tmp_path, tmp_path, out, ["ca"], "en-xx")
    assert {path: path.stat().st_ino for path in first} == first
    assert {path.name for path in out.rglob("*.mp3")} == {"a.mp3", "b.mp3"}
    assert audit_rows(out, "en_de") == audit_rows(out, "en_ca") == 1


def audit_rows(out: Path, pair: str) -> int:
    audit = json.loads((out / "audit-en-xx.json").read_text())
    return audit["pairs"][pair]["splits"]["train"]["written"]


# ----------------------------------------------------------------------------------------------------------- bad input


def run(corpus: Path, *words: object, covost: Path | None = None, root: Path | None = None) -> int:
    return cli.main(
        [
            *("prepare", "covost2", "--covost", str(covost or corpus / "covost")),
            *("--common-voice", str(root or corpus), "--out", str(corpus / "out"), "--workers", "1"),
            *map(str, words),
        ]
    )


def complaints(capfd: pytest.CaptureFixture[str]) -> list[str]:
    err = capfd.readouterr().err
    assert "Traceback" not in err
    return [line.removeprefix("comsl: ") for line in err.splitlines() if line.startswith("comsl: ")]


def test_command(corpus: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One language that is not there: the other is prepared all the same."""
    write_translations(corpus / "covost", "de_en", ["clip_1.mp3\tx\ttrain"])
    assert run(corpus, "--languages", "de", "French") == 1
    line, _ = complaints(capfd)
    assert line.startswith(f"de_en: {corpus}: no de/validated.tsv, cv-corpus-*/de/validated.tsv or archive de.tar.gz")
    assert splits(corpus / "out") == EXPECTED
    assert f"* not prepared: {line}" in (corpus / "out" / "audit-xx-en.md").read_text()
    assert run(corpus, "--languages", "fr") == 0
    (line,) = complaints(capfd)
    whole = (
        f"236,888 rows are lost or fail, or are short of the published sizes; {corpus}/out/audit-xx-en.md says which"
    )
    assert line == whole
    page = (corpus / "out" / "audit-xx-en.md").read_text()
    assert "* 236,887 rows that the published corpus has were not found at all" in page  # of 207,374 + 2 x 14,760
    assert "| fr_en | train | 3 | 3 | 0.00 | 207,374 | 264 |" in page
    assert run(corpus, "--languages", "fr", "--strict", "--partial") == 1
    assert complaints(capfd)[0].startswith("--strict: 1 rows are lost or fail")
    # A pair that cannot be prepared any more is not on the page with what it was.
    write_translations(corpus / "covost", "fr_en", [])
    assert run(corpus, "--languages", "fr") == 1
    assert "| fr_en |" not in (corpus / "out" / "audit-xx-en.md").read_text()
    write_translations(corpus / "covost", "fr_en", TRANSLATIONS[:-1])
    assert run(corpus, "--languages", "fr", "--strict") == 1  # there are more rows in the published corpus
    assert run(corpus, "--languages", "fr", "--strict", "--partial") == 0


def test_other_languages_in_the_folder_are_refused_if_asked(corpus: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(corpus, "--languages", "fr", "--partial", "--no-others") == 0
    assert run(corpus, "--languages", "fr", "--partial", "--no-others") == 0
    capfd.readouterr()
    assert run(corpus, "--languages", "de", "--partial", "--no-others") == 2
    (line,) = complaints(capfd)
    assert line.startswith(f"{corpus}/out: has manifests of fr_en, which were not asked for")
    assert not (corpus / "out" / "de_en").exists()
    assert run(corpus, "--languages", "de", "--partial") == 1  # not refused; there is no German
    assert complaints(capfd)[0].startswith("de_en: ")


def test_wrong_folders_and_languages(corpus: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(corpus, "--languages", "fr", covost=corpus / "none") == 1
    assert run(corpus, "--languages", "fr", "de", covost=corpus / RELEASE) == 1  # one line, not one a language
    assert run(corpus, "--languages", "fr", root=corpus / "none") == 1
    assert run(corpus, "--languages", "fr", root=corpus / "covost") == 1
    assert run(corpus, "--languages", "sw") == 2
    assert run(corpus, "--languages", "es", "--direction", "en-xx") == 2
    assert run(corpus, "--languages", "fr", "--min-duration", "5", "--max-duration", "2") == 2
    lines = complaints(capfd)
    assert lines[0] == f"{corpus}/none: is not a directory; name the folder that CoVoST 2's TSV files lie in"
    assert lines[1].startswith(f"{corpus / RELEASE}: no covost_v2.<source>_<target>.tsv or .tar.gz in it")
    assert lines[2] == f"{corpus}/none: is not a directory; name the folder that Common Voice lies in"
    assert lines[3].startswith(f"fr_en: {corpus}/covost: no fr/validated.tsv, ")
    assert lines[4].startswith("language sw: CoVoST 2 has no sw in the direction xx-en; it has fr de es ca fa")
    assert lines[5].startswith("language es: CoVoST 2 has no es in the direction en-xx; it has de ca zh")
    assert lines[6].startswith("durations from 5 to 2 s leave no clip")
    assert not list((corpus / "out").rglob("*_en"))


def test_releases_that_do_not_match(corpus: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two releases in one folder; a release with other clips; one that lacks some."""
    newer = corpus / "cv-corpus-7.0-2021-07-21" / "fr"
    write_language(newer, ["ada\tother.mp3\tAutre"], {"other.mp3": mp3(0.5)})
    assert run(corpus, "--languages", "fr") == 1
    assert run(corpus, "--languages", "fr", root=newer.parent) == 1
    lines = complaints(capfd)
    assert f"fr: found twice, in {corpus / RELEASE / 'fr'} and {newer}; name the folder of one" in lines[0]
    assert (
        "none of the 7 clips that CoVoST 2 translates is in it; is it the right language, and Common Voice 4"
        in lines[1]
    )
    assert not (corpus / "out" / "fr_en").exists()
    write_translations(corpus / "covost", "fr_en", ["gone.mp3\tlost\ttest", "other.mp3\tOther\ttest"])
    assert run(corpus, "--languages", "fr", "--partial", "--strict", root=newer) == 1
    assert "gone.mp3 is not in validated.tsv of this release" in (corpus / "out" / "audit-xx-en.md").read_text()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("covost", b"path\ttranslation\tset\na\tb\ttrain\n", "no column 'split' in the header, which has 'path'"),
        ("covost", b"path\ttranslation\tsplit\na\tb\tc\ttrain\n", ":2: 4 fields, the header has 3"),
        ("covost", b"path\ttranslation\tsplit\n", "no rows in it"),
        ("covost", b"path\ttranslation\tsplit\n../a.mp3\tb\ttrain\n", "'../a.mp3' is not the name of a clip"),
        ("covost", b"path\ttranslation\tsplit\nclip_1.mp3\t\xe9\ttrain\n", ":2: not UTF-8"),
        ("table", b"client_id\tfile\tsentence\n", "no column 'path' in the header"),
        ("table", b"", "the file is empty"),
    ],
)
def test_wrong_tables(corpus: Path, file: str, content: bytes, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = {"covost": corpus / "covost" / "covost_v2.fr_en.tsv", "table": corpus / RELEASE / "fr" / "validated.tsv"}[
        file
    ]
    path.write_bytes(content)
    assert run(corpus, "--languages", "fr") == 1
    (line,) = complaints(capfd)
    assert line.startswith(f"fr_en: {path}")
    assert message in line
    assert not (corpus / "out" / "fr_en").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_archive(corpus: Path, share: float, capfd: pytest.CaptureFixture[str]) -> None:
    root = layout_of("fr.tar.gz", corpus)
    archive = root / "fr.tar.gz"
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * share)])
    assert run(corpus, "--languages", "fr", root=root) == 1
    (line,) = complaints(capfd)
    assert line.startswith(f"fr_en: {archive}: the archive is cut short or damaged (")
    archive.write_bytes(whole)
    assert run(corpus, "--languages", "fr", root=root) == 0
    assert splits(corpus / "out") == EXPECTED


def test_a_truncated_archive_of_translations(corpus: Path, capfd: pytest.CaptureFixture[str]) -> None:
    archive = pack(corpus / "covost" / "covost_v2.fr_en.tsv.tar.gz", corpus / "covost")
    (corpus / "covost" / "covost_v2.fr_en.tsv").unlink()
    archive.write_bytes(archive.read_bytes()[:-40])
    assert run(corpus, "--languages", "fr") == 1
    (line,) = complaints(capfd)
    assert line.startswith(f"fr_en: {archive}: the archive is cut short or damaged (")


def test_a_full_disk(corpus: Path) -> None:
    """Files may not grow beyond 1000 bytes: one line, nothing half-written, and the same command goes on."""
    code = (
        "import resource, sys; from comsl.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = ["prepare", "covost2", "--covost", "covost", "--common-voice", ".", "--languages", "fr", "--out", "out"]
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    command = [sys.executable, "-c", code, *words]
    full = subprocess.run(command, cwd=corpus, env=environment, capture_output=True, text=True, timeout=120)
    assert (full.returncode, full.stderr) == (1, "comsl: out: File too large\n")
    assert not list((corpus / "out").rglob("*.jsonl.*"))
    assert not (corpus / "out" / "fr_en" / "audit.json").exists()
    assert prepare(corpus / "covost", corpus, corpus / "out", ["fr"]).errors == []
    assert splits(corpus / "out") == EXPECTED
