import multiprocessing
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from comsl.data.augment import AugmentSettings
from comsl.data.collate import Collator
from comsl.data.dataset import NEEDS, MixedLimit, SpeechTranslationDataset
from comsl.data.errors import DataError
from comsl.data.features import log_mel
from comsl.data.manifest import load_manifest, write_manifest
from comsl.data.sampler import BucketBatchSampler
from comsl.errors import UsageError
from tests.data.audio_files import tone, write_sound
from tests.data.fake import FakeProcessor

ALL = tuple(NEEDS)
EVERYTHING = AugmentSettings(
    speed=(0.9, 1.0, 1.1), noise=0.5, time_masks=2, time_mask_frames=5, frequency_masks=1, frequency_mask_bands=4
)


def rows_of(folder: Path, count: int = 6, **fields: Any) -> list[dict[str, Any]]:
    rows = []
    for number in range(count):
        seconds = 0.3 + 0.1 * number
        write_sound(folder / f"{number}.wav", tone(seconds, frequency=200 + 50 * number), subtype="FLOAT")
        rows.append({
            "id": f"r{number}",
            "audio": f"{number}.wav",
            "duration": seconds,
            "source_language": "de",
            "target_language": "en",
            "transcript": "ein kleines Haus am Fluss " * (number + 1),
            "translation": "a small house " * (number + 1),
            **fields,
        })  # fmt: skip
    return rows


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    write_manifest(rows_of(tmp_path), tmp_path / "m.jsonl")
    return tmp_path / "m.jsonl"


def batches(manifest: Path, workers: int, epoch: int = 0, skip: int = 0, augment: AugmentSettings = EVERYTHING) -> list:
    processor = FakeProcessor()
    dataset = SpeechTranslationDataset(manifest, processor, augment, seed=5, fields=ALL)
    sampler = BucketBatchSampler(dataset.costs(), 1.6, seed=5)
    sampler.set_epoch(epoch)
    dataset.set_epoch(epoch)
    rest = list(sampler)[skip:]
    loader = DataLoader(dataset, batch_sampler=rest, collate_fn=Collator(processor, ALL, 0.5), num_workers=workers)
    return list(loader)


def assert_same(first: list, second: list) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert torch.equal(one[name], other[name]), name


def test_workers_and_resuming_change_nothing(manifest: Path) -> None:
    alone = batches(manifest, 0, epoch=1)
    assert len(alone) > 2
    assert_same(batches(manifest, 2, epoch=1), alone)
    assert_same(batches(manifest, 0, epoch=1, skip=2), alone[2:])


def test_epochs_differ(manifest: Path) -> None:
    dataset = SpeechTranslationDataset(manifest, FakeProcessor(), EVERYTHING, seed=5)
    first = [dataset[0].features for _ in range(2)]
    np.testing.assert_array_equal(first[0], first[1])
    dataset.set_epoch(1)
    assert dataset[0].key == (5, 1, 0)
    second = dataset[0].features
    assert second is not None
    assert first[0] is not None
    assert second.shape != first[0].shape or not np.array_equal(second, first[0])


def test_running_workers_see_the_epoch_change(manifest: Path) -> None:
    dataset = SpeechTranslationDataset(manifest, FakeProcessor(), seed=5, fields=["transcript"])
    loader = DataLoader(dataset, collate_fn=list, num_workers=1, persistent_workers=True)
    keys = []
    for epoch in range(3):
        dataset.set_epoch(epoch)
        keys.append({example[0].key[1] for example in loader})
    assert keys == [{0}, {1}, {2}]


def test_without_augmentation_it_is_the_features_of_the_file(manifest: Path) -> None:
    example = SpeechTranslationDataset(manifest, FakeProcessor())[2]
    np.testing.assert_allclose(example.features, log_mel(tone(0.5, frequency=300)), atol=1e-6)
    assert example.duration == 0.5
    assert (example.id, example.source_language, example.target_language) == ("r2", "de", "en")


