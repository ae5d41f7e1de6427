"""The batches of a stage, and the parts that it makes itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from comsl.data.dataset import MixedLimit
from comsl.data.errors import DataError
from comsl.data.manifest import load_manifest, write_manifest
from comsl.errors import ComSLError
from comsl.model import compose, load_model
from comsl.objectives import ObjectiveSet
from comsl.training.configuration import ComposeConfiguration, NewPartConfiguration
from comsl.training.data import longest_clip, stage_data, text_encoder_limit
from comsl.training.new_parts import NEW, named_or_new
from comsl.training.run import build_trainer, set_dropout, starting_model, train
from comsl.training.trainer import TrainingData
from tests import tiny
from tests.training.world import build_world, stage


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "comsl"
    tiny.tiny_comsl(path)
    return path


def batches(world: Path, accumulated: int, rank: int, world_size: int, training: bool = True) -> TrainingData:
    settings = stage(
        world, world / "run", data__max_batch_size=2, training__gradient_accumulation_steps=accumulated, seed=3
    )
    return stage_data(
        load_manifest(world / "train.jsonl"),
        None,
        {"transcript"},
        settings,
        max_duration=None,
        mixed=None,
        training=training,
        rank=rank,
        world_size=world_size,
    )


def steps(world: Path, accumulated: int, world_size: int, epoch: int) -> list[list[int]]:
    """The rows of every step, over all ranks."""
    ranks = []
    for rank in range(world_size):
        data = batches(world, accumulated, rank, world_size)
        data.set_epoch(epoch)
        ranks.append(list(data.sampler))
    size = accumulated
    return [
        sorted(row for taken in ranks for batch in taken[start : start + size] for row in batch)
        for start in range(0, len(ranks[0]), size)
    ]


@pytest.mark.parametrize(("world_size", "accumulated"), [(1, 3), (2, 2), (3, 1)])
def test_no_epoch_ends_in_a_part_of_a_step(world: Path, world_size: int, accumulated: int) -> None:
    for rank in range(world_size):
        assert len(batches(world, accumulated, rank, world_size).sampler) % accumulated == 0


def test_the_global_batch_does_not_depend_on_how_it_is_split(world: Path) -> None:
    """Two ranks see what one with twice the accumulation sees, in every epoch."""
    for epoch in range(3):
        expected = steps(world, 4, 1, epoch)
        assert steps(world, 2, 2, epoch) == expected
        assert steps(world, 1, 4, epoch) == expected
        assert sorted(row for step in expected for row in step) == list(range(9))


def test_the_development_set_is_not_filled_up(world: Path) -> None:
    assert len(batches(world, 4, 0, 1, training=False).sampler) == 5  # nine rows, two a batch


def test_temperature_reaches_the_batches(world: Path, tmp_path: Path) -> None:
    """A hundred means equal shares: one German row, eight Welsh ones, and German is half of every epoch."""
    rows = [dict(row) for row in load_manifest(world / "train.jsonl")]
    for number, row in enumerate(rows):
        row |= {"source_language": "cy" if number else "de", "audio": str(world / f"{number}.wav")}
    write_manifest(rows, tmp_path / "two.jsonl")
    settings = stage(
        world,
        tmp_path / "run",
        objectives={"asr": {}},
        data__train=str(tmp_path / "two.jsonl"),
        data__dev=None,
        data__temperature=100.0,
        data__max_batch_size=3,
        training__max_steps=3,
    )
    made = build_trainer(settings, ObjectiveSet(settings.objectives))
    drawn = [row for batch in made.data.sampler for row in batch]
    assert len(drawn) == 9
    assert drawn.count(0) in (4, 5)
    assert train(settings).steps == 3


def test_no_clip_is_longer_than_the_fixed_duration(world: Path, tmp_path: Path) -> None:
    settings = stage(world, tmp_path, compose__fixed_duration=0.8, data__dev=None)
    with pytest.raises(ComSLError, match=r"2 rows .*row-3.*row-7.*0\.90 s of audio.*0\.8 s at most"):
        build_trainer(settings, ObjectiveSet(settings.objectives))
    longer = stage(world, tmp_path, compose__fixed_duration=1.0)
    made = build_trainer(longer, ObjectiveSet(longer.objectives))
    assert made.data.dataset.max_duration == 1.0  # type: ignore[attr-defined]


@pytest.mark.parametrize("strides", [(2, 2), (2, 1), (3, 2), (1,)])
@pytest.mark.parametrize("family", ["whisper", "wav2vec2", "hubert", "wav2vec2_bert"])
def test_the_text_encoders_limit_is_exact(world: Path, tmp_path: Path, family: str, strides: tuple[int, ...]) -> None:
    """A clip of the limit fits and one sample more does not, whatever stands before it."""
    speech = getattr(tiny, f"tiny_{family}")(tmp_path / "speech")
    model, processor = compose(speech, world / "text", adapter_strides=strides)
    limit = text_encoder_limit(model, processor)
    assert limit is not None

    def positions(samples: int) -> int:
        batch = processor.pad_features([processor.features(torch.zeros(samples).numpy() + 0.1)])
        with torch.no_grad():
            frames, lengths = model.encode_speech(batch[model.main_input_name], batch["attention_mask"])
            return model.adapter(frames, lengths)[0].shape[1] + 1

    for tokens in (0, 1, 50, 101):
        samples = round(limit.beside(tokens) * 16_000)
        assert tokens + positions(samples) == 128
        assert tokens + positions(samples + 1) == 129


def test_the_limit_of_the_published_sizes(tmp_path: Path) -> None:
    """1,024 positions, one of them the language, at 12.5 frames a second; and of Whisper's 30 seconds none less."""
    parts = tiny.tiny_whisper(tmp_path / "speech"), tiny.tiny_mbart50(tmp_path / "text", max_position_embeddings=1024)
    model, processor = compose(*parts)
    limit = text_encoder_limit(model, processor)
    assert limit == MixedLimit(alone=1023 / 12.5, per_token=0.08)
    assert longest_clip(model, limit) == 30.0
    assert longest_clip(model, None) == 30.0


