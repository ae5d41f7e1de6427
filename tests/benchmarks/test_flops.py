"""The formula of the useful operations against torch's counter on the model's own parts."""

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.flops import Lengths, batch_lengths, step_flops
from benchmarks.models import composite, text_model
from comsl.model import products
from comsl.objectives import JointModel, ObjectiveSet

SEVEN = dict.fromkeys(("asr", "st", "mt", "ddm", "mtp", "stm", "erm"), True)
LENGTHS = Lengths(frames=301, transcript=9, translation=12, masked=3)
FRAMES, POSITIONS = 151, 39  # of the speech encoder; of the text encoder: the language and 38 adapted frames


@pytest.fixture(scope="module")
def parts():
    model = composite("tiny", vocabulary=500).train()
    return model.config, model


def batch(rows: list[Lengths]) -> dict[str, torch.Tensor]:
    def padded(lengths: list[int], value: int, fill: int) -> torch.Tensor:
        return torch.tensor([[fill] * length + [value] * (max(lengths) - length) for length in lengths])

    def labels(lengths: list[int]) -> torch.Tensor:
        rows = padded(lengths, -100, 7)
        rows[:, 0] = -100
        return rows

    transcripts, translations = [row.transcript for row in rows], [row.translation for row in rows]
    masked = torch.full((len(rows), max(transcripts)), -100)
    for number, row in enumerate(rows):
        masked[number, 1 : 1 + row.masked] = 7
    frames = padded([row.frames for row in rows], 0, 1)
    return {
        "input_features": torch.randn(len(rows), 80, frames.shape[1]),
        "attention_mask": frames,
        "source_language_ids": torch.full((len(rows),), 5),
        "transcript_ids": padded(transcripts, 1, 7),
        "transcript_mask": padded(transcripts, 0, 1),
        "masked_transcript_ids": padded(transcripts, 1, 7),
        "transcript_decoder_input_ids": padded(transcripts, 1, 7),
        "transcript_labels": labels(transcripts),
        "mtp_labels": masked,
        "translation_decoder_input_ids": padded(translations, 1, 7),
        "translation_labels": labels(translations),
    }


def attention(query, key, value, *_, **__) -> int:
    """Scores and weighted values, from shapes [B, H, L, d_h]."""
    rows, heads, length, width = query
    return 2 * rows * heads * length * key[2] * (width + value[3])


def attention_backward(_, query, key, value, *__, **___) -> int:
    """The gradients of both products; that the kernel computes the scores again is its own affair."""
    return 2 * attention(query, key, value)


FUSED = {  # which torch's counter knows on a GPU only
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
}


def counted(function) -> int:
    with FlopCounterMode(display=False, custom_mapping=FUSED) as counter:
        output = function()
        if output.requires_grad:
            output.sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("frozen", [False, True])
def test_speech_encoder_and_adapter(parts, frozen: bool) -> None:
    config, model = parts
    model.speech_encoder.requires_grad_(not frozen)
    expected = step_flops(config, [LENGTHS], ObjectiveSet({"asr": {}}), frozen)
    mel = torch.randn(1, 80, LENGTHS.frames)
    assert counted(lambda: model.encode_speech(mel)[0]) == expected["speech encoder"]
    frames = torch.randn(1, FRAMES, 384, requires_grad=not frozen)
    assert counted(lambda: model.adapter(frames, torch.tensor([FRAMES]))[0]) == expected["adapter"]
    assert model.adapter.output_lengths(torch.tensor([FRAMES])).item() == POSITIONS - 1


def encoder(model, *lengths: int, depth: int = 3) -> int:
    shallow = copy.deepcopy(model.text_encoder)
    shallow.layers = shallow.layers[:depth]

    def run(length: int) -> torch.Tensor:
        return shallow(inputs_embeds=torch.randn(1, length, 256, requires_grad=True)).last_hidden_state

    return sum(counted(lambda length=length: run(length)) for length in lengths)


