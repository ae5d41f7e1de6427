"""The cached teacher: what is on disk, when it is written, and that training with it is training with the live one."""

from __future__ import annotations

import contextlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from comsl.data.errors import DataError
from comsl.data.manifest import load_manifest, write_manifest
from comsl.data.teacher import TeacherCache
from comsl.errors import UsageError
from comsl.evaluation.curves import read_log
from comsl.model.loading import load_text_part
from comsl.objectives import ObjectiveSet
from comsl.training import teacher as teachers
from comsl.training.run import build_trainer, starting_model, train
from comsl.training.teacher import CachedTeacher, load_teacher
from tests.tiny import tiny_mbart50
from tests.training.processes import in_child, kill_self, together
from tests.training.world import OBJECTIVES, build_world, stage

ALL = 10_000
"""More tokens than any tiny vocabulary has."""
SHORT: dict[str, Any] = {"training__max_steps": 2, "training__eval_steps": 2, "evaluation__task": "loss"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With another text model, ``teacher``, of the same vocabulary."""
    root = build_world(tmp_path_factory.mktemp("world"))
    tiny_mbart50(root / "teacher", seed=5)
    return root


def cached(world: Path, output: Path, top_k: int = 4, **changes: Any) -> Any:
    cache = {"top_k": top_k, "folder": changes.pop("folder", None)}
    return stage(world, output, **(SHORT | {"teacher_cache": cache} | changes))


def named(world: Path, teacher: str) -> dict[str, Any]:
    """A model of the text part's own vocabulary, and a teacher by name."""
    parts = {"speech": str(world / "speech"), "text": str(world / "text"), "new_languages": {}}
    return {"compose": parts, "teacher": str(world / teacher)}


def caches(settings: Any, **changes: Any) -> CachedTeacher:
    model, processor = starting_model(settings)
    objectives = ObjectiveSet(settings.objectives)

    def load() -> Any:
        return load_teacher(settings, objectives, model, processor)

    return CachedTeacher(settings, load, model, processor, torch.device("cpu"), **changes)


def losses(run: Path) -> list[dict[str, float]]:
    names = ("loss", "mt_teacher", "dev_loss", "dev_mt_teacher", "grad_norm")
    return [{name: record[name] for name in names if name in record} for record in read_log(run / "train_log.jsonl")]


def test_what_is_on_disk(world: Path, tmp_path: Path) -> None:
    """Row by row against the text model's own forward, alone and without padding."""
    settings = cached(world, tmp_path / "run", **named(world, "teacher"))
    made = caches(settings)
    rows = load_manifest(world / "train.jsonl")
    cache = made.of(rows, "training")
    teacher, _ = load_text_part(world / "teacher", torch.float32)
    teacher.eval()
    for number, row in enumerate(rows):
        source = made.processor.source_ids(row["transcript"], row["source_language"])
        inputs, labels = made.processor.target_ids(row["translation"], row["target_language"])
        with torch.no_grad():
            logits = teacher(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([inputs])).logits[0, 1:]
        expected = logits.softmax(-1).topk(4)
        tokens, probabilities = cache[number]
        assert len(tokens) == len(labels) - 1
        np.testing.assert_allclose(probabilities, expected.values.numpy(), rtol=1e-4)
        assert (tokens == expected.indices.numpy()).all()
    record = cache.record
    assert record["rows"] == 9
    assert record["positions"] == sum(len(made.processor.token_ids(row["translation"])) + 1 for row in rows)
    assert record["bytes"] == record["positions"] * 4 * 8 + 10 * 8


def test_all_tokens_cached_train_like_the_live_teacher(world: Path, tmp_path: Path) -> None:
    train(stage(world, tmp_path / "live", **SHORT))
    train(cached(world, tmp_path / "cached", ALL))
    live, ours = losses(tmp_path / "live"), losses(tmp_path / "cached")
    assert len(live) == len(ours) == 3  # two steps and a development set
    for expected, found in zip(live, ours, strict=True):
        assert found == pytest.approx(expected, rel=1e-5)
        name = "mt_teacher" if "mt_teacher" in found else "dev_mt_teacher"
        assert found[name] == pytest.approx(expected[name], abs=1e-5)


def test_the_difference_is_reported_on_a_fixed_batch(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = load_manifest(world / "train.jsonl")
    fixed = {}
    for top_k in (1, 8, ALL):
        made = caches(cached(world, tmp_path / str(top_k), top_k))
        fixed[top_k] = made.of(rows, "training").record["fixed_batch"]
    assert "difference" in capsys.readouterr().err
    # The model is its own teacher: the live loss is the entropy of its distributions.
    total, count = 0.0, 0
    for row in rows:
        ids = made.processor.source_ids(row["transcript"], row["source_language"])
        inputs, _ = made.processor.target_ids(row["translation"], row["target_language"])
        with torch.no_grad():
            logits = made.model.text_model(
                input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([inputs])
            ).logits
        probs = logits[0, 1:].softmax(-1)
        total, count = total + float(F.cross_entropy(logits[0, 1:], probs, reduction="sum")), count + len(probs)
    assert fixed[ALL]["live"] == pytest.approx(total / count, rel=1e-5)
    assert fixed[ALL]["cached"] == pytest.approx(fixed[ALL]["live"], abs=1e-6)
    # The fewer tokens, the less of the loss is seen, and never more than there is.
    assert 0 < fixed[1]["cached"] < fixed[8]["cached"] < fixed[8]["live"]


def test_a_second_start_neither_writes_nor_loads_the_teacher(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = str(tmp_path / "shared")
    train(cached(world, tmp_path / "first", folder=shared, **named(world, "teacher")))
    before = {path: path.stat().st_mtime_ns for path in Path(shared).rglob("*")}
    assert sum(path.name == "teacher.json" for path in before) == 2  # training and development
    monkeypatch.setattr(teachers, "load_text_part", lambda *_: pytest.fail("the teacher was loaded"))
    train(cached(world, tmp_path / "second", folder=shared, **named(world, "teacher")))
    assert {path: path.stat().st_mtime_ns for path in Path(shared).rglob("*")} == before
    assert losses(tmp_path / "second") == losses(tmp_path / "first")


def test_no_step_holds_the_teacher(world: Path, tmp_path: Path) -> None:
    settings = cached(world, tmp_path)
    trainer = build_trainer(settings, ObjectiveSet(settings.objectives))
    assert trainer.joint.teacher is None
    live = build_trainer(stage(world, tmp_path / "live"), ObjectiveSet(settings.objectives))
    assert live.joint.teacher is not None


def test_a_cache_belongs_to_weights_texts_and_number_of_tokens(world: Path, tmp_path: Path) -> None:
    rows = load_manifest(world / "train.jsonl")
    other = [
        {**row, "translation": "the old man" if number == 3 else row["translation"]} for number, row in enumerate(rows)
    ]
    write_manifest(other, tmp_path / "other.jsonl")
    keys = [
        caches(cached(world, tmp_path))._key(rows),
        caches(cached(world, tmp_path, seed=0, data__num_workers=1))._key(rows),  # the same
        caches(cached(world, tmp_path, 5))._key(rows),
        caches(cached(world, tmp_path))._key(load_manifest(tmp_path / "other.jsonl")),
        caches(cached(world, tmp_path, **named(world, "text")))._key(rows),
        caches(cached(world, tmp_path, **named(world, "teacher")))._key(rows),
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 5


def of_one_rank(rank: int, world_size: int, root: str, output: str) -> None:
    from accelerate import PartialState

    PartialState(cpu=True)
    settings = cached(Path(root), Path(output))
    caches(settings).of(load_manifest(Path(root) / "train.jsonl"), "training")


def test_two_processes_write_what_one_does(world: Path, tmp_path: Path) -> None:
    caches(cached(world, tmp_path / "one")).of(load_manifest(world / "train.jsonl"), "training")
    assert together(of_one_rank, 2, str(world), str(tmp_path / "two")) == [0, 0]
    (one,), (two,) = ((tmp_path / name / "teacher").iterdir() for name in ("one", "two"))
    assert one.name == two.name
    for row in range(9):
        for ours, theirs in zip(TeacherCache(one)[row], TeacherCache(two)[row], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def killed_while_writing(root: str, output: str) -> None:
    made = caches(cached(Path(root), Path(output)))
    made._top = lambda *_: kill_self()  # type: ignore[method-assign]
    made.of(load_manifest(Path(root) / "train.jsonl"), "training")


def test_what_was_half_written_is_written_again(world: Path, tmp_path: Path) -> None:
    assert in_child(killed_while_writing, str(world), str(tmp_path)) == -9
    (left,) = (tmp_path / "teacher").iterdir()
    assert not (left / "teacher.json").exists()
    cache = caches(cached(world, tmp_path)).of(load_manifest(world / "train.jsonl"), "training")
    assert list((tmp_path / "teacher").iterdir()) == [cache.folder]
    tokens, probabilities = cache[0]
    assert (np.diff(probabilities, axis=1) <= 0).all()
    assert (probabilities.sum(1) > 0).all()
    assert len(set(tokens[0].tolist())) == 4


@pytest.mark.parametrize("ends", ["killed", "finished first"])
def test_two_runs_write_the_same_cache_at_the_same_time(world: Path, tmp_path: Path, ends: str) -> None:
    """The second run begins between two batches of the first one, and gets stuck there or is done before it."""
    rows = load_manifest(world / "train.jsonl")
    first, second = (
        caches(cached(world, tmp_path / name, folder=str(tmp_path / "shared"), data__max_batch_size=3)) for name in "ab"
    )
    top = first._top
    batches = itertools.count()

    def interleaved(*args: Any) -> Any:
        if next(batches) == 2:
            with contextlib.suppress(InterruptedError):
                second.of(rows, "training")
        return top(*args)

    def stuck(*_: Any) -> Any:
        raise InterruptedError

    first._top = interleaved  # type: ignore[method-assign]
    if ends == "killed":
        second._top = stuck  # type: ignore[method-assign]
    cache = first.of(rows, "training")
    expected = caches(cached(world, tmp_path / "alone", data__max_batch_size=3)).of(rows, "training")
    for row in range(9):
        for ours, theirs in zip(cache[row], expected[row], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert second.of(rows, "training").folder == cache.folder
    assert list((tmp_path / "shared").iterdir()) == [cache.folder]


def test_a_damaged_cache_is_named(world: Path, tmp_path: Path) -> None:
    settings = cached(world, tmp_path)
    trainer = build_trainer(settings, ObjectiveSet(settings.objectives))
    (folder,) = {
        path.parent
        for path in (tmp_path / "teacher").rglob("teacher.json")
        if json.loads(path.read_text())["rows"] == 9
    }
    offsets = np.load(folder / "offsets.npy")
    np.save(folder / "offsets.npy", np.minimum(offsets, offsets[-1] - 1))
    with pytest.raises(DataError, match="row 'row-8'.*cached teacher"):
        for _ in trainer.get_train_dataloader():
            pass


def test_wrong_settings(world: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="teacher_cache.top_k: must be at least 1, got 0"):
        cached(world, tmp_path, 0)
    # Without an objective that reads the teacher nothing is written.
    objectives = {"st": {}, "mt": {"teacher_share": 0}}
    assert OBJECTIVES["mt"]["teacher_share"]
    train(cached(world, tmp_path / "run", objectives=objectives))
    assert not (tmp_path / "run" / "teacher").exists()
