"""A tiny world: manifests that load, splits that share nothing, a second build that makes nothing anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from comsl.data.audio import load_audio
from comsl.data.manifest import load_manifest
from comsl.demo.grammar import held_out, held_out_sentences
from comsl.demo.world import World, build_world
from comsl.errors import UsageError

SIZES = {"de": 6, "cy": 3}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world"), SIZES, test_size=4, dev_size=2, workers=1)


def test_rows(world: World) -> None:
    train = load_manifest(world.train)
    assert len(train) == 9
    assert [row["source_language"] for row in train] == ["de"] * 6 + ["cy"] * 3
    assert {row["target_language"] for row in train} == {"en"}
    assert len(load_manifest(world.test)) == 8
    assert len(load_manifest(world.dev)) == 4
    row = train[0]
    waveform = load_audio(row["audio"])
    assert len(waveform) / 16_000 == pytest.approx(row["duration"], abs=2e-3)


def test_splits_share_neither_sentence_nor_voice(world: World) -> None:
    rows = {name: list(load_manifest(getattr(world, name))) for name in ("train", "dev", "test")}
    texts = {name: {row["transcript"] for row in found} for name, found in rows.items()}
    voices = {name: {row["speaker"].split("+")[-1] for row in found} for name, found in rows.items()}
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not texts[one] & texts[other]
        assert not voices[one] & voices[other]
    for split in ("dev", "test"):
        assert texts[split] <= {pair.source for language in SIZES for pair in held_out(language, split)}
    everything = {row[side] for row in rows["train"] for side in ("transcript", "translation")}
    assert not everything & held_out_sentences()


def test_more_than_is_held_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="test_size: 301"):
        build_world(tmp_path, SIZES, test_size=301)


def test_facts(world: World) -> None:
    facts = json.loads((world.train.parent / "world.json").read_text())
    assert facts == world.facts
    assert facts["test_sources_unseen"] == facts["test_translations_unseen"] == 1.0
    assert facts["sizes"] == SIZES


def test_a_second_build_keeps_what_is_there_and_makes_what_is_missing(world: World) -> None:
    out = world.train.parent
    clips = sorted(Path(out).glob("audio/*/*.flac"))
    before = {clip: clip.stat().st_mtime_ns for clip in clips}
    content = clips[0].read_bytes()
    clips[0].unlink()
    (out / "world.json").unlink()  # as if the first build had been interrupted
    build_world(out, SIZES, test_size=4, dev_size=2, workers=1)
    assert clips[0].read_bytes() == content
    assert all(clip.stat().st_mtime_ns == before[clip] for clip in clips[1:])