def test_text_encoder_reads_each_view_once_and_as_deep_as_it_is_read(parts) -> None:
    config, model = parts
    speech, text = POSITIONS, LENGTHS.transcript

    def expected(objectives: dict) -> float:
        return step_flops(config, [LENGTHS], ObjectiveSet(objectives))["text encoder"]

    assert expected({"asr": {}}) == encoder(model, speech)
    assert expected({"mt": {}}) == encoder(model, text)
    assert expected({"mtp": {}}) == encoder(model, speech + text)
    assert expected({**SEVEN, "erm": {"layer": 2}}) == encoder(model, speech, text, speech + text)
    assert expected({"erm": {"layer": 2}}) == encoder(model, speech, speech + text, depth=2)
    assert expected({"asr": {}, "erm": {"layer": 2}}) == encoder(model, speech) + encoder(model, speech + text, depth=2)


def test_decoder_makes_keys_and_values_of_a_memory_once(parts) -> None:
    config, model = parts

    def decoder(tokens: int, memory: int) -> int:
        states = torch.randn(1, memory, 256, requires_grad=True)
        ids = torch.full((1, tokens), 7)
        return counted(
            lambda: model.text_decoder(input_ids=ids, encoder_hidden_states=states, use_cache=False).last_hidden_state
        )

    def expected(*names: str) -> float:
        return step_flops(config, [LENGTHS], ObjectiveSet(dict.fromkeys(names, True)))["decoder"]

    source, target = LENGTHS.transcript, LENGTHS.translation
    keys_and_values = 3 * 3 * 2 * POSITIONS * 2 * 256**2  # 3 layers, forward and backward
    assert expected("asr") == decoder(source, POSITIONS)
    assert expected("mt") == decoder(target, source)
    assert expected("mtp") == decoder(source, source)
    assert expected("stm") == decoder(source, POSITIONS) + decoder(target, POSITIONS) - keys_and_values
    # Matched with the text's distribution, which nothing is trained for: that pair has a forward pass alone.
    assert expected("st", "ddm") == decoder(target, POSITIONS) + decoder(target, source) / 3


def test_vocabulary_and_teacher(parts) -> None:
    config, model = parts
    teacher = text_model("tiny", vocabulary=500).requires_grad_(False)
    expected = step_flops(config, [LENGTHS], ObjectiveSet(SEVEN))
    # asr and stm score the transcript without its first place, st, mt and stm the translation, mtp what is masked.
    scored = 2 * (LENGTHS.transcript - 1) + 3 * (LENGTHS.translation - 1) + LENGTHS.masked
    states = torch.randn(scored, 256, requires_grad=True)
    assert counted(lambda: states @ model.output_weight.T) == expected["vocabulary"]

    def run() -> torch.Tensor:
        output = teacher.model(
            input_ids=torch.full((1, LENGTHS.transcript), 7), decoder_input_ids=torch.full((1, LENGTHS.translation), 7)
        )
        return output.last_hidden_state[0, 1:] @ teacher.lm_head.weight.T

    assert counted(run) == expected["teacher"]


@pytest.mark.parametrize("frozen", [False, True])
def test_a_step_takes_no_less(parts, frozen: bool, monkeypatch) -> None:
    """Padding, and what is computed again for the backward pass, come on top: no step may be below the formula."""
    monkeypatch.setattr(products, "onednn_is_faster", lambda: False)  # torch's counter does not know its operator
    config, model = parts
    rows = [LENGTHS, Lengths(frames=200, transcript=12, translation=8, masked=0)]
    objectives = ObjectiveSet({**SEVEN, "erm": {"layer": 2}})
    joint = JointModel(model, objectives, text_model("tiny", vocabulary=500))
    model.speech_encoder.requires_grad_(not frozen)
    fields = batch(rows)
    useful = sum(step_flops(config, batch_lengths(fields), objectives, frozen).values())
    assert useful <= counted(lambda: joint(fields).loss) <= 1.8 * useful


def test_lengths_of_a_batch() -> None:
    rows = [LENGTHS, Lengths(frames=200, transcript=12, translation=8, masked=0)]
    assert batch_lengths(batch(rows)) == rows