def test_only_what_the_fields_need_is_loaded(tmp_path: Path) -> None:
    rows = rows_of(tmp_path)
    for row in rows:
        row["audio"] = "is-not-there.wav"
    rows[1]["audio"] = None
    write_manifest(rows, tmp_path / "m.jsonl")
    dataset = SpeechTranslationDataset(tmp_path / "m.jsonl", FakeProcessor(), fields=["transcript", "translation"])
    assert all(dataset[index].features is None for index in range(6))
    with pytest.raises(DataError, match="row 'r1' has no audio, which 'speech' is made of"):
        SpeechTranslationDataset(tmp_path / "m.jsonl", FakeProcessor(), fields=["speech"])


@pytest.mark.parametrize(
    ("column", "field"),
    [
        ("transcript", "ctc"),
        ("transcript", "masked_transcript"),
        ("translation", "translation"),
        ("target_language", "translation"),
    ],
)
def test_rows_that_lack_what_a_field_needs(tmp_path: Path, column: str, field: str) -> None:
    rows = rows_of(tmp_path)
    for number in (1, 2, 4, 5):
        rows[number][column] = None
    write_manifest(rows, tmp_path / "m.jsonl")
    message = rf"4 rows \(first: 'r1', 'r2', 'r4'\) have no {column}, which '{field}' is made of"
    with pytest.raises(DataError, match=message):
        SpeechTranslationDataset(tmp_path / "m.jsonl", FakeProcessor(), fields=[field])
    SpeechTranslationDataset(tmp_path / "m.jsonl", FakeProcessor(), fields=["speech"])


def test_selections_are_checked_and_read_as_such(manifest: Path) -> None:
    chosen = load_manifest(manifest).select([4, 1])
    dataset = SpeechTranslationDataset(chosen, FakeProcessor(), fields=["speech"])
    np.testing.assert_allclose(dataset.durations(), [0.7, 0.4])
    assert [dataset[index].id for index in range(2)] == ["r4", "r1"]


@pytest.mark.parametrize("known", [True, False])
def test_too_long(tmp_path: Path, known: bool) -> None:
    rows = rows_of(tmp_path, **({} if known else {"duration": None}))
    write_manifest(rows, tmp_path / "m.jsonl")
    processor = FakeProcessor(max_duration=0.7)
    message = "row 'r5' has 0.80 s of audio, the model reads 0.7 s at most"
    if known:
        with pytest.raises(DataError, match=message):
            SpeechTranslationDataset(tmp_path / "m.jsonl", processor, fields=["speech"])
        return
    dataset = SpeechTranslationDataset(tmp_path / "m.jsonl", processor, fields=["speech"])
    assert dataset[4].duration == pytest.approx(0.7)
    with pytest.raises(DataError, match=r"row 'r5' \(.*5\.wav\): 0\.80 s of audio, the model reads 0\.7 s at most"):
        dataset[5]
    with pytest.raises(DataError, match=message):
        dataset.durations()


def test_a_little_too_long_is_an_error_of_its_row(tmp_path: Path) -> None:
    """A header may say so and be wrong; the samples may not."""
    rows = rows_of(tmp_path, 2, duration=None)
    write_sound(tmp_path / "0.wav", tone(0.701))
    write_sound(tmp_path / "1.wav", tone(0.7))
    write_manifest(rows, tmp_path / "m.jsonl")
    dataset = SpeechTranslationDataset(tmp_path / "m.jsonl", FakeProcessor(max_duration=0.7), fields=["speech"])
    np.testing.assert_allclose(dataset.durations(), [0.701, 0.7])
    with pytest.raises(DataError, match=r"row 'r0' \(.*0\.wav\): 0\.7010 s of audio, the model reads 0\.7 s at most"):
        dataset[0]
    assert dataset[1].duration == 0.7


