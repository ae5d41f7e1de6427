import math
import random

import numpy as np
import pytest
import torch

from comsl.errors import UsageError
from comsl.inference.clips import Clip, prepare_clip
from comsl.inference.decode import (
    DecodingError,
    DecodingOptions,
    decode_speech,
    decode_speech_tasks,
    decode_text,
)
from comsl.inference.encoding import batch_by_length
from comsl.model.vocabulary import MissingLanguage
from tests.inference.conftest import talkative
from tests.inference.fake import LANGUAGES, FakeModel, FakeProcessor
from tests.tiny import tiny_comsl, waveform

PROCESSOR = FakeProcessor()


@pytest.fixture(scope="module")
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    rng = np.random.default_rng(0)
    lengths = (40, 300, 8, 120, 75, 300, 16, 210)
    return [Clip(rng.normal(size=(4, T)).astype(np.float32), T / 100, T / 100) for T in lengths]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rng = random.Random(0)
    return ["".join(rng.choice(" abcdefghijklm") for _ in range(size)) + "x" for size in (3, 30, 1, 12, 7, 50, 2, 20)]


SEARCHES = [
    DecodingOptions(beam=1),
    DecodingOptions(beam=4),
    DecodingOptions(beam=3, length_penalty=2.0, no_repeat_ngram=2, extra_tokens=2),
]


@pytest.mark.parametrize("options", SEARCHES)
@pytest.mark.parametrize("kind", ["speech", "text"])
def test_a_row_gives_the_same_alone_and_in_any_batch(model, clips, texts, options, kind):
    sources = ["de", "cy", "de", "en", "de", "de", "cy", "cy"]
    targets = ["en", "en", "cy", "de", "en", "cy", "en", "de"]

    def decode(rows, batch_size, batch_seconds=None):
        changed = DecodingOptions(**{**vars(options), "batch_size": batch_size, "batch_seconds": batch_seconds})
        codes = [sources[row] for row in rows], [targets[row] for row in rows]
        if kind == "text":
            return decode_text(model, PROCESSOR, [texts[row] for row in rows], *codes, changed)
        return decode_speech(model, PROCESSOR, [clips[row] for row in rows], *codes, "translate", changed)

    together = decode(range(8), 8)
    alone = [decode([row], 1)[0] for row in range(8)]
    others = [decode(range(8), 3), decode(range(8), 8, 3.5), list(reversed(decode(range(7, -1, -1), 4)))]
    assert len({hypothesis.text for hypothesis in together}) > 4
    for result in [alone, *others]:
        assert [hypothesis.tokens for hypothesis in result] == [hypothesis.tokens for hypothesis in together]
        assert np.allclose([row.score for row in result], [row.score for row in together], atol=1e-5)


@pytest.mark.parametrize("beam", [1, 3])
def test_each_row_stops_at_its_own_limit(model, clips, beam):
    # Two clips whose search does not end by itself within the limits, beside a long one.
    options = DecodingOptions(beam=beam, tokens_per_second=2.0, extra_tokens=1)
    hypotheses = decode_speech(model, PROCESSOR, clips, "de", "en", "translate", options)
    for clip, hypothesis in zip(clips, hypotheses, strict=True):
        assert len(hypothesis.tokens) <= math.ceil(2.0 * clip.seconds) + 1
    at_limit = [
        len(hypothesis.tokens) == math.ceil(2.0 * clip.seconds) + 1
        for clip, hypothesis in zip(clips, hypotheses, strict=True)
    ]
    assert any(at_limit)
    # With its limit's number of tokens a row has no room for the end, with fewer it ended by itself.
    assert [hypothesis.truncated for hypothesis in hypotheses] == at_limit


def test_beam_search_finds_no_worse_than_greedy_on_the_whole(model, texts):
    greedy = decode_text(model, PROCESSOR, texts, "de", "en", DecodingOptions(beam=1))
    beam = decode_text(model, PROCESSOR, texts, "de", "en", DecodingOptions(beam=6))
    assert sum(row.score for row in beam) >= sum(row.score for row in greedy)