def too_small(world: Path, output: Path, **changes: Any) -> Any:
    """A text model of 20 positions: 19 frames are 0.76 s, which four of the nine rows exceed."""
    text = output / "text"
    tiny.tiny_mbart50(text, max_position_embeddings=20)
    return stage(world, output, **{"compose__text": str(text), "compose__adapter_strides": [2, 1], **changes})


def without_durations(world: Path, path: Path) -> str:
    rows = [dict(row) | {"duration": None} for row in load_manifest(world / "train.jsonl")]
    write_manifest(rows, path)
    return str(path)


@pytest.mark.parametrize("known", [True, False])
def test_clips_that_the_text_encoder_cannot_hold_are_named_before_training(
    world: Path, tmp_path: Path, known: bool
) -> None:
    changes = {} if known else {"data__train": without_durations(world, tmp_path / "m.jsonl")}
    settings = too_small(world, tmp_path, objectives={"st": {}}, data__dev=None, **changes)
    message = r"^4 rows \(first: 'row-2', 'row-3', 'row-6'\) have 0\.80 s of audio, the model reads 0\.76 s at most"
    with pytest.raises(DataError, match=message):
        build_trainer(settings, ObjectiveSet(settings.objectives))


def test_clips_that_are_too_long_are_left_out_and_written_down(world: Path, tmp_path: Path, capfd) -> None:
    settings = too_small(
        world, tmp_path, objectives={"st": {}}, data__dev=None, data__too_long="leave_out", training__max_steps=2
    )
    result = train(settings)
    left_out = json.loads((result.output_dir / "run.json").read_text())["left_out"]
    assert left_out[:3] == ["row-2", "row-3", "row-6"]
    assert len(left_out) == 4
    assert "left out: 4 of 9 training rows, longer than the model reads (row-2, row-3, row-6, ...; all in" in (
        capfd.readouterr().err
    )


def test_ctc_alone_reads_what_the_text_encoder_cannot_hold(world: Path, tmp_path: Path) -> None:
    settings = too_small(
        world, tmp_path, objectives={"ctc": {}}, compose__ctc_vocabulary="auto", training__max_steps=2, data__dev=None
    )
    assert train(settings).steps == 2


