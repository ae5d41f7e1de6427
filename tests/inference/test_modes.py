"""The modes of translating speech, against training's own encoding and against transformers' search."""

from dataclasses import replace

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from comsl.errors import UsageError
from comsl.inference import MODES as ALL_MODES
from comsl.inference.clips import prepare_clip
from comsl.inference.decode import (
    DecodingOptions,
    Hypothesis,
    decode_modes,
    decode_speech,
    decode_speech_tasks,
    decode_text,
)
from comsl.inference.encoding import MixedLengthError
from comsl.inference.generate import generate
from comsl.inference.mbr import least_risk
from comsl.inference.nbest import nbest
from comsl.inference.precision import with_precision
from comsl.model import compose, load_model
from comsl.model.modeling import ComSLEncoderOutput
from comsl.objectives.base import Memory, Reads, Target
from comsl.objectives.views import Views, _encode
from tests.inference.conftest import talkative
from tests.tiny import tiny_comsl, tiny_m2m100, tiny_whisper, waveform

MODES = tuple(mode for mode in ALL_MODES if mode != "memory")  # which needs one: test_memory.py
LENGTHS = (0.4, 2.0, 1.1, 3.0, 0.7)
SOURCES, TARGETS = ["de", "cy", "fr", "de", "cy"], ["en", "en", "de", "cy", "en"]
OPTIONS = DecodingOptions(beam=3, tokens_per_second=4.0, extra_tokens=3, tokens_per_token=1.0)


@pytest.fixture(scope="module")
def mbart(tmp_path_factory):
    model, processor = tiny_comsl(
        tmp_path_factory.mktemp("mbart") / "model", ctc_vocabulary=["<blank>", *" abcdefghijklmnopqrstuvwxyz"]
    )
    talkative(model, processor)
    return model, processor


@pytest.fixture(scope="module")
def m2m100(tmp_path_factory):
    path = tmp_path_factory.mktemp("m2m100")
    model, processor = compose(tiny_whisper(path / "speech"), tiny_m2m100(path / "text"), {"cy": "en"})
    return model.eval(), processor


def clips_of(processor):
    return [prepare_clip(waveform(seconds, seed), processor) for seed, seconds in enumerate(LENGTHS)]


def as_trained(model, processor, clips, transcripts, sources, memory):
    """Memory of [transcript ; speech] as the objectives encode it in training, nothing masked."""
    rows = [processor.source_ids(text, code) for text, code in zip(transcripts, sources, strict=True)]
    batch = {
        **processor.pad_features([clip.features for clip in clips]),
        "source_language_ids": torch.tensor([processor.language_id(code) for code in sources]),
        "masked_transcript_ids": pad_sequence([torch.tensor(row) for row in rows], True),
        "transcript_mask": pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], True),
    }
    pairs = {(Memory.MIXED_SPEECH, Target.TRANSLATION): 0.0, (Memory.MIXED_TEXT, Target.MASKED_TOKENS): 0.0}
    with torch.no_grad():
        encoded = _encode(model, batch, Reads(cross_entropies=pairs), Views())
    parts = {name: encoded.spans[part] for name, part in (("speech", Memory.MIXED_SPEECH), ("text", Memory.MIXED_TEXT))}
    states = [
        torch.cat([
            encoded.states[span.starts[row] : span.starts[row] + span.lengths[row]]
            for span in ([parts["text"], parts["speech"]] if memory == "both" else [parts[memory]])
        ])
        for row in range(len(clips))
    ]  # fmt: skip
    mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in states], True)
    return ComSLEncoderOutput(last_hidden_state=pad_sequence(states, True), memory_mask=mask)