def test_score_is_the_mean_log_probability_of_the_new_tokens(model, texts):
    hypotheses = decode_text(model, PROCESSOR, texts, "de", "en", DecodingOptions(beam=2, max_new_tokens=20))
    model.eval()
    assert {hypothesis.truncated for hypothesis in hypotheses} == {True, False}
    for text, hypothesis in zip(texts, hypotheses, strict=True):
        ids = torch.tensor([PROCESSOR.source_ids(text, "de")])
        generated = [*hypothesis.tokens, 2][:20]
        decoder = torch.tensor([[2, 5, *hypothesis.tokens]])
        with torch.no_grad():
            encoded = model.encode(input_ids=ids, text_attention_mask=torch.ones_like(ids))
            logits = model(encoded, decoder).logits[0]
        wanted = [logits[1 + place].log_softmax(-1)[token].item() for place, token in enumerate(generated)]
        assert hypothesis.score == pytest.approx(sum(wanted) / len(wanted), abs=1e-5)
    assert math.isnan(decode_text(model, PROCESSOR, ["abc"], "de", "en", DecodingOptions(scores=False))[0].score)


def test_nothing_gives_nothing_and_blank_text_nothing_to_read(model):
    assert decode_speech(model, PROCESSOR, [], "de", "en") == []
    assert decode_text(model, PROCESSOR, [], [], []) == []
    blank, full = decode_text(model, PROCESSOR, ["  ", "abc"], "de", "en")
    assert (blank.text, blank.tokens, blank.score, blank.truncated) == ("", [], 0.0, False)
    assert full.tokens


def test_transcription_is_in_the_source_language(model, clips):
    model.prompts.clear()
    decode_speech(model, PROCESSOR, clips[:2], ["de", "cy"], "en", "transcribe", DecodingOptions(beam=1))
    assert model.prompts == [[[2, LANGUAGES["cy"]], [2, LANGUAGES["de"]]]]  # longest first


def test_two_tasks_are_encoded_once_and_give_what_each_gives_alone(model, clips, monkeypatch):
    options = DecodingOptions(beam=2, batch_size=4)
    alone = [decode_speech(model, PROCESSOR, clips, "cy", "en", task, options) for task in ("transcribe", "translate")]
    encode, calls = model.encode_speech, []
    monkeypatch.setattr(model, "encode_speech", lambda *inputs: calls.append(inputs) or encode(*inputs))
    assert decode_speech_tasks(model, PROCESSOR, clips, "cy", "en", ("transcribe", "translate"), options) == alone
    assert sum(len(speech) for speech, _ in calls) == len(clips)
    assert alone[0] != alone[1]


def test_modes_of_the_modules_come_back(model, clips):
    model.train()
    model.text_model.model.encoder.eval()
    before = [module.training for module in model.modules()]
    decode_speech(model, PROCESSOR, clips[:2], "de", "en", options=DecodingOptions(beam=1))
    assert [module.training for module in model.modules()] == before
    with pytest.raises(UsageError, match="'xx'"):
        decode_speech(model, PROCESSOR, clips[:2], "xx", "en")
    assert [module.training for module in model.modules()] == before
    model.eval()


def test_half_precision(clips, texts):
    model = FakeModel().bfloat16()
    assert len(decode_speech(model, PROCESSOR, clips[:2], "de", "en", options=DecodingOptions(beam=2))) == 2
    assert len(decode_text(model, PROCESSOR, texts[:2], "de", "en", DecodingOptions(beam=2))) == 2


def test_sampling_follows_the_seed_and_leaves_the_global_generator_alone(model, clips):
    def sample(seed):
        options = DecodingOptions(beam=1, do_sample=True, temperature=2.0, seed=seed)
        return [row.text for row in decode_speech(model, PROCESSOR, clips, "de", "en", options=options)]

    state = torch.random.get_rng_state()
    assert sample(1) == sample(1) != sample(2)
    assert torch.equal(state, torch.random.get_rng_state())


def test_errors_name_the_row(model, clips):
    with pytest.raises(DecodingError, match=r"text 1 .* 72 tokens, the text model reads 64"):
        decode_text(model, PROCESSOR, ["abc", "a" * 70], "de", "en")
    with pytest.raises(ValueError, match="3 languages for 2 rows"):
        decode_speech(model, PROCESSOR, clips[:2], ["de"] * 3, "en")
    with pytest.raises(ValueError, match="task"):
        decode_speech(model, PROCESSOR, clips[:2], "de", "en", "both")