@pytest.mark.parametrize("max_duration", [None, 30.0])
def test_fixed_duration(manifest: Path, max_duration: float | None) -> None:
    """Every clip costs the same, none is slowed down beyond it, and a longer one is refused before training."""
    processor = FakeProcessor()
    processor.fixed_duration = 0.8
    settings = AugmentSettings(speed=(0.5, 0.9, 0.997))
    dataset = SpeechTranslationDataset(manifest, processor, settings, fields=["speech"], max_duration=max_duration)
    np.testing.assert_array_equal(dataset.costs(), [0.8] * 6)
    seen = set()
    for epoch in range(8):
        dataset.set_epoch(epoch)
        durations = [dataset[index].duration for index in range(6)]
        assert all(duration is not None and duration <= 0.8 for duration in durations)
        assert durations[5] == 0.8  # its own speed: every factor would make it longer
        seen.add(durations[0])
    assert seen == {0.6, 5333 / 16_000, 4814 / 16_000}
    processor.fixed_duration = 0.75
    with pytest.raises(DataError, match="row 'r5' has 0.80 s of audio, the model reads 0.75 s at most"):
        SpeechTranslationDataset(manifest, processor, settings, fields=["speech"], max_duration=max_duration)


MIXED = ("speech", "masked_transcript")
# Ten positions a second and 15 of them: row n has 0.3 + 0.1 n s and a transcript of 2 + 5 (n + 1) tokens.
ROOM = MixedLimit(alone=1.5, per_token=0.1)
NO_ROOM = "0.40 s of audio and a transcript of 12 tokens, beside which the text encoder has positions for 0.30 s"


def mixed(manifest: Path, **arguments: Any) -> SpeechTranslationDataset:
    arguments = {"max_duration": 1.5, "mixed": ROOM, "fields": MIXED, **arguments}
    return SpeechTranslationDataset(manifest, FakeProcessor(), **arguments)


def test_clips_without_room_beside_their_transcripts(tmp_path: Path) -> None:
    write_manifest(rows_of(tmp_path), tmp_path / "m.jsonl")
    with pytest.raises(
        DataError, match=rf"^5 rows \(first: 'r1', 'r2', 'r3'\) have {NO_ROOM}; cut .* mtp, stm and erm"
    ):
        mixed(tmp_path / "m.jsonl")
    mixed(tmp_path / "m.jsonl", mixed=None)
    mixed(tmp_path / "m.jsonl", mixed=MixedLimit(alone=4.0, per_token=0.1))
    # Many characters that are few tokens.
    write_manifest(rows_of(tmp_path, transcript=10 * "Donaudampfschiff"), tmp_path / "m.jsonl")
    mixed(tmp_path / "m.jsonl")


def test_clips_without_room_of_which_the_manifest_says_no_length(tmp_path: Path) -> None:
    """The header tells, before training; or what is decoded, where the header is wrong."""
    write_manifest(rows_of(tmp_path, duration=None), tmp_path / "m.jsonl")
    dataset = mixed(tmp_path / "m.jsonl")
    with pytest.raises(DataError, match=rf"^5 rows .* have {NO_ROOM}"):
        dataset.costs()
    write_manifest(rows_of(tmp_path, duration=0.1, transcript="zu lang " * 5), tmp_path / "m.jsonl")
    dataset = mixed(tmp_path / "m.jsonl")
    assert dataset[0].duration == pytest.approx(0.3)  # exactly the room that 12 tokens leave
    with pytest.raises(
        DataError, match=r"^row 'r1' \(.*1\.wav\): 0\.40 s of audio .* 12 tokens, beside which .* 0\.30 s"
    ):
        dataset[1]


