"""CoVoST 2: split equality on nasty rows, the audit against planted faults, resuming, bad input."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from comsl.data.corpora import clips as clips_module
from comsl.data.corpora.audit import Limits
from comsl.data.corpora.covost2.prepare import prepare
from comsl.data.manifest import load_manifest
from tests.data.corpora.covost import (
    EXPECTED,
    RELEASE,
    layout_of,
    mp3,
    pack,
    splits,
    write_language,
    write_translations,
)


def audit_of(out: Path, direction: str = "xx-en") -> dict[str, Any]:
    return json.loads((out / f"audit-{direction}.json").read_text(encoding="utf-8"))


def failures(out: Path) -> set[tuple[str, str, str, bool]]:
    lines = (out / "failed-xx-en.jsonl").read_text(encoding="utf-8").splitlines()
    return {(row["clip"], row["split"], row["kind"], row["kept"]) for row in map(json.loads, lines)}


def test_splits_equal_those_of_the_procedure(corpus: Path) -> None:
    result = prepare(corpus / "covost", corpus, corpus / "out", ["fr"], workers=1)
    assert result.errors == []
    assert splits(corpus / "out") == EXPECTED
    first = json.loads((corpus / "out" / "fr_en" / "train.jsonl").read_text().splitlines()[0])
    assert first == {
        "id": "covost2/fr_en/clip_1",
        "audio": f"../../{RELEASE}/fr/clips/clip_1.mp3",
        "duration": pytest.approx(0.5, abs=0.08),  # mp3 encoders add their delay
        "source_language": "fr",
        "target_language": "en",
        "transcript": "NA",
        "translation": "N/A",
        "split": "train",
        "speaker": "ada",
        "provenance": "covost2",
    }
    audit = audit_of(corpus / "out")["pairs"]["fr_en"]
    assert audit["in_no_split"] == {"dev_covost": 1}
    assert audit["splits"]["train"]["losses"] == {"not-in-release": 1}
    assert failures(corpus / "out") == {("clip_9.mp3", "train", "not-in-release", False)}


@pytest.mark.parametrize("kind", ["language folders", "the language's own folder", "fr.tar.gz", "release tar.gz"])
def test_layouts(kind: str, corpus: Path) -> None:
    root = layout_of(kind, corpus)
    shutil.rmtree(corpus / RELEASE)
    pack(corpus / "covost" / "covost_v2.fr_en.tsv.tar.gz", corpus / "covost")
    (corpus / "covost" / "covost_v2.fr_en.tsv").unlink()
    out = corpus / "out"
    assert prepare(corpus / "covost", root, out, ["fr"], workers=1).errors == []
    assert splits(out) == EXPECTED
    for row in load_manifest(out / "fr_en" / "test.jsonl"):
        assert Path(row["audio"]).read_bytes() == mp3(0.5)
    if kind.endswith("tar.gz"):  # no more than what is needed
        unpacked = {path.name for path in (out / "clips" / "fr" / "clips").iterdir()}
        assert unpacked == {f"clip_{number}.mp3" for number in range(1, 7)}


def test_from_english(tmp_path: Path) -> None:
    """Two targets share the clips of one source; folders are Common Voice's, codes ours."""
    write_language(tmp_path / "en", ["ada\ta.mp3\tOne", "bob\tb.mp3\tTwo"], {"a.mp3": mp3(0.5), "b.mp3": mp3(0.5)})
    write_translations(tmp_path, "en_zh-CN", ["a.mp3\t一\ttrain", "b.mp3\t二\ttest"])
    write_translations(tmp_path, "en_de", ["a.mp3\tEins\ttrain", "b.mp3\tZwei\ttest"])
    out = tmp_path / "out"
    result = prepare(tmp_path, tmp_path, out, ["zh", "de"], "en-xx", workers=1)
    assert result.errors == []
    assert load_manifest(out / "en_zh" / "test.jsonl")["translation"][:] == ["二"]
    assert load_manifest(out / "en_de" / "train.jsonl")["target_language"][:] == ["de"]
    assert set(audit_of(out, "en-xx")["pairs"]) == {"en_de", "en_zh"}
    published = {
        split: counts["published_rows"] for split, counts in audit_of(out, "en-xx")["pairs"]["en_de"]["splits"].items()
    }
    assert published == {"train": 289430, "dev": 15531, "test": 15531}


