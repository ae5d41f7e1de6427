"""The miniature of Common Voice and CoVoST 2: layout, splits, voices, and faults that are really there."""

from __future__ import annotations

import csv
import json
import tarfile
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from comsl.cli import main
from comsl.data.audio import AudioError, audio_duration, load_audio
from comsl.demo.covost import RELEASE, SOURCES, build_covost
from comsl.demo.covost_faults import FAULTS, plant
from comsl.demo.covost_plan import plan, sizes
from comsl.demo.phrases import READING, load_phrases
from comsl.demo.speech import DEV_VARIANTS, TEST_VARIANTS, TRAIN_VARIANTS

SCALE = 0.02
SCRIPTS = {
    "fa": {"ARABIC"}, "ar": {"ARABIC"}, "ru": {"CYRILLIC"}, "mn": {"CYRILLIC"}, "ta": {"TAMIL"}, "zh": {"CJK"},
    "ja": {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"},
    READING: {"HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"},
}  # fmt: skip


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("miniature")
    return build_covost(out, ["fr", "zh-CN"], SCALE, workers=1).parent


def read(path: Path) -> pd.DataFrame:
    """As CoVoST 2's own script reads its tables and Common Voice's."""
    return pd.read_csv(path, sep="\t", encoding="utf-8", escapechar="\\", quoting=csv.QUOTE_NONE, na_filter=False)


def planted(folder: Path, kind: str) -> list[dict[str, Any]]:
    faults = json.loads((folder / "planted.json").read_text())["faults"]
    return [fault for fault in faults if fault["kind"] == kind]


def clip(folder: Path, fault: dict[str, Any]) -> Path:
    code = {"zh": "zh-CN"}.get(fault["language"], fault["language"])
    return folder / RELEASE / code / "clips" / fault["clip"]


# ------------------------------------------------------------------------------------------------------- phrase book


def test_every_language_says_as_much() -> None:
    book = load_phrases().phrases
    assert set(book) == {*SOURCES, "en", READING}
    for language, slots in book.items():
        assert {slot: len(set(phrases)) for slot, phrases in slots.items()} == {
            "opening": 10, "moment": 10, "action": 12, "remark": 12,
        }, language  # fmt: skip


def test_every_language_is_written_in_its_own_script() -> None:
    for language, slots in load_phrases().phrases.items():
        letters = {c for phrases in slots.values() for phrase in phrases for c in phrase if c.isalpha()}
        scripts = {unicodedata.name(c).split()[0] for c in letters} - {"MODIFIER"}
        assert scripts <= SCRIPTS.get(language, {"LATIN"}), (language, scripts)


def test_a_sentence_says_the_same_everywhere() -> None:
    book, sentence = load_phrases(), (("moment", 2), ("action", 2))
    assert book.text(sentence, "en") == "It is raining. We are going to the market."
    assert book.text(sentence, "de") == "Es regnet. Wir gehen auf den Markt."
    assert book.text(sentence, "zh") == "正在下雨。我们去市场。"
    assert book.text(sentence, "ja") == "雨が降っています。私たちは市場へ行きます。"
    assert book.reading(sentence, "ja") == "あめがふっています。 わたしたちはいちばへいきます。"


def test_thousands_of_sentences() -> None:
    # Pairs and triples of 10, 10, 12 and 12 phrases.
    assert len(set(load_phrases().sentences())) == 100 + 4 * 120 + 144 + 2 * 1200 + 2 * 1440


# -------------------------------------------------------------------------------------------------------------- plan


def test_sizes_are_those_of_the_original_compressed() -> None:
    assert [sizes(code)["train"] for code in ("fr", "ru", "cy")] == [512, 218, 110]
    order = sorted(SOURCES, key=lambda code: -sizes(code)["train"])
    assert order[:4] == ["fr", "de", "ca", "es"]
    assert 5_000 < sum(count for code in SOURCES for count in sizes(code).values()) < 7_000


def test_no_language_trains_on_what_any_is_tested_on() -> None:
    english: dict[str, set[str]] = {"train": set(), "dev": set(), "test": set()}
    for code in SOURCES:
        clips = plan(code, SOURCES)
        assert len({c.sentence for c in clips}) == len(clips)
        for c in clips:
            if c.split is not None:
                english[c.split.removesuffix("_covost")].add(c.translations["en"])
    assert not english["train"] & english["test"]
    assert not english["train"] & english["dev"]


def test_nobody_is_heard_in_two_splits() -> None:
    speakers: dict[str, set[str]] = {"train": set(), "dev": set(), "test": set()}
    for c in plan("sv", ["sv"]):
        speakers[(c.split or "train").removesuffix("_covost")].add(c.client_id)
        assert len(c.client_id) == 128
    for split, variants in (("train", TRAIN_VARIANTS), ("dev", DEV_VARIANTS), ("test", TEST_VARIANTS)):
        assert 0 < len(speakers[split]) <= len(variants)
    assert not speakers["train"] & speakers["test"]
    assert not speakers["train"] & speakers["dev"]


def test_english_is_translated_into_the_others_that_covost_has() -> None:
    translated = next(c for c in plan("en", ["en", "de", "fr", "zh"], SCALE) if c.split == "train")
    assert set(translated.translations) == {"de", "zh"}


@pytest.mark.parametrize("languages", [["cy"], list(SOURCES)])
def test_every_fault_finds_a_place(languages: list[str]) -> None:
    clips = plant({code: plan(code, languages, SCALE) for code in languages})
    assert sum(c.fault is not None for rows in clips.values() for c in rows) == len(FAULTS)


# ------------------------------------------------------------------------------------------------------------ on disk


def test_tables_have_the_original_names_and_columns(miniature: Path) -> None:
    release = miniature / RELEASE
    assert sorted(path.name for path in (miniature / "covost").iterdir()) == [
        "covost_v2.fr_en.tsv", "covost_v2.zh-CN_en.tsv",
    ]  # fmt: skip
    for code in ("fr", "zh-CN"):
        for name in ("validated", "train", "dev", "test", "other", "invalidated"):
            columns = (release / code / f"{name}.tsv").read_text().split("\n")[0].split("\t")
            assert columns == ["client_id", "path", "sentence", "up_votes", "down_votes", "age", "gender", "accent"]
        columns = (miniature / "covost" / f"covost_v2.{code}_en.tsv").read_text().split("\n")[0].split("\t")
        assert columns == ["path", "translation", "split", "client_id"]


def test_splits_join_as_the_original_does(miniature: Path) -> None:
    validated = read(miniature / RELEASE / "fr" / "validated.tsv")
    covost = read(miniature / "covost" / "covost_v2.fr_en.tsv")
    both = validated.merge(covost, on="path")
    absent = [fault for fault in planted(miniature, "not-in-release") if fault["language"] == "fr"]
    assert len(both) == len(covost) - len(absent) > 0
    assert set(covost["split"]) == {"train", "train_covost", "dev", "test"}
    assert len(validated) > len(both)  # clips that CoVoST does not translate
    assert set(read(miniature / RELEASE / "fr" / "test.tsv")["path"]) == set(both[both["split"] == "test"]["path"])


def test_clips_are_mp3_as_common_voice_has_them(miniature: Path) -> None:
    row = read(miniature / RELEASE / "zh-CN" / "test.tsv").iloc[0]
    info = soundfile.info(miniature / RELEASE / "zh-CN" / "clips" / row["path"])
    assert (info.format, info.samplerate, info.channels) == ("MP3", 48_000, 1)
    assert 1.0 < info.duration < 8.0
    assert np.abs(load_audio(miniature / RELEASE / "zh-CN" / "clips" / row["path"])).max() > 0.05


def test_faulty_clips_are_faulty(miniature: Path) -> None:
    assert not any(clip(miniature, fault).exists() for fault in planted(miniature, "missing"))
    assert all(clip(miniature, fault).stat().st_size == 0 for fault in planted(miniature, "zero-length"))
    for fault in planted(miniature, "undecodable"):
        with pytest.raises(AudioError):
            load_audio(clip(miniature, fault))
    assert all(audio_duration(clip(miniature, fault)) > 30 for fault in planted(miniature, "too-long"))
    assert all(audio_duration(clip(miniature, fault)) < 0.1 for fault in planted(miniature, "too-short"))
    for fault in planted(miniature, "outlier"):
        usual = {"fr": 15, "zh": 5}[fault["language"]]  # characters a second
        assert len(fault["sentence"]) / audio_duration(clip(miniature, fault)) > 4 * usual


def test_nasty_rows_survive_to_the_letter(miniature: Path) -> None:
    found = {}
    for code in ("fr", "zh-CN"):
        rows = read(miniature / RELEASE / code / "validated.tsv").merge(
            read(miniature / "covost" / f"covost_v2.{code}_en.tsv"), on="path"
        )
        found |= {row.path: (row.sentence, row.translation) for row in rows.itertuples()}
    nasty = planted(miniature, "nasty-row")
    assert [found[fault["clip"]] for fault in nasty] == [(f["sentence"], f["translations"]["en"]) for f in nasty]
    texts = {translation for _, translation in (found[fault["clip"]] for fault in nasty)}
    assert {"NA", "null"} < texts
    assert any(text.startswith('"') and not text.endswith('"') for text in texts)
    assert any("  2" in text for text in texts)
    assert any(text.endswith(r"C:\new\table") for text in texts)


def test_shared_sentences_are_those_of_the_test_set(miniature: Path) -> None:
    for kind in ("shared-sentence", "untranslated-test-sentence"):
        for fault in planted(miniature, kind):
            code = {"zh": "zh-CN"}.get(fault["language"], fault["language"])
            assert fault["sentence"] in set(read(miniature / RELEASE / code / "test.tsv")["sentence"])


def test_a_finished_miniature_is_left_alone_and_archives_hold_the_same(miniature: Path, tmp_path: Path) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in miniature.rglob("*")}
    build_covost(miniature, ["fr", "zh-CN"], SCALE, workers=1)
    assert {path: path.stat().st_mtime_ns for path in miniature.rglob("*")} == stamps

    assert main(["demo", "--covost", str(tmp_path), "--languages", "zh", "--scale", str(SCALE), "--archives"]) == 0
    with tarfile.open(tmp_path / RELEASE / "zh-CN.tar.gz") as archive:
        names = archive.getnames()
    assert {"validated.tsv", "clips", "test.tsv"} <= set(names)
    assert not (tmp_path / RELEASE / "zh-CN").exists()
    assert [path.name for path in (tmp_path / "covost").iterdir()] == ["covost_v2.zh-CN_en.tsv.tar.gz"]