def test_no_clip_is_slowed_down_beyond_the_room_beside_its_transcript(tmp_path: Path) -> None:
    write_manifest(rows_of(tmp_path, transcript="ja"), tmp_path / "m.jsonl")
    dataset = mixed(tmp_path / "m.jsonl", augment=AugmentSettings(speed=(0.8,)))
    durations = [dataset[row].duration for row in range(6)]
    assert durations == pytest.approx([0.375, 0.5, 0.625, 0.75, 0.875, 1.0])
    dataset = mixed(tmp_path / "m.jsonl", augment=AugmentSettings(speed=(0.8,)), mixed=MixedLimit(1.1, 0.1))
    durations = [dataset[row].duration for row in range(6)]
    assert durations == pytest.approx([0.375, 0.5, 0.625, 0.75, 0.7, 0.8])


@pytest.mark.parametrize("known", [True, False], ids=["manifest", "header"])
def test_rows_that_are_too_long_are_left_out_where_that_is_asked_for(known: bool, tmp_path: Path) -> None:
    rows = rows_of(tmp_path, transcript="ja", **({} if known else {"duration": None}))
    rows[1]["transcript"] = "ja " * 60
    rows[2]["source_language"] = "en"
    write_manifest(rows, tmp_path / "m.jsonl")
    whole = mixed(tmp_path / "m.jsonl", mixed=None)
    arguments: dict[str, Any] = {"teacher": [f"teacher of {number}" for number in range(6)], "too_long": "leave_out"}
    dataset = mixed(tmp_path / "m.jsonl", mixed=MixedLimit(6.5, 0.1), max_duration=0.65, **arguments)
    assert [dataset[number].id for number in range(len(dataset))] == ["r0", "r2", "r3"]
    assert [dataset[number].teacher for number in range(3)] == ["teacher of 0", "teacher of 2", "teacher of 3"]
    assert (dataset.left_out, whole.left_out) == (["r1", "r4", "r5"], [])
    assert dataset.costs() == pytest.approx([0.3, 0.5, 0.6], abs=1e-3)
    assert dataset.source_languages().tolist() == [0, 1, 0]
    np.testing.assert_array_equal(dataset[1].features, whole[2].features)
    assert mixed(tmp_path / "m.jsonl", mixed=MixedLimit(6.5, 0.1), max_duration=2.0, **arguments).left_out == ["r1"]
    # As strict as when the clip is read, so that no row stays that would end the training.
    strict = mixed(tmp_path / "m.jsonl", mixed=None, max_duration=0.699, **arguments)
    assert strict.left_out == ["r4", "r5"]
    with pytest.raises(DataError, match=r"^6 rows .* that leaves no row at all"):
        mixed(tmp_path / "m.jsonl", mixed=MixedLimit(0.2, 0.1), **arguments)


def test_clips_that_are_too_short_are_named_where_long_ones_are_left_out(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, duration=None)
    write_sound(tmp_path / "0.wav", tone(0.005), subtype="FLOAT")
    write_manifest(rows, tmp_path / "m.jsonl")
    arguments: dict[str, Any] = {"fields": ["speech"], "too_long": "leave_out"}
    with pytest.raises(DataError, match=r"^row 'r0' has 5 ms of audio"):
        SpeechTranslationDataset(tmp_path / "m.jsonl", FakeProcessor(), max_duration=0.65, **arguments)
    for wrong in ({"too_long": "leave-out"}, {"fields": None}):
        with pytest.raises(ValueError, match="too_long is one of error, leave_out"):
            SpeechTranslationDataset(tmp_path / "m.jsonl", FakeProcessor(), **(arguments | wrong))