# ------------------------------------------------------------------------------------------------------- planted faults


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 good clips whose duration follows their transcript, and one row of every fault in train, one in test."""
    root = tmp_path_factory.mktemp("faulty")
    table, translations, clips = [], [], {}
    for number in range(40):
        words = 2 + number % 9
        table.append(f"speaker {number}\tgood_{number}.mp3\t{'mot ' * words}{number}")
        translations.append(f"good_{number}.mp3\tword {number}\t{('train', 'dev', 'train', 'test')[number % 4]}")
        clips[f"good_{number}.mp3"] = mp3(0.5 + 0.3 * words)
    broken: dict[str, bytes | None] = {
        "missing": None,
        "zero-length": b"",
        "undecodable": b"This is not audio.\n" * 50,
        "too-short": mp3(0.03),
        "too-long": mp3(4.5),
        "outlier": mp3(3.8),
    }
    for kind, content in broken.items():
        for split in ("train", "test"):
            name = f"{kind}_{split}.mp3"
            sentence = "mot" if kind == "outlier" else f"{'mot ' * 5}{kind} {split}"
            table.append(f"{kind}\t{name}\t{sentence}")
            translations.append(f"{name}\tword {kind} {split}\t{split}")
            if content is not None:
                clips[name] = content
    table += ["x\tno-transcript_train.mp3\t ", "x\tno-translation_train.mp3\tmot mot mot mot"]
    table += ["speaker 2\tshared_test.mp3\tMot, mot: mot mot 2!", "x\tcut_test.mp3\tmot mot mot mot"]
    translations += ["no-transcript_train.mp3\tword\ttrain", "no-translation_train.mp3\t\ttrain"]
    translations += ["shared_test.mp3\tanother word\ttest", "cut_test.mp3\tcut word\ttest", "lost.mp3\tlost\ttest"]
    clips |= dict.fromkeys(("no-transcript_train.mp3", "no-translation_train.mp3", "shared_test.mp3"), mp3(1.7))
    clips["cut_test.mp3"] = mp3(1.7)[:-100]
    write_language(root / RELEASE / "fr", table, clips)
    write_translations(root / "covost", "fr_en", translations)
    return root


@pytest.mark.parametrize("workers", [1, 2])
def test_the_audit_finds_exactly_what_was_planted(
    faulty: Path, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clips_module, "CHUNK", 16)
    limits = Limits(min_duration=0.2, max_duration=4.0)
    result = prepare(faulty / "covost", faulty, tmp_path, ["fr"], limits=limits, workers=workers, partial=True)
    kinds = ("missing", "zero-length", "undecodable", "too-short", "too-long")
    lost = {(f"{kind}_{split}.mp3", split, kind, split == "test") for kind in kinds for split in ("train", "test")}
    lost |= {
        ("cut_test.mp3", "test", "undecodable", True),
        ("no-transcript_train.mp3", "train", "no-transcript", False),
        ("no-translation_train.mp3", "train", "no-translation", False),
        ("lost.mp3", "test", "not-in-release", False),
    }
    outliers = {(f"outlier_{split}.mp3", split, "outlier", True) for split in ("train", "test")}
    assert failures(tmp_path) == lost | outliers
    audit = audit_of(tmp_path)
    counts = audit["pairs"]["fr_en"]["splits"]
    assert {split: (counts[split]["rows"], counts[split]["written"]) for split in counts} == {
        "train": (20 + 6 + 2, 20 + 1),
        "dev": (10, 10),
        "test": (10 + 6 + 2, 18),
    }
    assert result.losses == audit["rows_lost_or_failing"] == len(lost)
    assert counts["test"]["losses"] == Counter(kind for _, split, kind, _ in lost if split == "test")
    assert [counts[split]["outliers"] for split in counts] == [1, 0, 1]
    # Transcripts: good_2's, written otherwise; "mot"; "mot mot mot mot". Speakers: six kinds of faults, x, speaker 2.
    assert audit["pairs"]["fr_en"]["shared_with_train"]["test"] == {
        "transcripts": 3,
        "translations": 0,
        "both": 0,
        "speakers": 8,
    }
    page = result.page.read_text(encoding="utf-8")
    assert f"* {len(lost)} rows are lost" in page
    assert "* of the test rows 6 stay in the manifests and fail, 1 are in no manifest" in page
    assert "| fr_en | test | 18 | 18 |" in page
    assert "published rows" not in page
    assert "lost.mp3 is not in validated.tsv" in page
