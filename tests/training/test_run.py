"""Whole stages on tiny models: composed, trained, killed, resumed, finished."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoTokenizer

from comsl.errors import ComSLError, UsageError
from comsl.evaluation.curves import read_log
from comsl.inference.clips import prepare_clip
from comsl.inference.decode import DecodingOptions, decode_speech
from comsl.model import load_model
from comsl.objectives import ObjectiveSet
from comsl.training import run as stages
from comsl.training.checkpoints import CheckpointError, CheckpointFolder
from comsl.training.run import build_trainer, train
from tests.tiny import tiny_m2m100, tiny_mbart50
from tests.training.processes import CONTEXT, in_child, together
from tests.training.world import build_world, stage

RATES = ("seconds", "speech_hours_per_hour", "tokens_per_second")
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def joint_run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished joint run."""
    output = tmp_path_factory.mktemp("runs") / "joint"
    assert train(stage(world, output)).steps == 6
    return output


def logged(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k not in RATES} for record in read_log(run / "train_log.jsonl")]


def final(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def test_a_run_directory(world: Path, joint_run: Path) -> None:
    for name in ("config.yaml", "run.json", "train_log.jsonl", "curves.png", "tensorboard", "checkpoints"):
        assert (joint_run / name).exists(), name
    assert yaml.safe_load((joint_run / "config.yaml").read_text())["optimizer"]["betas"] == [0.9, 0.98]
    record = json.loads((joint_run / "run.json").read_text())
    assert record["finished"]
    assert record["seed"] == 0
    assert record["starts"][0]["versions"]["torch"] == torch.__version__
    assert (record["development"]["metric"], record["development"]["rows"]) == ("bleu", 3)
    assert record["development"]["directions"]["de-en"]["signature"].startswith("nrefs:1|")
    model, processor = load_model(joint_run)
    assert model.config.translation_targets == ["en"]
    clips = [prepare_clip(torch.sin(torch.arange(8000) / 20).numpy(), processor)]
    (hypothesis,) = decode_speech(model, processor, clips, "de", "en", options=DecodingOptions(max_new_tokens=3))
    assert len(hypothesis.tokens) <= 3
    names = {name for record in logged(joint_run) for name in record}
    assert {"asr", "st", "mt", "mt_teacher", "mtp", "erm", "dev_loss", "dev_bleu"} <= names
    assert {"transcript_unknown", "translation_unknown", "dev_translation_unknown"} <= names


def test_the_final_model_is_the_best_checkpoint(joint_run: Path) -> None:
    result = json.loads((joint_run / "run.json").read_text())["result"]
    best = CheckpointFolder(joint_run).at(result["best_step"])
    assert best is not None
    assert result["averaged"] == [best.step]
    for name, tensor in load_file(best.path / "model.safetensors").items():
        assert torch.equal(final(joint_run)[name], tensor)


def test_a_finished_run_does_nothing(world: Path, joint_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in joint_run.rglob("*")}
    result = train(stage(world, joint_run))
    assert result.already_finished
    assert result.steps == 6
    assert {path: path.stat().st_mtime_ns for path in joint_run.rglob("*")} == before


def test_a_run_that_never_began_holds_no_directory(world: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"optimizer\.warmup_steps"):
        train(stage(world, tmp_path, training__max_steps=1, optimizer__warmup_steps=1))
    settings = stage(world, tmp_path, training__max_steps=1, optimizer__warmup_steps=0)
    assert train(settings).steps == 1
    assert "warmup_steps: 0" in (tmp_path / "config.yaml").read_text()


def test_other_settings_in_the_same_directory_are_named(world: Path, joint_run: Path) -> None:
    changed = stage(world, joint_run, seed=1, optimizer__learning_rate=2e-3, data__num_workers=1)
    with pytest.raises(UsageError, match=r"optimizer.learning_rate \(was .*, is .*\); seed \(was 0, is 1\)") as caught:
        train(changed)
    assert "num_workers" not in str(caught.value)


def test_a_run_that_is_older_than_a_key_goes_on(world: Path, joint_run: Path, tmp_path: Path) -> None:
    """What there was no key for was done as its default says, and nothing else."""
    old = tmp_path / "old"
    shutil.copytree(joint_run, old)
    settings = yaml.safe_load((old / "config.yaml").read_text())
    del settings["data"]["too_long"], settings["lora"]
    (old / "config.yaml").write_text(yaml.safe_dump(settings))
    assert train(stage(world, old)).already_finished
    with pytest.raises(UsageError, match=r"data.too_long \(was 'error', is 'leave_out'\); use the same"):
        train(stage(world, old, data__too_long="leave_out"))


def test_a_directory_with_a_model_is_not_overwritten(world: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="holds a model that no run made"):
        train(stage(world, tmp_path))


def test_nothing_depends_on_the_start(world: Path, joint_run: Path, tmp_path: Path) -> None:
    """The same seed gives the same run, whatever happened in the process before."""
    torch.rand(10)
    train(stage(world, tmp_path))
    assert logged(tmp_path) == logged(joint_run)
    for name, tensor in final(joint_run).items():
        assert torch.equal(final(tmp_path)[name], tensor), name


def test_a_command_killed_from_outside(world: Path, joint_run: Path, tmp_path: Path) -> None:
    """SIGKILL from another process, once a checkpoint is there; then the same command again."""
    run = tmp_path / "run"
    settings = stage(world, run)
    process = CONTEXT.Process(target=train, args=(settings,))
    process.start()
    deadline = time.monotonic() + 120
    while not CheckpointFolder(run).complete() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (run / "model.safetensors").exists()
    assert in_child(train, settings) == 0
    assert logged(run) == logged(joint_run)
    for name, tensor in final(joint_run).items():
        assert torch.equal(final(run)[name], tensor), name
    assert len(json.loads((run / "run.json").read_text())["starts"]) == 2


def test_killed_while_finishing(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = stage(world, tmp_path, training__max_steps=2, training__average_last=2, training__save_steps=1)

    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stages, "average_checkpoints", stop)
        with pytest.raises(KeyboardInterrupt):
            train(settings)
    assert not (tmp_path / "model.safetensors").exists()
    result = train(settings)
    assert result.averaged == [1, 2]
    parts = [load_file(item.path / "model.safetensors") for item in CheckpointFolder(tmp_path).complete()]
    for name, tensor in final(tmp_path).items():
        mean = sum(part[name].double() for part in parts) / 2
        assert torch.equal(tensor, torch.as_tensor(mean).float()), name


def test_mt_stage_then_joint_stage_with_its_model_and_teacher(world: Path, tmp_path: Path) -> None:
    """Stage 1 needs no audio; stage 3 starts from its text model and is held near it."""
    first = stage(
        world,
        tmp_path / "mt",
        objectives={"mt": {"teacher_share": 0.0}},
        data__train=str(world / "text.jsonl"),
        data__max_batch_characters=80,
        training__max_steps=4,
    )
    result = train(first)
    assert result.metric == "bleu"
    before, _ = load_model_of_parts(first)
    after = final(tmp_path / "mt")
    assert all(torch.equal(after[n], p) for n, p in before.items() if n.startswith(("speech_encoder", "adapter")))
    assert not torch.equal(after["text_model.model.shared.weight"], before["text_model.model.shared.weight"])

    second = stage(
        world,
        tmp_path / "joint",
        compose={"speech": str(world / "speech"), "text": str(tmp_path / "mt")},
        teacher=str(tmp_path / "mt"),
        training__max_steps=2,
    )
    trainer = build_trainer(second, ObjectiveSet(second.objectives))
    teacher = trainer.joint.teacher
    assert not teacher.training
    assert torch.equal(teacher.state_dict()["model.shared.weight"], after["text_model.model.shared.weight"])
    assert train(second).steps == 2


def load_model_of_parts(configuration: Any) -> tuple[dict[str, torch.Tensor], Any]:
    model, processor = stages.starting_model(configuration)
    return model.state_dict(), processor


def test_asr_stage_with_ctc(world: Path, tmp_path: Path) -> None:
    settings = stage(
        world,
        tmp_path,
        objectives={"asr": {"weight": 1.0}, "ctc": {"weight": 0.3}, "contrast": {"weight": 0.1}},
        compose__ctc_vocabulary="auto",
        compose__adapter_strides=[2, 2],
        training__max_steps=3,
    )
    result = train(settings)
    assert result.metric == "wer"
    model, processor = load_model(tmp_path)
    assert model.ctc_head is not None
    assert processor.ctc_vocabulary[0] == "<blank>"
    assert " " in processor.ctc_vocabulary
    first = logged(tmp_path)[0]
    assert "ctc" in first
    assert first["contrast"] > 0
    assert first["contrast_unaligned"] == 0


def test_from_scratch(world: Path, tmp_path: Path) -> None:
    objectives = {"st": {}, "asr": {}}
    pretrained, _ = load_model_of_parts(stage(world, tmp_path, objectives=objectives))
    settings = stage(world, tmp_path, objectives=objectives, reinitialize=True)
    scratch = build_trainer(settings, ObjectiveSet(objectives)).joint.model
    assert scratch.state_dict().keys() == pretrained.keys()
    name = "text_model.model.encoder.layers.0.fc1.weight"
    assert not torch.equal(scratch.state_dict()[name], pretrained[name])
    assert scratch.state_dict()[name].std() < 0.1  # a tiny checkpoint's weights are four times as large
    again = build_trainer(settings, ObjectiveSet(objectives)).joint.model
    assert torch.equal(scratch.state_dict()[name], again.state_dict()[name])
    with_teacher = {"mt": {"teacher_share": 0.2}}
    with pytest.raises(UsageError, match="teacher: missing"):
        train(stage(world, tmp_path / "t", objectives=with_teacher, reinitialize=True))


@pytest.mark.parametrize("part", ["speech", "text"])
def test_one_part_from_scratch(world: Path, tmp_path: Path, part: str) -> None:
    objectives = {"st": {}, "asr": {}}
    pretrained, _ = load_model_of_parts(stage(world, tmp_path, objectives=objectives))
    settings = stage(world, tmp_path, objectives=objectives, reinitialize=part)
    model = build_trainer(settings, ObjectiveSet(objectives)).joint.model
    for name in ("speech_encoder.encoder.conv1.weight", "text_model.model.encoder.layers.0.fc1.weight"):
        kept = torch.equal(model.state_dict()[name], pretrained[name])
        assert kept is not name.startswith(part)
    assert torch.equal(model.state_dict()["adapter.layers.0.conv.weight"], pretrained["adapter.layers.0.conv.weight"])
    output = model.text_model.get_output_embeddings().weight
    assert output is model.text_model.get_input_embeddings().weight is model.output_weight


def test_gradient_checkpointing_changes_no_gradient(world: Path, tmp_path: Path) -> None:
    """And reaches the layers of both parts."""
    gradients = []
    for index, checkpointing in enumerate((False, True)):
        settings = stage(world, tmp_path / str(index), training__gradient_checkpointing=checkpointing)
        trainer = build_trainer(settings, ObjectiveSet(settings.objectives))
        joint = trainer.joint.train()
        on = {name for name, part in joint.model.named_modules() if getattr(part, "gradient_checkpointing", False)}
        for part in ("speech_encoder.encoder", "text_model.model.encoder", "text_model.model.decoder"):
            assert any(name.startswith(part) for name in on) == checkpointing, part
        torch.manual_seed(0)
        joint(next(iter(trainer.get_train_dataloader()))).loss.backward()
        gradients.append({name: p.grad for name, p in joint.named_parameters() if p.grad is not None})
    plain, checkpointed = gradients
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-6, rtol=1e-5)


