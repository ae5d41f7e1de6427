"""New parts load through the real loading code and compose."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, WhisperForConditionalGeneration

from comsl.errors import ComSLError, UsageError
from comsl.model.compose import compose
from comsl.model.parts import PartSize, new_conformer_part, new_speech_part, new_text_part

SIZE = PartSize(width=16, encoder_layers=1, decoder_layers=1, heads=2)
TEXTS = ["wa ámitúúngá obia itsωώ", "bána bo báatúsá ambángé", "les enfants cueillent les mangues", "une forêt"] * 5


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    directory = tmp_path_factory.mktemp("parts")
    new_speech_part(directory / "speech", SIZE)
    new_text_part(directory / "text", TEXTS, SIZE, vocabulary=36)
    return directory


def test_every_character_of_the_texts_comes_back(parts):
    tokenizer = AutoTokenizer.from_pretrained(parts / "text")
    for text in TEXTS[:4]:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text


def test_parts_load_with_transformers_and_compose(parts):
    assert WhisperForConditionalGeneration.from_pretrained(parts / "speech").config.d_model == 16
    text = AutoModelForSeq2SeqLM.from_pretrained(parts / "text")
    model, processor = compose(parts / "speech", parts / "text", new_languages={"mdw": "fr"})
    assert model.config.vocab_size == text.config.vocab_size + 1
    rows = model.text_model.get_input_embeddings().weight
    torch.testing.assert_close(rows[processor.language_id("mdw")], rows[processor.language_id("fr")], rtol=0, atol=0)


@pytest.mark.parametrize(("stack", "frames"), [(2, 49), (4, 24)])
def test_a_conformer_hears_so_many_frames_a_second(parts, tmp_path, stack, frames):
    new_conformer_part(tmp_path, SIZE, stack)
    model, processor = compose(tmp_path, parts / "text", new_languages={"mdw": "fr"}, adapter_strides=[2])
    waveform = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    batch = processor.pad_features([processor.features(waveform)])
    hidden, lengths = model.speech_encoder(batch["input_features"], batch["attention_mask"])
    assert (tuple(hidden.shape), lengths.tolist()) == ((1, frames, 16), [frames])
    assert processor.feature_extractor.stack == stack


def test_impossible_parts_are_named(tmp_path):
    with pytest.raises(ComSLError, match="5000 pieces cannot be learnt"):
        new_text_part(tmp_path, TEXTS, SIZE, vocabulary=5000)
    with pytest.raises(ComSLError, match="no text to learn"):
        new_text_part(tmp_path, ["", " "], SIZE)
    with pytest.raises(UsageError, match="not a multiple"):
        PartSize(width=10, heads=4)


def test_random_weights_have_the_spread_that_was_asked_for(tmp_path):
    size = PartSize(width=32, encoder_layers=1, decoder_layers=1, heads=2, init_std=0.07)
    new_text_part(tmp_path, TEXTS, size, vocabulary=36)
    layer = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).model.encoder.layers[0]
    assert layer.fc1.weight.std().item() == pytest.approx(0.07, rel=0.1)