@pytest.mark.parametrize("known", [True, False])
def test_clips_without_room_beside_their_transcripts_are_named_before_training(
    world: Path, tmp_path: Path, known: bool
) -> None:
    """Only where an objective has them read together."""
    changes = {} if known else {"data__train": without_durations(world, tmp_path / "m.jsonl")}
    changes |= {"compose__adapter_strides": [2, 2], "data__dev": None, "training__max_steps": 2}
    settings = too_small(world, tmp_path, objectives={"mtp": {}, "st": {}}, **changes)
    message = r"'row-\d'.* (has|have) 0\.\d0 s of audio and a transcript of \d+ tokens, beside which .* switch off mtp"
    with pytest.raises(DataError, match=message):
        build_trainer(settings, ObjectiveSet(settings.objectives))
    assert train(too_small(world, tmp_path, objectives={"st": {}}, **changes)).steps == 2


def test_development_clips_that_only_generation_reads_are_checked_too(world: Path, tmp_path: Path) -> None:
    """The text model alone is trained, and speech translation evaluated."""
    settings = too_small(world, tmp_path, objectives={"mt": {"teacher_share": 0}}, evaluation__task="st")
    with pytest.raises(
        DataError, match=r"^2 rows \(first: 'row-10', 'row-11'\) have 0\.80 s of audio, .* 0\.76 s at most"
    ):
        build_trainer(settings, ObjectiveSet(settings.objectives))


def test_new_parts_are_the_same_at_every_start(world: Path, tmp_path: Path) -> None:
    """A resumed run makes them again; another vocabulary would read its checkpoints as nonsense."""
    size = NewPartConfiguration(width=16, encoder_layers=1, decoder_layers=1, heads=2, vocabulary=34)
    parts = ComposeConfiguration(speech=NEW, text=NEW, new_speech=size, new_text=size)
    made: list[dict[str, bytes]] = []
    for number in range(2):
        torch.rand(number)
        folders = named_or_new(parts, str(world / "train.jsonl"), 5, tmp_path / str(number))
        files = [file for folder in folders for file in sorted(Path(folder).iterdir())]
        made.append({f"{file.parent.name}/{file.name}": file.read_bytes() for file in files})
    assert {"text/model.safetensors", "text/sentencepiece.bpe.model", "speech/model.safetensors"} <= made[0].keys()
    assert made[0] == made[1]
    other = named_or_new(parts, str(world / "train.jsonl"), 6, tmp_path / "other")[1]
    assert Path(other, "model.safetensors").read_bytes() != made[0]["text/model.safetensors"]
    assert Path(other, "sentencepiece.bpe.model").read_bytes() == made[0]["text/sentencepiece.bpe.model"]


def dropouts(model: Any) -> dict[str, float]:
    """Every dropout that any module holds, as a number or as a module."""
    found = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if "dropout" in key and isinstance(value, (int, float)):
                found[f"{name}.{key}"] = float(value)
        if isinstance(module, torch.nn.Dropout):
            found[name] = module.p
    return found


@pytest.mark.parametrize("text", ["mbart", "m2m_100"])
def test_dropout_is_set_as_if_the_model_had_been_built_with_it(world: Path, tmp_path: Path, text: str) -> None:
    path = world / "text" if text == "mbart" else tiny.tiny_m2m100(tmp_path / "text")
    settings = stage(world, tmp_path, compose={"speech": str(world / "speech"), "text": str(path)})
    model, _ = starting_model(settings)
    before = dropouts(model)
    settings.dropout, settings.adapter_dropout = 0.3, 0.25
    model, _ = starting_model(settings)
    after = dropouts(model)
    assert after == dropouts(type(model)(model.config))
    changed = {name for name in after if after[name] != before[name]}
    assert {name: after[name] for name in changed} == {
        name: 0.25 if name.startswith("adapter") else 0.3 for name in changed
    }
    # Both halves of the text model with their embeddings, all layers of both, and the adapter; not the speech encoder.
    assert len([name for name in changed if name.startswith("text_model")]) == 2 + 3 + 2
    assert len([name for name in changed if name.startswith("adapter")]) == 2
    assert len(changed) == 9


def test_dropout_is_saved_with_the_model(model: Path, tmp_path: Path) -> None:
    made, _ = load_model(model)
    before = made.config.to_dict()
    set_dropout(made, None, None)
    assert made.config.to_dict() == before
    set_dropout(made, 0.4, 0.2)
    made.save_pretrained(tmp_path)
    loaded = type(made).from_pretrained(tmp_path)
    assert loaded.config.text_config.dropout == 0.4
    assert loaded.text_decoder.layers[0].dropout == 0.4
    assert loaded.adapter.layers[0].dropout.p == 0.2