def test_a_fixed_duration_is_what_stands_beside_the_transcript(tmp_path: Path) -> None:
    write_manifest(rows_of(tmp_path, duration=None), tmp_path / "m.jsonl")
    processor = FakeProcessor()
    processor.fixed_duration = 0.8
    arguments: dict[str, Any] = {"fields": MIXED, "max_duration": 1.5, "mixed": ROOM}
    with pytest.raises(
        DataError, match=r"^5 rows \(first: 'r1', .* have 0\.80 s of audio and a transcript of 12 tokens"
    ):
        SpeechTranslationDataset(tmp_path / "m.jsonl", processor, **arguments)
    dataset = SpeechTranslationDataset(tmp_path / "m.jsonl", processor, too_long="leave_out", **arguments)
    assert (len(dataset), dataset.left_out) == (1, ["r1", "r2", "r3", "r4", "r5"])
    processor.fixed_duration = 1.6
    with pytest.raises(
        UsageError, match="fixed duration of 1.6 s, .* longer than the 1.5 s that the model reads at most"
    ):
        SpeechTranslationDataset(tmp_path / "m.jsonl", processor, **arguments)


def test_no_clip_costs_more_than_the_longest_the_model_reads(manifest: Path) -> None:
    processor = FakeProcessor(max_duration=0.8)
    dataset = SpeechTranslationDataset(manifest, processor, AugmentSettings(speed=(0.5,)), fields=["speech"])
    np.testing.assert_allclose(dataset.costs(), [0.6, 0.8, 0.8, 0.8, 0.8, 0.8])


@pytest.mark.parametrize("column", ["source_language", "target_language"])
def test_languages_that_the_model_lacks(tmp_path: Path, column: str) -> None:
    rows = rows_of(tmp_path)
    for number in (2, 4):
        rows[number][column] = "cy"
    write_manifest(rows, tmp_path / "m.jsonl")
    message = rf"2 rows \(first: 'r2', 'r4'\) have the {column} 'cy': the model has no 'cy', it has de, en; leave"
    with pytest.raises(DataError, match=message):
        SpeechTranslationDataset(tmp_path / "m.jsonl", FakeProcessor(), fields=["translation"])
    # Nothing reads the language of a translation that is not asked for.
    if column == "target_language":
        SpeechTranslationDataset(tmp_path / "m.jsonl", FakeProcessor(), fields=["speech", "transcript"])
    SpeechTranslationDataset(tmp_path / "m.jsonl", FakeProcessor(), fields=["ctc"])


def test_10_ms_is_an_error_that_says_so(tmp_path: Path) -> None:
    write_sound(tmp_path / "short.wav", tone(0.01))
    write_manifest([{**rows_of(tmp_path, 1)[0], "audio": "short.wav", "duration": None}], tmp_path / "m.jsonl")
    with pytest.raises(DataError, match=r"row 'r0' .*short.wav.*10 ms of audio, at least 25 ms are needed"):
        SpeechTranslationDataset(tmp_path / "m.jsonl", FakeProcessor())[0]


def test_durations_are_read_where_the_manifest_lacks_them(tmp_path: Path) -> None:
    rows = rows_of(tmp_path)
    rows[2]["duration"] = rows[3]["duration"] = None
    rows[3]["audio"] = None
    write_manifest(rows, tmp_path / "m.jsonl")
    dataset = SpeechTranslationDataset(tmp_path / "m.jsonl", FakeProcessor())
    np.testing.assert_allclose(dataset.durations(), [0.3, 0.4, 0.5, np.nan, 0.7, 0.8])


def test_costs(manifest: Path) -> None:
    processor = FakeProcessor()
    speech = SpeechTranslationDataset(manifest, processor, AugmentSettings(speed=(0.8, 1.1)), fields=["speech"])
    np.testing.assert_allclose(speech.costs(), np.array([0.3, 0.4, 0.5, 0.6, 0.7, 0.8]) / 0.8)
    text = SpeechTranslationDataset(manifest, processor, fields=["translation"])
    np.testing.assert_array_equal(text.costs(), [14 * number for number in range(1, 7)])
    both = SpeechTranslationDataset(manifest, processor, fields=["translation", "transcript"])
    np.testing.assert_array_equal(both.costs(), [26 * number for number in range(1, 7)])
    assert speech.source_languages().tolist() == [0] * 6