@pytest.mark.parametrize("memory", ["speech", "text", "both"])
@pytest.mark.parametrize("family", ["mbart", "m2m100"])
def test_mixed_is_what_generate_makes_of_the_input_that_training_encodes(request, family, memory):
    model, processor = request.getfixturevalue(family)
    clips = clips_of(processor)
    options = replace(OPTIONS, mixed_memory=memory, max_new_tokens=9)
    found = decode_modes(model, processor, clips, SOURCES, TARGETS, ["mixed"], options)
    heard = decode_speech(model, processor, clips, SOURCES, TARGETS, "transcribe", options)
    assert [row.transcript for row in found] == heard
    transcripts = [row.text for row in heard]
    encoded = as_trained(model, processor, clips, transcripts, SOURCES, memory)
    prompt = model.decoder_prompt(torch.tensor([processor.language_id(code) for code in TARGETS]))
    with torch.no_grad():
        wanted = generate(model, encoded, prompt, [9] * len(clips), options, processor.eos_token_id)
    for row, ((tokens, score),) in zip(found, wanted, strict=True):
        ours = row.translations["mixed"]
        assert ours.tokens == tokens[: len(ours.tokens)]
        assert set(tokens[len(ours.tokens) :]) <= {processor.pad_token_id, processor.eos_token_id}
        assert ours.score == pytest.approx(score, abs=1e-5)
    direct = decode_speech(model, processor, clips, SOURCES, TARGETS, "translate", options)
    apart = [abs(one.score - row.translations["mixed"].score) for one, row in zip(direct, found, strict=True)]
    assert sorted(apart)[1] > 1e-4  # of a random model one row may not care


def test_cascade_translates_its_own_transcript(mbart):
    model, processor = mbart
    clips = clips_of(processor)
    found = decode_modes(model, processor, clips, SOURCES, TARGETS, ["cascade", "direct"], OPTIONS)
    heard, direct = decode_speech_tasks(model, processor, clips, SOURCES, TARGETS, ("transcribe", "translate"), OPTIONS)
    assert [row.transcript for row in found] == heard
    assert [row.translations["direct"] for row in found] == direct
    read = decode_text(model, processor, [row.text for row in heard], SOURCES, TARGETS, OPTIONS)
    for row, wanted in zip(found, read, strict=True):
        assert row.translations["cascade"].tokens == wanted.tokens
        assert row.translations["cascade"].score == pytest.approx(wanted.score, abs=1e-5)


def test_pooled_chooses_among_what_the_three_modes_find(mbart):
    model, processor = mbart
    clips = clips_of(processor)
    for count in (0, 3):
        options = replace(OPTIONS, mbr=count)
        (row,) = decode_modes(model, processor, clips[1:2], "de", "en", MODES, options)
        lists = {mode: nbest_of(model, processor, clips[1], mode, max(1, count)) for mode in MODES[:3]}
        for mode in MODES[:3]:
            assert row.translations[mode].tokens == least_risk(lists[mode]).tokens
        assert row.translations["pooled"].tokens == least_risk(*lists.values()).tokens