def first_step(world: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """What the first of two steps logs, without dropout; the speech encoder thaws after it."""
    settings = stage(
        world,
        output,
        dropout=0.0,
        objectives={"st": {}, "erm": {"layer": 2}},
        data__dev=None,
        data__max_batch_seconds=100.0,
        data__max_batch_size=2,
        training__max_steps=2,
        training__gradient_checkpointing=True,
        freeze_speech_encoder=0.5,
        **changes,
    )
    assert train(settings).steps == 2
    assert all(tensor.dtype == torch.float32 for tensor in final(output).values())
    return logged(output)[0]


def test_precision_and_augmentation_do_what_they_say(world: Path, tmp_path: Path) -> None:
    plain = first_step(world, tmp_path / "plain")
    half = first_step(world, tmp_path / "bf16", training__precision="bf16", training__use_cpu=False)
    for name in ("loss", "st", "erm", "grad_norm"):
        assert half[name] == pytest.approx(plain[name], rel=0.05), name
        assert half[name] != plain[name], name
    assert {name: half[name] for name in half if name.endswith("_count")} == {
        name: plain[name] for name in plain if name.endswith("_count")
    }
    slow = first_step(world, tmp_path / "slow", data__augment={"speed": [0.5]})
    # The same rows, twice as long: twice the frames, but for the language embedding in front of them.
    assert slow["st_count"] == plain["st_count"]
    assert 1.6 < slow["erm_count"] / plain["erm_count"] < 2.0


def train_rank(rank: int, world_size: int, world: str, output: str) -> None:
    train(two_ranks_stage(Path(world), Path(output)))


def two_ranks_stage(world: Path, output: Path) -> Any:
    return stage(
        world,
        output,
        training__max_steps=4,
        training__eval_steps=2,
        data__max_batch_seconds=1.0,
        freeze_speech_encoder=0.5,
    )


def test_two_processes_run_a_whole_stage(world: Path, tmp_path: Path) -> None:
    assert together(train_rank, 2, str(world), str(tmp_path)) == [0, 0]
    assert len([record for record in logged(tmp_path) if record["kind"] == "train"]) == 4
    load_model(tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**record, "finished": False}))
    with pytest.raises(UsageError, match="holds a run of 2 processes and this is one of 1"):
        train(two_ranks_stage(world, tmp_path))