def test_planning_reads_columns_and_not_a_single_row(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million rows as Python objects would take a minute, and a gigabyte."""
    read = []
    monkeypatch.setattr(datasets.Dataset, "__getitem__", lambda self, key: read.append(key))
    dataset = SpeechTranslationDataset(manifest, FakeProcessor(), fields=ALL, mixed=MixedLimit(30.0, 0.08))
    languages = dataset.source_languages()
    next(iter(BucketBatchSampler(dataset.costs(), 1.6, languages=languages, temperature=2.0)))
    assert read == []
    dataset.manifest[0]
    assert read == [0]


def test_languages_are_numbered_in_the_order_of_their_codes(tmp_path: Path) -> None:
    rows = [
        {**row, "source_language": code} for row, code in zip(rows_of(tmp_path, 3), ("fr", "cy", "fr"), strict=True)
    ]
    write_manifest(rows, tmp_path / "m.jsonl")
    dataset = SpeechTranslationDataset(tmp_path / "m.jsonl", FakeProcessor(), fields=["ctc"])
    assert dataset.source_languages().tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("workers", "start"), [(0, "none"), (1, "fork"), pytest.param(1, "spawn", marks=pytest.mark.slow)]
)
def test_bad_audio_is_one_line_that_names_row_and_file(manifest: Path, workers: int, start: str) -> None:
    bad = manifest.parent / "3.wav"
    bad.write_text("not audio")
    dataset = SpeechTranslationDataset(manifest, FakeProcessor(), fields=["speech"])
    loader = DataLoader(
        dataset,
        collate_fn=Collator(FakeProcessor(), ["speech"]),
        num_workers=workers,
        multiprocessing_context=multiprocessing.get_context(start) if workers else None,
    )
    with pytest.raises(DataError) as error:
        list(loader)
    assert str(error.value).startswith(f"row 'r3': {bad}: not an audio file")
    assert "\n" not in str(error.value)
    assert str(error.value).count(str(bad)) == 1


def test_bytes(tmp_path: Path) -> None:
    [row] = rows_of(tmp_path, 1)
    write_manifest([{**row, "audio": (tmp_path / "0.wav").read_bytes(), "duration": None}], tmp_path / "m.parquet")
    dataset = SpeechTranslationDataset(tmp_path / "m.parquet", FakeProcessor(), fields=["speech"])
    assert dataset[0].duration == pytest.approx(0.3)
    np.testing.assert_allclose(dataset.durations(), [0.3])


def test_spec_augment_needs_spectral_features(manifest: Path) -> None:
    settings = AugmentSettings(time_masks=1)
    with pytest.raises(UsageError, match="reads the waveform itself: leave them out .augment.speed and augment.noise"):
        SpeechTranslationDataset(manifest, FakeProcessor("waveform"), settings)


def test_time_masks_cover_time_whichever_axis_it_is(manifest: Path) -> None:
    """Whisper's features are [bands, frames], those of wav2vec2-BERT [frames, bands]."""
    settings = AugmentSettings(time_masks=1, time_mask_frames=10, time_mask_share=0.5)
    for kind, bands in (("whisper", 0), ("filterbank", 1)):
        plain = SpeechTranslationDataset(manifest, FakeProcessor(kind), fields=["speech"])
        masked = SpeechTranslationDataset(manifest, FakeProcessor(kind), settings, fields=["speech"])
        changed = [masked[row].features != plain[row].features for row in range(6)]
        if kind == "filterbank":  # two frames of 10 ms stand in a row
            changed = [mask.reshape(-1, 80) for mask in changed]
        covered = [mask.all(axis=bands).sum() for mask in changed]
        assert 0 < max(covered) <= 10
        assert covered == [mask.any(axis=bands).sum() for mask in changed]  # no frame in part


def test_unknown_fields(manifest: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown fields \['speach'\]"):
        SpeechTranslationDataset(manifest, FakeProcessor(), fields=["speach"])