def nbest_of(model, processor, clip, mode, count) -> list[Hypothesis]:
    """By way of memories made by hand."""
    heard = decode_speech(model, processor, [clip], "de", "en", "transcribe", OPTIONS)[0].text
    text = torch.tensor([processor.source_ids(heard, "de")])
    speech = processor.pad_features([clip.features])
    seconds = -(-OPTIONS.tokens_per_second * clip.seconds // 1) + OPTIONS.extra_tokens
    with torch.no_grad():
        if mode == "direct":
            memory = model.encode(**speech, source_language_ids=torch.tensor([processor.language_id("de")]))
        elif mode == "cascade":
            memory = model.encode(input_ids=text, text_attention_mask=torch.ones_like(text))
            seconds = text.shape[1] + OPTIONS.extra_tokens
        else:
            memory = as_trained(model, processor, [clip], [heard], ["de"], "speech")
        return nbest(model, processor, memory, [processor.language_id("en")], [int(seconds)], OPTIONS, count)[0]


@pytest.mark.parametrize(
    "changes", [{}, {"mbr": 3}, {"transcript": "ctc"}, {"ctc_weight": 0.4, "mixed_memory": "both"}]
)
def test_every_mode_gives_a_row_the_same_alone_and_in_any_batch(mbart, changes):
    model, processor = mbart
    clips = clips_of(processor)
    options = replace(OPTIONS, **changes)
    together = decode_modes(model, processor, clips, SOURCES, TARGETS, MODES, options, transcribe=True)
    pairs = decode_modes(model, processor, clips, SOURCES, TARGETS, MODES, replace(options, batch_size=2))
    for row, clip in enumerate(clips):
        (alone,) = decode_modes(model, processor, [clip], SOURCES[row], TARGETS[row], MODES, options)
        for found in (alone, pairs[row]):
            assert found.transcript.tokens == together[row].transcript.tokens
            for mode in MODES:
                ours, wanted = found.translations[mode], together[row].translations[mode]
                assert (ours.tokens, ours.truncated) == (wanted.tokens, wanted.truncated)
                assert ours.score == pytest.approx(wanted.score, abs=1e-5)
    limits = [-(-4 * clip.seconds // 1) + 3 for clip in clips]
    for row, limit in zip(together, limits, strict=True):
        for mode in ("direct", "mixed"):
            assert row.translations[mode].truncated == (len(row.translations[mode].tokens) == limit)


def test_all_modes_encode_the_speech_once(mbart, monkeypatch):
    model, processor = mbart
    encode, seen = model.encode_speech, []
    monkeypatch.setattr(model, "encode_speech", lambda *inputs: seen.append(len(inputs[0])) or encode(*inputs))
    decode_modes(model, processor, clips_of(processor), "de", "en", MODES, OPTIONS, transcribe=True)
    assert sum(seen) == len(LENGTHS)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_precision_changes_what_is_computed_in_and_nothing_else(tmp_path, mbart, precision):
    """Packed float32 weights give float32's hypotheses; in 8 bits rows stay independent of their batch."""
    original, processor = mbart
    original.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    model = with_precision(load_model(tmp_path / "model")[0], precision)
    clips = clips_of(processor)
    found = decode_modes(model, processor, clips, SOURCES, TARGETS, MODES, OPTIONS)
    if precision == "float32":
        wanted = decode_modes(original, processor, clips, SOURCES, TARGETS, MODES, OPTIONS)
        assert [row.translations["mixed"].tokens for row in found] == [r.translations["mixed"].tokens for r in wanted]
    for row, clip in enumerate(clips):
        (alone,) = decode_modes(model, processor, [clip], SOURCES[row], TARGETS[row], MODES, OPTIONS)
        assert {mode: alone.translations[mode].tokens for mode in MODES} == {
            mode: found[row].translations[mode].tokens for mode in MODES
        }


def test_nothing_heard_is_nothing_to_read_but_there_is_still_the_speech(mbart, monkeypatch):
    """A model that hears nothing: the cascade says nothing, mixed reads [language, end ; speech]."""
    from comsl.inference import decode

    model, processor = mbart
    clips = clips_of(processor)[:1]
    monkeypatch.setattr(decode._Batch, "_transcripts", lambda self, *_: [Hypothesis("", 0.0)])
    (row,) = decode_modes(model, processor, clips, "de", "en", ("cascade", "mixed"), OPTIONS)
    assert row.translations["cascade"] == Hypothesis("", 0.0)
    memory = as_trained(model, processor, clips, [""], ["de"], "speech")
    limit = len(row.translations["mixed"].tokens) + (not row.translations["mixed"].truncated)
    with torch.no_grad():
        ((wanted,),) = nbest(model, processor, memory, [processor.language_id("en")], [limit], OPTIONS)
    assert row.translations["mixed"].tokens == wanted.tokens != []


def test_errors_say_what_to_do(mbart, m2m100, monkeypatch):
    model, processor = mbart
    clips = clips_of(processor)
    with pytest.raises(UsageError, match="unknown mode 'both': use one of direct, cascade, mixed, pooled, memory"):
        decode_modes(model, processor, clips, "de", "en", ["both"])
    with pytest.raises(UsageError, match="no CTC head"):
        decode_modes(*m2m100, clips, "de", "en", ["mixed"], DecodingOptions(transcript="ctc"))
    with pytest.raises(UsageError, match="mbr: 6 candidates"):
        DecodingOptions(mbr=6)
    with pytest.raises(UsageError, match="ctc_weight must be between 0 and 1"):
        DecodingOptions(ctc_weight=2)
    with pytest.raises(UsageError, match="ctc_weight is for transcripts of the decoder"):
        DecodingOptions(ctc_weight=0.5, transcript="ctc")
    with pytest.raises(UsageError, match="unknown mixed_memory 'all': use one of speech, text, both"):
        DecodingOptions(mixed_memory="all")
    long = [prepare_clip(waveform(9.0), processor)]  # 113 of 128 positions
    with pytest.raises(MixedLengthError, match=r"take 1\d\d positions together, but the text encoder has 128"):
        decode_modes(model, processor, long, "de", "en", ["mixed"], DecodingOptions(beam=1, max_new_tokens=60))