def test_the_borrowed_voice_is_marked(tmp_path: Path) -> None:
    from comsl.demo.covost import _readme, _report

    report = _report({"mn": {}, "fr": {}}, 1.0, False)
    assert report["borrowed_voices"] == {"mn": "kk"}
    assert "Mongolian has no voice in espeak-ng; `kk` (Kazakh) speaks it." in _readme(report)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--languages", "sw"], "--languages sw: CoVoST 2 does not have it"),
        (["--languages", "xx"], "unknown language 'xx'"),
        (["--scale", "0"], "--scale 0: is not above 0"),
    ],
)
def test_wrong_words_are_refused(
    words: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--covost", str(tmp_path / "out"), *words]) == 2
    assert complaint in capsys.readouterr().err


def test_the_audit_finds_exactly_what_was_planted(miniature: Path, tmp_path: Path) -> None:
    words = ["--covost", str(miniature / "covost"), "--common-voice", str(miniature / RELEASE), "--partial"]
    words += ["--languages", "fr", "zh", "--workers", "1", "--out", str(tmp_path)]
    assert main(["prepare", "covost2", *words]) == 0
    failed = [json.loads(line) for line in (tmp_path / "failed-xx-en.jsonl").read_text().splitlines()]
    heard = ("missing", "zero-length", "undecodable", "too-long", "too-short", "outlier", "not-in-release")
    assert {(row["kind"], row["clip"]) for row in failed} == {
        (kind, fault["clip"]) for kind in heard for fault in planted(miniature, kind)
    }
    audit = (tmp_path / "audit-xx-en.json").read_text()
    shared = {code: sum(f["language"] == code for f in planted(miniature, "shared-sentence")) for code in ("fr", "zh")}
    found = json.loads(audit)["pairs"]
    assert {code: found[f"{code}_en"]["shared_with_train"]["test"]["both"] for code in shared} == shared
    rows = {
        row["id"]: row for code in shared for row in map(json.loads, (tmp_path / f"{code}_en" / "train.jsonl").open())
    }
    for fault in planted(miniature, "nasty-row"):
        row = rows[f"covost2/{fault['language']}_en/{fault['clip'].removesuffix('.mp3')}"]
        assert (row["transcript"], row["translation"]) == (fault["sentence"], fault["translations"]["en"])
