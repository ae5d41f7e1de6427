"""Our searches against transformers' own, and the work they do, counted."""

from pathlib import Path

import pytest
import torch

from comsl.data.audio import load_clip
from comsl.inference.clips import prepare_clip
from comsl.inference.decode import DecodingOptions, decode_speech
from comsl.inference.generate import generate
from comsl.inference.nbest import search
from comsl.inference.translate import shipped_model
from comsl.model import compose, load_model
from tests.inference.conftest import talkative
from tests.tiny import tiny_comsl, tiny_m2m100, tiny_whisper, waveform

OPTIONS = [
    DecodingOptions(beam=1),
    DecodingOptions(beam=2, length_penalty=0.0),
    DecodingOptions(beam=5),
    DecodingOptions(beam=4, length_penalty=2.0),
]
LIMITS = (9, 3, 30, 1)


@pytest.fixture(scope="module")
def mbart(tmp_path_factory):
    model, processor = tiny_comsl(tmp_path_factory.mktemp("mbart") / "model")
    talkative(model, processor)
    model.text_model.final_logits_bias[0, processor.eos_token_id] = 0.5  # so that some end and some do not
    return model, processor


@pytest.fixture(scope="module")
def m2m100(tmp_path_factory):
    path = tmp_path_factory.mktemp("m2m100")
    model, processor = compose(tiny_whisper(path / "speech"), tiny_m2m100(path / "text"), {"cy": "en"})
    return model.eval(), processor


@pytest.fixture(scope="module")
def shipped():
    return load_model(shipped_model(), torch.float32)


def encoded(model, processor, waveforms, language="de"):
    batch = processor.pad_features([processor.features(samples) for samples in waveforms])
    ids = torch.full((len(waveforms),), processor.language_id(language))
    with torch.no_grad():
        return model.encode(**batch, source_language_ids=ids)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("family", ["mbart", "m2m100"])
def test_hypotheses_and_scores_are_those_of_generate(request, family, options):
    """All that the beams find, best first."""
    model, processor = request.getfixturevalue(family)
    memory = encoded(model, processor, [waveform(seconds, seed) for seed, seconds in enumerate((1.0, 2.0, 0.5, 3.0))])
    prompt = model.decoder_prompt(torch.tensor([processor.language_id(code) for code in ("en", "cy", "fr", "en")]))
    end = processor.eos_token_id
    with torch.no_grad():
        ours = search(model, memory, prompt, list(LIMITS), options, end, options.beam)
        theirs = generate(model, memory, prompt, LIMITS, options, end, options.beam)
        assert search(model, memory, prompt, list(LIMITS), options, end) == [row[:1] for row in ours]
    for row, wanted_row in zip(ours, theirs, strict=True):
        for (tokens, score), (wanted, wanted_score) in zip(row, wanted_row, strict=True):
            assert tokens == wanted[: len(tokens)]
            assert set(wanted[len(tokens) :]) <= {processor.pad_token_id}
            assert score == pytest.approx(wanted_score, abs=1e-5)
        assert len({tuple(tokens) for tokens, _ in row}) == options.beam


@pytest.mark.parametrize("options", [*OPTIONS, DecodingOptions(beam=3, max_new_tokens=4)])
def test_the_shipped_model_says_what_generate_says(shipped, options, monkeypatch):
    model, processor = shipped
    whole = load_clip(Path(__file__).parents[2] / "docs" / "clip.mp3")
    clips = [prepare_clip(whole[: int(part * len(whole))], processor) for part in (1.0, 0.4, 0.7, 0.15)]
    ours = decode_speech(model, processor, clips, "de", "en", options=options)

    monkeypatch.setattr("comsl.inference.nbest.search", generate)
    theirs = decode_speech(model, processor, clips, "de", "en", options=options)
    assert [(row.tokens, row.truncated) for row in ours] == [(row.tokens, row.truncated) for row in theirs]
    assert [row.score for row in ours] == pytest.approx([row.score for row in theirs], abs=1e-4)
    assert len({row.text for row in ours}) > 1


@pytest.mark.parametrize("beam", [1, 3])
def test_nothing_is_computed_twice_or_for_rows_that_are_done(mbart, beam):
    model, processor = mbart
    memory = encoded(model, processor, [waveform(seconds) for seconds in (1.0, 2.0, 0.5, 3.0)])
    prompt = model.decoder_prompt(torch.full((4,), processor.language_id("en")))
    layer, rows = model.text_decoder.layers[0], {}

    def count(name):
        return lambda module, inputs: rows.__setitem__(name, rows.get(name, 0) + inputs[0].shape[:-1].numel())

    counted = {"positions": layer.fc1, "memory": layer.encoder_attn.k_proj, "vocabulary": model.text_model.lm_head}
    hooks = [module.register_forward_pre_hook(count(name)) for name, module in counted.items()]
    bias = model.text_model.final_logits_bias
    before = bias[0, processor.eos_token_id].item()
    try:
        bias[0, processor.eos_token_id] = -100.0  # every row runs to its limit
        with torch.no_grad():
            found = search(model, memory, prompt, list(LIMITS), DecodingOptions(beam=beam), processor.eos_token_id)
    finally:
        bias[0, processor.eos_token_id] = before
        for hook in hooks:
            hook.remove()
    assert [len(tokens) for ((tokens, _), *_) in found] == list(LIMITS)
    after_the_first = beam * (sum(LIMITS) - 4)
    assert rows == {
        "positions": 4 * 2 + after_the_first,  # the prompt once for all beams
        "memory": memory.memory_mask.numel(),
        "vocabulary": 4 + after_the_first,
    }