def test_torchrun(world: Path, tmp_path: Path) -> None:
    """The documented command, in two processes."""
    recipe, run = tmp_path / "recipe.yaml", tmp_path / "run"
    settings = stage(world, tmp_path / "elsewhere", objectives={"st": {}}, data__dev=None, data__max_batch_seconds=1.0)
    recipe.write_text(settings.to_yaml())
    words = ["--output_dir", str(run), "--training.max_steps", "2", "--optimizer.learning_rate=1e-4"]
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "comsl", "train"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command, str(recipe), *words], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((run / "run.json").read_text())
    assert (record["processes"], record["finished"], record["result"]["steps"]) == (2, True, 2)
    assert [line["step"] for line in logged(run)] == [1, 2]  # once, not by every process
    assert done.stderr.count(": finished") == 1
    load_model(run)


class BothRanks:
    """The batches that two ranks take at the same time, as one."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def set_epoch(self, epoch: int) -> None:
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[int]]:
        batches = self.sampler.epoch_batches(self.sampler.epoch)
        return (first + second for first, second in zip(batches[::2], batches[1::2], strict=True))


def train_split(rank: int, world_size: int, settings: Any) -> None:
    trainer = build_trainer(settings, ObjectiveSet(settings.objectives), rank, 2)
    if world_size == 1:
        trainer.data.sampler = BothRanks(trainer.data.sampler)
    trainer.fit()


def test_two_processes_give_the_losses_of_one(world: Path, tmp_path: Path) -> None:
    """All objectives on the real model: masks, lengths and counts included."""
    text = tiny_mbart50(tmp_path / "text", dropout=0.0)

    def settings(name: str) -> Any:
        return stage(
            world,
            tmp_path / name,
            compose__text=str(text),
            data__dev=None,
            data__max_batch_size=2,
            training__max_steps=3,
            training__save_steps=3,
        )

    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    assert in_child(train_split, 0, 1, settings("one")) == 0
    assert together(train_split, 2, settings("two")) == [0, 0]
    one, two = logged(tmp_path / "one"), logged(tmp_path / "two")
    assert len(one) == 3
    for ours, theirs in zip(two, one, strict=True):
        assert ours.pop("kind") == theirs.pop("kind")
        assert ours == pytest.approx(theirs, abs=1e-5)
    weights = load_file(tmp_path / "one/checkpoints/step-000003/model.safetensors")
    for name, tensor in load_file(tmp_path / "two/checkpoints/step-000003/model.safetensors").items():
        torch.testing.assert_close(tensor, weights[name], atol=1e-4, rtol=1e-4)


# ---------------------------------------------------------------------------------------------------------- bad input


def test_bad_stages_are_named(world: Path, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"objectives": {"sd": {}}}, "unknown objective 'sd'; did you mean"),
        ({"objectives": {"st": {"wight": 1}}}, "did you mean 'weight'"),
        ({"data__train": str(world / "none.jsonl")}, "none.jsonl"),
        ({"compose__speech": str(world / "none")}, "none"),
        ({"teacher": str(world / "none")}, "none"),
        ({"compose": None, "model": str(world / "speech")}, "not a ComSL model"),
        ({"training__precision": "fp16"}, "training.precision: fp16 needs a GPU"),
        ({"optimizer__warmup_steps": 6}, "optimizer.warmup_steps: 6 is not less than the 6 steps"),
        ({"evaluation__task": "asr", "data__dev": str(world / "text.jsonl")}, "audio"),
    ]
    for number, (changes, message) in enumerate(cases):
        with pytest.raises(ComSLError, match=message):
            train(stage(world, tmp_path / str(number), **changes))


def test_a_teacher_with_other_tokens_is_refused(world: Path, tmp_path: Path) -> None:
    """Also one with as many: what it says about token 21 would be taken for what the model says about another."""
    objectives = {"mt": {"teacher_share": 0.2}}
    swapped = tiny_mbart50(tmp_path / "swapped")
    AutoTokenizer.from_pretrained(swapped).save_pretrained(swapped)
    content = json.loads((swapped / "tokenizer.json").read_text())
    pieces = content["model"]["vocab"]
    pieces[20], pieces[21] = pieces[21], pieces[20]
    (swapped / "tokenizer.json").write_text(json.dumps(content))
    first = re.escape(repr(pieces[21][0]))
    changes = {"compose__new_languages": {}, "teacher": str(swapped), "objectives": objectives}
    with pytest.raises(UsageError, match=f"token 20 of the model is {first}, which the teacher has as token 21; name"):
        train(stage(world, tmp_path / "run", **changes))
    with pytest.raises(UsageError, match="token 173 of the model is 'cy_XX', which the teacher does not have; name"):
        train(stage(world, tmp_path / "cy", objectives=objectives, teacher=str(world / "text")))


@pytest.mark.parametrize("listed", [True, False])
def test_the_text_part_that_a_model_was_composed_of_is_a_teacher(world: Path, tmp_path: Path, listed: bool) -> None:
    """M2M-100 has no mask of its own, and its files need not list its languages."""
    text = str(tiny_m2m100(tmp_path / "text", listed=listed))
    compose = {"speech": str(world / "speech"), "text": text}
    settings = stage(world, tmp_path / "run", compose=compose, teacher=text, data__dev=None)
    trainer = build_trainer(settings, ObjectiveSet(settings.objectives))
    assert trainer.joint.teacher is not None
    tokens = load_model_of_parts(settings)[1].tokenizer.get_vocab()
    assert {"<mask>", "__de__"} <= tokens.keys()


def test_rows_without_what_a_task_needs_are_named(world: Path, tmp_path: Path) -> None:
    lines = (world / "train.jsonl").read_text().splitlines()
    row = json.loads(lines[0]) | {"translation": None, "audio": str(world / "0.wav")}
    rows = [json.loads(line) | {"audio": str(world / json.loads(line)["audio"])} for line in lines[1:]]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(item) + "\n" for item in [row, *rows]))
    with pytest.raises(ComSLError, match="row-0.*translation"):
        train(stage(world, tmp_path / "run", data__train=str(manifest)))


def test_a_broken_clip_is_named_in_one_line(world: Path, tmp_path: Path) -> None:
    """Though it is a worker process that reads it."""
    broken = tmp_path / "broken.wav"
    broken.write_text("no audio at all")
    row = json.loads((world / "train.jsonl").read_text().splitlines()[0]) | {"audio": str(broken), "duration": 0.7}
    (tmp_path / "m.jsonl").write_text(json.dumps(row) + "\n")
    settings = stage(world, tmp_path / "run", data__train=str(tmp_path / "m.jsonl"), data__num_workers=1)
    with pytest.raises(ComSLError, match=r"^row 'row-0'.*broken.wav") as caught:
        train(settings)
    assert "\n" not in str(caught.value)


def test_disk_full_while_finishing(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stages, "copy_model_files", fail)
    with pytest.raises(CheckpointError, match="no space left on the disk; the last complete checkpoint is intact"):
        train(stage(world, tmp_path, objectives={"st": {}}, training__max_steps=2))
    assert not (tmp_path / "model.safetensors").exists()
    monkeypatch.undo()
    assert train(stage(world, tmp_path, objectives={"st": {}}, training__max_steps=2)).steps == 2


def test_a_run_whose_starting_model_was_exchanged(world: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    tiny_mbart50(text)
    settings = stage(world, tmp_path / "run", compose__text=str(text), objectives={"st": {}})
    assert in_child(_train_and_die, settings) == -9
    tiny_mbart50(text, encoder_ffn_dim=40)
    with pytest.raises(UsageError, match=r"started from another compose.text \(same path, other content\)"):
        train(settings)
    record = tmp_path / "run" / "run.json"  # as a run that did not write down what it started from
    record.write_text(json.dumps({k: v for k, v in json.loads(record.read_text()).items() if k != "sources"}))
    with pytest.raises(CheckpointError, match=r"step-000003: a checkpoint of another model.*use another output_dir"):
        train(settings)


def _train_and_die(settings: Any) -> None:
    original = CheckpointFolder.keep

    def keep(self: CheckpointFolder, steps: set[int]) -> None:
        original(self, steps)
        os.kill(os.getpid(), signal.SIGKILL)

    CheckpointFolder.keep = keep  # type: ignore[method-assign]
    train(settings)