def test_batches_by_length():
    assert batch_by_length([3, 1, 2, 5, 4], 2) == [[3, 4], [0, 2], [1]]
    assert batch_by_length([3, 1, 2, 5, 4], 8, max_cost=8) == [[3], [4, 0], [2, 1]]
    assert batch_by_length([3, 0, 9], 8, max_cost=1) == [[2], [0]]
    assert batch_by_length([], 2) == []


@pytest.fixture(scope="module")
def composite(tmp_path_factory):
    model, processor = tiny_comsl(tmp_path_factory.mktemp("model") / "comsl")
    talkative(model, processor)
    return model, processor


@pytest.mark.parametrize("task", ["translate", "transcribe"])
def test_a_composite_decodes_speech_alone_as_in_a_batch(composite, task):
    model, processor = composite
    lengths = (0.3, 2.0, 1.1, 3.0, 0.7)
    clips = [prepare_clip(waveform(seconds, seed), processor) for seed, seconds in enumerate(lengths)]
    sources, targets = ["de", "cy", "fr", "de", "zh-CN"], ["en", "en", "de", "cy", "en"]
    options = DecodingOptions(beam=3, tokens_per_second=6.0, extra_tokens=4)
    together = decode_speech(model, processor, clips, sources, targets, task, options)
    for row, clip in enumerate(clips):
        alone = decode_speech(model, processor, [clip], sources[row], targets[row], task, options)[0]
        assert alone.tokens == together[row].tokens
        assert alone.score == pytest.approx(together[row].score, abs=1e-5)
    assert len({hypothesis.text for hypothesis in together}) > 2


def test_a_composite_decodes_text_alone_as_in_a_batch(composite):
    model, processor = composite
    texts = ["der alte Mann", "sie kauft am Montag drei rote Äpfel auf dem Markt", "Haus"]
    options = DecodingOptions(beam=3, max_new_tokens=12)
    together = decode_text(model, processor, texts, "de", ["en", "cy", "fr"], options)
    alone = [decode_text(model, processor, [texts[i]], "de", ["en", "cy", "fr"][i], options)[0] for i in range(3)]
    assert [row.tokens for row in together] == [row.tokens for row in alone]
    with pytest.raises(MissingLanguage):
        decode_text(model, processor, [], "mdw", "mdw")


def test_the_limit_follows_the_audio_and_not_what_a_fixed_duration_pads(tmp_path):
    """A random model that never ends by itself, on two seconds of audio and 28 of silence."""
    model, processor = tiny_comsl(tmp_path / "model", adapter_strides=(2, 2, 2, 2), fixed_duration=30.0)
    talkative(model, processor)
    model.text_model.final_logits_bias[0, processor.eos_token_id] = -50.0
    clip = prepare_clip(waveform(2.0), processor)
    assert (clip.features.shape, clip.seconds, clip.padded_seconds) == ((80, 3000), 2.0, 30.0)
    options = DecodingOptions(beam=2, tokens_per_second=2.0, extra_tokens=1)
    (hypothesis,) = decode_speech(model, processor, [clip], "de", "en", options=options)
    assert (len(hypothesis.tokens), hypothesis.truncated) == (5, True)


def test_what_is_padded_counts_for_the_size_of_a_batch(model, clips):
    """Memory is what the bound is for, and silence takes it too."""
    model.prompts.clear()
    padded = [Clip(clip.features, clip.seconds, 30.0) for clip in clips[:4]]
    decode_speech(model, PROCESSOR, padded, "de", "en", options=DecodingOptions(beam=1, batch_seconds=60.0))
    assert [len(batch) for batch in model.prompts] == [2, 2]


def test_little_is_padded_when_a_batch_is_encoded(model, clips, monkeypatch):
    """On a CPU: 1,320 frames of which 1,069 are real; as one batch of eight there are 2,400."""
    frames = []
    encode = model.encode_speech
    monkeypatch.setattr(
        model, "encode_speech", lambda speech, mask: frames.append(mask.numel()) or encode(speech, mask)
    )
    decode_speech(model, PROCESSOR, clips, "de", "en", options=DecodingOptions(beam=1, batch_size=8))
    assert frames == [300, 300, 2 * 210, 4 * 75]
