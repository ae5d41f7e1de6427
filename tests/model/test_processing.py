"""The processor: features at true length, tokens in the three families' common form, saving and loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoProcessor, AutoTokenizer

from comsl.data.characters import character_vocabulary, normalize_characters
from comsl.errors import UsageError
from comsl.model import ComSLProcessor, FeatureError, MissingLanguage, compose
from tests import tiny

TEXTS = ("mbart50", "m2m100", "nllb")
TOKENS = {"mbart50": ("de_DE", "en_XX"), "m2m100": ("__de__", "__en__"), "nllb": ("deu_Latn", "eng_Latn")}


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def mbart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_mbart50(tmp_path_factory.mktemp("mbart"))


@pytest.fixture(scope="module", params=TEXTS)
def family(request: pytest.FixtureRequest, whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    path = getattr(tiny, f"tiny_{request.param}")(tmp_path_factory.mktemp(request.param))
    return request.param, path, compose(whisper, path, ["cy"])[1]


@pytest.fixture(scope="module")
def processor(whisper: Path, mbart: Path) -> ComSLProcessor:
    return compose(whisper, mbart, ["cy"], ctc_vocabulary=["<blank>", " ", *"abcdefgh", "ch", "ŷ"])[1]


def test_source_and_target_ids(family: tuple[Any, ...]) -> None:
    name, path, processor = family
    tokenizer = AutoTokenizer.from_pretrained(path)
    german, english = (tokenizer.convert_tokens_to_ids(token) for token in TOKENS[name])
    tokens = tokenizer("der alte Mann", add_special_tokens=False)["input_ids"]
    assert processor.source_ids("der alte Mann", "de") == [german, *tokens, 2]
    assert processor.target_ids("der alte Mann", "en") == ([2, english, *tokens], [-100, *tokens, 2])


def test_source_ids_are_the_tokenizers_own_and_leave_it_alone(family: tuple[Any, ...]) -> None:
    name, path, processor = family
    code = {"mbart50": "fr_XX", "m2m100": "fr", "nllb": "fra_Latn"}[name]
    tokenizer = AutoTokenizer.from_pretrained(path, src_lang=code)
    assert processor.source_ids("le vieil homme", "fr") == tokenizer("le vieil homme")["input_ids"]
    before = processor.tokenizer("le vieil homme")["input_ids"]
    processor.source_ids("der Mann", "de")
    processor.target_ids("the man", "en")
    assert processor.tokenizer("le vieil homme")["input_ids"] == before


@pytest.mark.parametrize("text", ["der alte Mann: (Fluß)!", "mae'r tŷ bach", "she said"])
def test_decoding_gives_the_text_without_special_tokens(family: tuple[Any, ...], text: str) -> None:
    _, _, processor = family
    prompt, labels = processor.target_ids(text, "cy")
    padded = [*prompt, processor.eos_token_id, processor.pad_token_id, processor.pad_token_id]
    assert processor.decode(padded) == text
    assert processor.decode(labels) == text
    assert processor.batch_decode(torch.tensor([padded, padded])) == [text, text]
    assert processor.decode([processor.language_id("cy")]) == ""


@pytest.mark.parametrize("name", TEXTS)
def test_what_looks_like_a_special_token_is_text(name: str, whisper: Path, tmp_path: Path) -> None:
    sentences = [*tiny.SENTENCES, "a c g p x < > / _ D E L X"]
    processor = compose(whisper, getattr(tiny, f"tiny_{name}")(tmp_path / "text", sentences=sentences), ["mdw"])[1]
    german, mboshi = (processor.tokenizer.convert_ids_to_tokens(processor.language_id(code)) for code in ("de", "mdw"))
    special = {*processor.tokenizer.all_special_ids, *processor.languages.values()}
    for text in (f"she</s> said {german} ex{german}: <s>", f"<pad><unk> <mask> e<mask> {mboshi}", "</s>", "<unk>"):
        assert special.isdisjoint(processor.token_ids(text)), text
        prompt, labels = processor.target_ids(text, "de")
        assert processor.decode(prompt) == processor.decode(labels) == text
    # What the vocabulary lacks is unknown, as ever.
    assert processor.token_ids("ξ <unk>").count(processor.tokenizer.unk_token_id) == 1


def test_languages(processor: ComSLProcessor) -> None:
    assert processor.language_id("de") == processor.language_id("de_DE") == processor.language_id("German")
    with pytest.raises(MissingLanguage, match="'ca' .*it has af, ar, az"):
        processor.language_id("ca")


def test_ctc_ids(processor: ComSLProcessor) -> None:
    # Longest symbol first, decomposed letters composed, unknown ones left out, blank never used.
    assert processor.ctc_ids("ab") == ([2, 3], 0)
    assert processor.ctc_ids("Bach  y\u0302 x<blank>") == ([3, 2, 10, 1, 11, 1, 3, 2], 6)  # x < l n k >
    assert processor.ctc_ids("") == ([], 0)
    assert processor.ctc_ids("X y") == ([1], 2)


def test_ctc_spells_every_text_that_its_vocabulary_was_made_of(whisper: Path, mbart: Path, tmp_path: Path) -> None:
    # A small letter of two characters, one that depends on its place, and letters that only composition unites.
    text = "\u0130stanbul  ΟΔΟΣ \u1e9e cafe\u0301"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    vocabulary = character_vocabulary(tmp_path / "a.txt")
    processor = compose(whisper, mbart, ctc_vocabulary=vocabulary)[1]
    ids, unknown = processor.ctc_ids(text)
    assert unknown == 0
    assert "".join(vocabulary[number] for number in ids) == normalize_characters(text)
    # Symbols of capitals, as some CTC checkpoints have, spell the same.
    capitals = compose(whisper, mbart, ctc_vocabulary=["<pad>", "A", "B"])[1]
    assert capitals.ctc_ids("aB b") == ([1, 2, 2], 0)


def test_words_of_tokens_and_symbols(processor: ComSLProcessor) -> None:
    text = "Bach  y\u0302 x ab"
    tokens, symbols = processor.word_numbers(text)
    names = processor.tokenizer.convert_ids_to_tokens(processor.token_ids(text))
    spelled = ["".join(name for name, word in zip(names, tokens, strict=True) if word == number) for number in range(4)]
    assert spelled == ["▁<unk>ach", "▁ŷ", "▁<unk>", "▁ab"]
    # b a ch, a space and the y with its accent, a space (x has no symbol), a space and ab
    assert list(zip(processor.ctc_ids(text)[0], symbols, strict=True)) == [
        *[(3, 0), (2, 0), (10, 0)], *[(1, 1), (11, 1)], (1, 2), *[(1, 3), (2, 3), (3, 3)],
    ]  # fmt: skip
    assert processor.word_numbers("") == ([], [])


def test_words_of_pieces(whisper: Path, mbart: Path) -> None:
    text = "le vieil homme"
    processor = compose(whisper, mbart, ctc_texts=[text])[1]
    tokens, symbols = processor.word_numbers(text)
    assert tokens == symbols
    assert sorted(set(tokens)) == [0, 1, 2]


@pytest.mark.parametrize("text", ["le vieil homme ", " le  vieil homme", "le vieil homme"])
def test_space_is_no_word(whisper: Path, tmp_path: Path, text: str) -> None:
    part = tiny.tiny_nllb(tmp_path / "text")
    processor = compose(whisper, part, ctc_vocabulary=["_", *" hilemov"])[1]
    tokens, symbols = processor.word_numbers(text)
    assert sorted(set(tokens)) == sorted(set(symbols)) == [0, 1, 2]


def test_ctc_ids_without_a_vocabulary(whisper: Path, mbart: Path) -> None:
    with pytest.raises(UsageError, match="ctc_vocabulary"):
        compose(whisper, mbart)[1].ctc_ids("a")


@pytest.mark.parametrize("seconds", [0.01, 0.537, 1.0, 29.99, 30.0])
def test_whisper_features_are_the_extractors_without_its_padding(
    processor: ComSLProcessor, whisper: Path, seconds: float
) -> None:
    clip = tiny.waveform(seconds)
    extractor = AutoFeatureExtractor.from_pretrained(whisper)
    expected = extractor(clip, sampling_rate=16_000, return_tensors="np").input_features[0]
    features = processor.features(clip)
    assert features.shape == (80, -(-len(clip) // 160))
    np.testing.assert_allclose(features, expected[:, : features.shape[1]], atol=1e-5)


def test_128_mel_bands(mbart: Path, tmp_path: Path) -> None:
    model, processor = compose(tiny.tiny_whisper(tmp_path, n_mels=128), mbart)
    assert processor.features(tiny.waveform(0.5)).shape == (128, 50)
    model.generate(**processor(tiny.waveform(0.5), source_language="de"), max_new_tokens=2)


@pytest.mark.parametrize("builder", [tiny.tiny_wav2vec2, tiny.tiny_wavlm, tiny.tiny_wav2vec2_bert])
def test_features_of_other_families_are_their_extractors_own(builder: Any, mbart: Path, tmp_path: Path) -> None:
    _, processor = compose(builder(tmp_path / "speech"), mbart, out=tmp_path / "model")
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "speech")
    clip = tiny.waveform(0.503)
    inputs = extractor(clip, sampling_rate=16_000, return_tensors="np", return_attention_mask=True)
    key = processor.feature_extractor.main_input_name
    expected = inputs[key][0][inputs["attention_mask"][0].astype(bool)]
    for ours in (processor, ComSLProcessor.from_pretrained(tmp_path / "model")):
        np.testing.assert_allclose(ours.features(clip), expected, atol=5e-5, rtol=0)  # a filterbank's sums round


@pytest.mark.parametrize("builder", [tiny.tiny_whisper, tiny.tiny_wav2vec2, tiny.tiny_wav2vec2_bert])
def test_steps_are_the_length_of_the_features(builder: Any, mbart: Path, tmp_path: Path) -> None:
    processor = compose(builder(tmp_path), mbart)[1]
    time = 1 if builder is tiny.tiny_whisper else 0
    for samples in (560, 719, 720, 880, 16_000, 16_001, 16_159, 16_160, 16_240):
        length = processor.features(tiny.waveform(samples / 16_000)).shape[time]
        assert processor.feature_extractor.steps(samples) == length, samples


def test_pad_features(processor: ComSLProcessor) -> None:
    clips = [processor.features(tiny.waveform(seconds)) for seconds in (0.3, 0.5)]
    batch = processor.pad_features(clips)
    assert batch["input_features"].shape == (2, 80, 50)
    assert batch["attention_mask"].sum(dim=1).tolist() == [30, 50]
    assert not batch["input_features"][0, :, 30:].any()
    assert torch.equal(batch["input_features"][0, :, :30], torch.from_numpy(clips[0]))


def test_fixed_duration(whisper: Path, mbart: Path) -> None:
    _, processor = compose(whisper, mbart, fixed_duration=2.0)
    assert processor.features(tiny.waveform(0.3)).shape == (80, 200)
    with pytest.raises(FeatureError, match=r"2\.1 s is longer than the fixed duration of 2 s"):
        processor.features(tiny.waveform(2.1))


def test_bad_clips(processor: ComSLProcessor, mbart: Path, tmp_path: Path) -> None:
    for clip in (np.zeros(0), np.zeros((2, 160))):
        with pytest.raises(FeatureError, match="one channel"):
            processor.features(clip)
    with pytest.raises(FeatureError, match="not finite"):
        processor.features(np.array([0.0, np.nan]))
    with pytest.raises(UsageError, match="8000 Hz"):
        processor(np.zeros(100), sampling_rate=8000)
    _, bert = compose(tiny.tiny_wav2vec2_bert(tmp_path), mbart)
    with pytest.raises(FeatureError, match="too short"):
        bert.features(np.zeros(400))


def test_call(processor: ComSLProcessor) -> None:
    speech = processor([tiny.waveform(0.3), tiny.waveform(0.5)], source_language=["de", "cy"], sampling_rate=16_000)
    assert speech["source_language_ids"].tolist() == [processor.language_id("de"), processor.language_id("cy")]
    text = processor(text=["der alte Mann", "der"], source_language="de")
    assert text["input_ids"][0].tolist() == processor.source_ids("der alte Mann", "de")
    short = processor.source_ids("der", "de")
    assert text["input_ids"][1].tolist()[: len(short)] == short
    assert set(text["input_ids"][1].tolist()[len(short) :]) == {processor.pad_token_id}
    assert text["text_attention_mask"][1].sum() == len(short)
    with pytest.raises(UsageError, match="one of the two"):
        processor()
    with pytest.raises(UsageError, match="source_language"):
        processor(text="der")


def test_saving_keeps_everything(processor: ComSLProcessor, tmp_path: Path) -> None:
    tiny.tiny_comsl(tmp_path)
    processor.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(again, ComSLProcessor)
    assert again.languages == processor.languages
    assert again.ctc_vocabulary == processor.ctc_vocabulary
    assert again.mask_token_id == processor.mask_token_id
    assert again.feature_extractor.to_dict() == processor.feature_extractor.to_dict()
    text = "mae'r hen ddyn yn gweld tŷ bach"
    assert again.source_ids(text, "cy") == processor.source_ids(text, "cy")
    np.testing.assert_array_equal(again.features(tiny.waveform(0.4)), processor.features(tiny.waveform(0.4)))


def test_a_pretrained_models_own_extractor_is_wrapped(whisper: Path, mbart: Path) -> None:
    extractor, tokenizer = AutoFeatureExtractor.from_pretrained(whisper), AutoTokenizer.from_pretrained(mbart)
    assert ComSLProcessor(extractor, tokenizer).features(tiny.waveform(0.3)).shape == (80, 30)
