"""generate(): every search, every language, one target language a row, the same result in any company."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from comsl.errors import UsageError
from comsl.model import MissingLanguage, compose, load_model
from comsl.model.generation import default_generation_config
from tests import tiny

CLIPS = [tiny.waveform(seconds, seed) for seed, seconds in enumerate((1.0, 0.53, 1.71, 0.2))]
SOURCES = ["de", "cy", "fr", "en"]
TARGETS = ["en", "de", "cy", "zh"]


@pytest.fixture(scope="module", params=["mbart50", "m2m100", "nllb"])
def comsl(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    path = tmp_path_factory.mktemp("generation")
    text = getattr(tiny, f"tiny_{request.param}")(path / "text")
    model, processor = compose(tiny.tiny_whisper(path / "speech"), text, ["cy"])
    tiny.separate_new_tokens(model, processor)
    model.save_pretrained(path / "model")
    processor.save_pretrained(path / "model")
    return load_model(path / "model")


def rows(output: torch.Tensor, model: Any) -> list[list[int]]:
    """Generated ids of each row up to and without padding behind the end."""
    result = []
    for row in output.tolist():
        while row[-1] == model.config.pad_token_id:
            row.pop()
        result.append(row)
    return result


@pytest.mark.parametrize("search", [{"num_beams": 1}, {"num_beams": 5}, {"num_beams": 5, "length_penalty": 2.0}])
def test_row_alone_equals_row_in_a_batch(comsl: tuple[Any, Any], search: dict[str, Any]) -> None:
    model, processor = comsl
    together = model.generate(
        **processor(CLIPS, source_language=SOURCES), target_language=TARGETS, max_new_tokens=12, **search
    )
    alone = [
        model.generate(**processor(clip, source_language=source), target_language=target, max_new_tokens=12, **search)
        for clip, source, target in zip(CLIPS, SOURCES, TARGETS, strict=True)
    ]
    assert rows(together, model) == [rows(output, model)[0] for output in alone]
    prompt = [[model.config.eos_token_id, processor.language_id(code)] for code in TARGETS]
    assert together[:, :2].tolist() == prompt


def test_the_default_search_is_the_papers(comsl: tuple[Any, Any]) -> None:
    """Beam 5, from the first composition to the loaded model."""
    model, processor = comsl
    assert default_generation_config(model.config).num_beams == 5
    assert model.generation_config.num_beams == 5
    batch = processor(CLIPS[0], source_language="de")
    scored = {"max_new_tokens": 8, "return_dict_in_generate": True, "output_scores": True}
    default, beam_5 = (model.generate(**batch, **scored, **search) for search in ({}, {"num_beams": 5}))
    assert default.scores[0].shape[0] == 5
    assert torch.equal(default.sequences_scores, beam_5.sequences_scores)


@pytest.mark.parametrize("beams", [1, 4])
def test_cache_changes_nothing(comsl: tuple[Any, Any], beams: int) -> None:
    model, processor = comsl
    batch = processor(CLIPS, source_language=SOURCES)
    outputs = [
        model.generate(**batch, target_language=TARGETS, num_beams=beams, max_new_tokens=10, use_cache=cache)
        for cache in (True, False)
    ]
    assert torch.equal(*outputs)


def test_greedy_is_the_argmax_of_forward(comsl: tuple[Any, Any]) -> None:
    model, processor = comsl
    batch = processor(CLIPS[0], source_language="de")
    output = model.generate(**batch, target_language="en", num_beams=1, max_new_tokens=8)
    with torch.no_grad():
        logits = model(**batch, decoder_input_ids=output).logits
    assert logits[0, 1:-1].argmax(-1).tolist() == output[0, 2:].tolist()


def test_beam_score_is_the_forward_log_probability(comsl: tuple[Any, Any]) -> None:
    model, processor = comsl
    batch = processor(CLIPS[0], source_language="de")
    output = model.generate(
        **batch, target_language="en", num_beams=3, max_new_tokens=6, return_dict_in_generate=True, output_scores=True
    )
    ids = output.sequences
    with torch.no_grad():
        scores = model(**batch, decoder_input_ids=ids).logits.log_softmax(-1)
    picked = scores[0, 1:-1].gather(-1, ids[0, 2:, None])[:, 0]
    torch.testing.assert_close(picked.mean(), output.sequences_scores[0], atol=1e-5, rtol=1e-5)


def test_sampling_follows_the_seed(comsl: tuple[Any, Any]) -> None:
    model, processor = comsl
    batch = processor(CLIPS[:2], source_language="de")

    def sample(seed: int) -> list[list[int]]:
        torch.manual_seed(seed)
        return model.generate(**batch, num_beams=1, do_sample=True, temperature=3.0, max_new_tokens=12).tolist()

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_transcribing_is_decoding_in_the_source_language(comsl: tuple[Any, Any]) -> None:
    model, processor = comsl
    batch = processor(CLIPS, source_language=SOURCES)
    output = model.generate(**batch, task="transcribe", max_new_tokens=3)
    assert output[:, 1].tolist() == [processor.language_id(code) for code in SOURCES]


def test_all_languages_in_both_roles(comsl: tuple[Any, Any]) -> None:
    model, processor = comsl
    codes = list(processor.languages)
    speech = processor([CLIPS[3]] * len(codes))
    output = model.generate(**speech, source_language=codes, target_language=codes[::-1], num_beams=1, max_new_tokens=2)
    assert output[:, 1].tolist() == [processor.language_id(code) for code in codes[::-1]]


def test_text_alone_and_in_a_batch(comsl: tuple[Any, Any]) -> None:
    model, processor = comsl
    texts = ["der alte Mann sieht ein Haus", "tŷ bach", "elle achète"]
    sources = ["de", "cy", "fr"]
    together = model.generate(**processor(text=texts, source_language=sources), target_language="en", max_new_tokens=9)
    alone = [
        model.generate(**processor(text=text, source_language=code), target_language="en", max_new_tokens=9)
        for text, code in zip(texts, sources, strict=True)
    ]
    assert rows(together, model) == [rows(output, model)[0] for output in alone]


def test_nothing_is_suppressed_and_nothing_forced(comsl: tuple[Any, Any]) -> None:
    model, processor = comsl

    class Only(LogitsProcessor):
        def __init__(self, token: int):
            self.token = token

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            # Whatever an earlier processor ruled out stays at minus infinity.
            return scores + torch.full_like(scores, -1e6).index_fill(1, torch.tensor([self.token]), 1e6)

    batch = processor(CLIPS[3], source_language="de")
    wanted = {processor.mask_token_id, *processor.languages.values(), *processor.token_ids("( ! : )")}
    for token in wanted - {model.config.eos_token_id, model.config.pad_token_id}:
        output = model.generate(
            **batch, num_beams=1, max_new_tokens=3, logits_processor=LogitsProcessorList([Only(token)])
        )
        assert output[0, 2:].tolist() == [token] * 3
    settings = model.generation_config
    for name in ("forced_bos_token_id", "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens"):
        assert getattr(settings, name) is None
        assert getattr(model.config.text_config, name, None) is None
    assert (settings.eos_token_id, settings.pad_token_id, settings.decoder_start_token_id) == (2, 1, 2)


def test_the_encoder_runs_once(comsl: tuple[Any, Any]) -> None:
    model, processor = comsl
    calls: list[str] = []
    parts = {"speech": model.speech_encoder, "adapter": model.adapter, "text": model.text_encoder}
    hooks = [part.register_forward_hook(lambda *_, name=name: calls.append(name)) for name, part in parts.items()]
    model.generate(**processor(CLIPS, source_language=SOURCES), num_beams=3, max_new_tokens=6)
    for hook in hooks:
        hook.remove()
    assert calls == ["speech", "adapter", "text"]


def test_cross_attentions_of_generation(comsl: tuple[Any, Any]) -> None:
    model, processor = comsl
    model.set_attn_implementation("eager")
    output = model.generate(
        **processor(CLIPS[0], source_language="de"),
        num_beams=1,
        max_new_tokens=4,
        return_dict_in_generate=True,
        output_attentions=True,
    )
    model.set_attn_implementation("sdpa")
    steps = output.sequences.shape[1] - 2
    assert len(output.cross_attentions) == steps
    assert output.cross_attentions[0][0].shape == (1, 4, 2, 14)


def test_errors_name_what_is_missing(comsl: tuple[Any, Any]) -> None:
    model, processor = comsl
    speech = processor(CLIPS[:2])
    with pytest.raises(UsageError, match="source_language is missing"):
        model.generate(**speech)
    with pytest.raises(MissingLanguage, match=r"source language 'mdw' \(Mboshi\); it has .*\bar, "):
        model.generate(**speech, source_language="mdw")
    with pytest.raises(UsageError, match="names 3 languages for 2 rows"):
        model.generate(**speech, source_language="de", target_language=["en", "de", "fr"])
    with pytest.raises(UsageError, match="unknown task 'summarise'"):
        model.generate(**speech, source_language="de", task="summarise")
    with pytest.raises(UsageError, match="nothing to generate from"):
        model.generate(source_language="de")


def test_defaults_may_be_stored_with_the_model(comsl: tuple[Any, Any], tmp_path: Path) -> None:
    model, processor = comsl
    model.generation_config.source_language = "de"
    model.generation_config.task = "transcribe"
    try:
        model.save_pretrained(tmp_path)
        processor.save_pretrained(tmp_path)
    finally:
        del model.generation_config.source_language, model.generation_config.task
    again, _ = load_model(tmp_path)
    output = again.generate(**processor(CLIPS[0]), max_new_tokens=2)
    assert output[0, 1] == processor.language_id("de")
