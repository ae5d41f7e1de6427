"""compose(): every family from the hub's file layout, new languages, and no weight that silently starts at random."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoProcessor,
    HubertConfig,
    HubertForCTC,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    WhisperForConditionalGeneration,
)
from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES as M2M100_CODES
from transformers.models.mbart50.tokenization_mbart50 import FAIRSEQ_LANGUAGE_CODES as MBART50_CODES
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES as NLLB_CODES
from transformers.utils import logging

from comsl.data.collate import Collator
from comsl.data.dataset import Example
from comsl.data.errors import DataError
from comsl.errors import UsageError
from comsl.languages import LANGUAGES, UnknownLanguage
from comsl.model import ComposeError, MissingLanguage, ModelLoadError, compose, load_model, loading
from comsl.objectives import JointModel, ObjectiveSet
from tests import tiny

TEXTS = {"mbart50": "cy_XX", "m2m100": "__mdw__", "nllb": "mdw_Latn"}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    path = tmp_path_factory.mktemp("parts")
    return {name: getattr(tiny, f"tiny_{name}")(path / name) for name in ("whisper", "wav2vec2", *TEXTS)}


@pytest.fixture
def text_copy(parts: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(parts["mbart50"], tmp_path / "text"))


def test_parts_keep_their_weights(parts: dict[str, Path]) -> None:
    model, _ = compose(parts["whisper"], parts["mbart50"])
    speech = WhisperForConditionalGeneration.from_pretrained(parts["whisper"]).get_encoder().state_dict()
    text = AutoModelForSeq2SeqLM.from_pretrained(parts["mbart50"]).state_dict()
    for ours, theirs in ((model.speech_encoder.encoder.state_dict(), speech), (model.text_model.state_dict(), text)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert all(p.isfinite().all() and p.std() > 0 for name, p in model.adapter.named_parameters() if "norm" not in name)
    assert model.ctc_head is None


def test_adapter_starts_from_the_seed(parts: dict[str, Path]) -> None:
    def weights(**settings: Any) -> dict[str, torch.Tensor]:
        letters = ["<blank>", " ", "a"]
        return compose(parts["whisper"], parts["mbart50"], ["cy"], ctc_vocabulary=letters, **settings)[0].state_dict()

    torch.manual_seed(1)
    first = weights()
    drawn = torch.rand(1)
    again, other = weights(seed=0), weights(seed=1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    differing = {name.split(".")[0] for name in first if not torch.equal(first[name], other[name])}
    assert differing == {"adapter", "ctc_head"}
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn), "the caller's random numbers are its own"


@pytest.mark.parametrize("text", TEXTS)
def test_new_languages_start_as_a_copy_and_survive_saving(text: str, parts: dict[str, Path], tmp_path: Path) -> None:
    original = AutoModelForSeq2SeqLM.from_pretrained(parts[text])
    compose(parts["whisper"], parts[text], {"cy": "en", "mdw": None}, tmp_path)
    model, processor = load_model(tmp_path)
    assert processor.tokenizer.convert_tokens_to_ids(TEXTS[text]) in processor.languages.values()
    pairs = [("mdw", "sw"), *([("cy", "en")] if text == "mbart50" else [])]
    for new, related in pairs:
        new_id, related_id = processor.language_id(new), processor.language_id(related)
        assert new_id != related_id
        for weight in (model.text_encoder.embed_tokens.weight, model.output_weight):
            assert torch.equal(weight[new_id], weight[related_id])
        if model.output_bias is not None:
            assert model.output_bias[new_id] == model.output_bias[related_id]
    old = original.get_input_embeddings().weight
    untouched = [i for i in range(len(old)) if i not in (processor.language_id("mdw"), processor.mask_token_id)]
    assert torch.equal(model.output_weight[untouched], old[untouched])
    # No rows beyond the new tokens (M2M-100 has room for them in its eight made-up words).
    expected = {"mbart50": len(old) + 2, "m2m100": len(old), "nllb": len(old) + 1}[text]
    assert model.output_weight.shape[0] == model.config.vocab_size == expected
    if model.output_bias is not None:
        assert model.output_bias.shape == (expected,)


@pytest.mark.parametrize("listed", [True, False])
def test_new_m2m100_token_never_takes_the_number_of_a_language(
    listed: bool, parts: dict[str, Path], tmp_path: Path
) -> None:
    text = tiny.tiny_m2m100(tmp_path / "text", listed=listed)
    before = compose(parts["whisper"], text)[1]
    _, processor = compose(parts["whisper"], text, ["mdw"], tmp_path / "model")
    for reloaded in (processor, load_model(tmp_path / "model")[1]):
        assert {code: reloaded.languages[code] for code in before.languages} == before.languages
        numbers = [reloaded.tokenizer.convert_tokens_to_ids(LANGUAGES[code].m2m100) for code in before.languages]
        assert numbers == list(before.languages.values())
        assert len({*reloaded.languages.values(), reloaded.mask_token_id}) == len(reloaded.languages) + 1


def test_final_logits_bias_of_a_new_language_is_the_related_ones(text_copy: Path, parts: dict[str, Path]) -> None:
    state = load_file(text_copy / "model.safetensors")
    state["final_logits_bias"] = torch.arange(state["final_logits_bias"].numel(), dtype=torch.float32)[None]
    save_file(state, text_copy / "model.safetensors", metadata={"format": "pt"})
    model, processor = compose(parts["whisper"], text_copy, {"cy": "en"})
    assert model.output_bias[processor.language_id("cy")] == processor.language_id("en")


def test_language_the_model_has_keeps_its_token(parts: dict[str, Path]) -> None:
    plain = compose(parts["whisper"], parts["nllb"])[1]
    _, processor = compose(parts["whisper"], parts["nllb"], {"cy": "en", "tr": None})
    assert processor.languages == plain.languages


@pytest.mark.parametrize("text", TEXTS)
def test_every_language_token_is_reachable(text: str, parts: dict[str, Path]) -> None:
    tokens = {
        "mbart50": MBART50_CODES,
        "m2m100": [f"__{code}__" for code in M2M100_CODES["m2m100"]],
        "nllb": NLLB_CODES,
    }[text]
    model, processor = compose(parts["whisper"], parts[text])
    ids = [processor.tokenizer.convert_tokens_to_ids(token) for token in tokens]
    assert sorted(processor.languages.values()) == sorted(ids)
    assert model.config.languages == processor.languages
    assert [processor.language_id(token) for token in tokens] == ids
    assert all(processor.language_id(code) == number for code, number in processor.languages.items())


def test_new_languages_from_all_of_the_table(parts: dict[str, Path]) -> None:
    _, processor = compose(parts["whisper"], parts["mbart50"], {"br": "fr", "zho_Hant": "zh", "yue": "zh"})
    tokens = {code: processor.tokenizer.convert_ids_to_tokens(processor.language_id(code)) for code in ("br", "yue")}
    assert tokens == {"br": "br_XX", "yue": "yue_XX"}
    assert processor.language_id("zh-TW") == processor.languages["zho_Hant"] != processor.language_id("zh")
    with pytest.raises(UsageError, match="new language 'br': name a related language"):
        compose(parts["whisper"], parts["mbart50"], ["br"])


def test_erm_reads_every_layer_of_m2m100_in_training(parts: dict[str, Path], tmp_path: Path) -> None:
    """M2M-100 drops layers by default, and a dropped layer would have no state to read."""
    text = tiny.tiny_m2m100(tmp_path / "text", encoder_layerdrop=0.9, decoder_layerdrop=0.9)
    compose(parts["whisper"], text, out=tmp_path / "model")
    objectives = ObjectiveSet({"erm": {"weight": 1.0, "layer": 2}, "st": {"weight": 1.0}})
    for model, processor in (load_model(tmp_path / "model"), compose(parts["whisper"], text)):
        encoder_config = model.config.text_config
        assert encoder_config.encoder_layerdrop == encoder_config.decoder_layerdrop == 0.0
        rows = [
            Example(
                number, f"{number}", (0, 0, number), "de", "en", "der alte Mann", "the old man",
                processor.features(tiny.waveform(0.5)), 0.5,
            )
            for number in range(2)
        ]  # fmt: skip
        batch = Collator(processor, objectives.fields)(rows)
        joint = JointModel(model.train(), objectives)
        for _ in range(5):
            joint(batch).loss.backward()
            assert all(layer.fc1.weight.grad.abs().sum() > 0 for layer in model.text_encoder.layers[:2])
            joint.zero_grad()


def test_positions_of_the_text_model(parts: dict[str, Path], tmp_path: Path) -> None:
    expected = {"mbart50": 128, "m2m100": None, "nllb": None}
    for name, positions in expected.items():
        model, processor = compose(parts["whisper"], parts[name], out=tmp_path / name)
        assert model.max_positions == processor.max_positions == positions
        assert load_model(tmp_path / name)[1].max_positions == positions
        assert AutoProcessor.from_pretrained(tmp_path / name).max_positions == positions


def test_a_text_of_all_positions_can_be_learnt_and_no_longer_one(parts: dict[str, Path], tmp_path: Path) -> None:
    text = tiny.tiny_mbart50(tmp_path / "text", max_position_embeddings=12)
    model, processor = compose(parts["whisper"], text)
    sentence = "the old man sees a small house near the river"
    while len(processor.source_ids(sentence, "en")) > 12:
        sentence = sentence[:-1]
    assert len(processor.source_ids(sentence, "en")) == 12
    objectives = ObjectiveSet({"mt": {"weight": 1.0, "teacher_share": 0.0}})
    collator = Collator(processor, objectives.fields)
    fits = Example(0, "a", (0, 0, 0), "en", "de", sentence, sentence)
    assert torch.isfinite(JointModel(model, objectives)(collator([fits])).loss)
    longer = Example(1, "b", (0, 0, 1), "en", "de", "old", sentence + " river")
    with pytest.raises(DataError, match="row 'b': its translation is 1. tokens long .* positions for 12; split"):
        collator([fits, longer])


@pytest.mark.parametrize("terminal", [True, False])
def test_only_downloads_have_bars_and_only_on_a_terminal(
    terminal: bool, parts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    seen = []

    def download(path: Any, **_: Any) -> Any:
        seen.append((are_progress_bars_disabled(), logging.is_progress_bar_enabled()))
        return AutoConfig.from_pretrained(path)

    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    enable_progress_bars()
    loading._read(parts["mbart50"], "config.json", download)
    assert seen == [(not terminal, False)]
    assert not are_progress_bars_disabled()
    compose(parts["whisper"], parts["mbart50"], out=tmp_path)
    assert capfd.readouterr().err == ""


def test_languages_can_be_restricted(parts: dict[str, Path]) -> None:
    model, processor = compose(parts["whisper"], parts["mbart50"], ["cy"], languages=["de", "cy", "en"])
    assert list(processor.languages) == list(model.config.languages) == ["de", "cy", "en"]


def test_languages_can_be_spelled_in_any_way(parts: dict[str, Path]) -> None:
    codes = compose(parts["whisper"], parts["mbart50"], {"cy": "en"}, languages=["de", "en", "cy", "zh"])[1]
    names = {"Welsh": "English"}
    model, processor = compose(parts["whisper"], parts["mbart50"], names, languages=["German", "en_XX", "CY", "zh-CN"])
    assert processor.languages == model.config.languages == codes.languages
    assert processor.source_ids("der", "de") == codes.source_ids("der", "de")


@pytest.mark.parametrize("names", [["de", "German"], ["de", "en", "de"]])
def test_a_language_named_twice(names: list[str], parts: dict[str, Path]) -> None:
    message = f"languages: 'de' and '{names[-1]}' are one language, de; name it once"
    with pytest.raises(UsageError, match=f"^{message}"):
        compose(parts["whisper"], parts["mbart50"], languages=names)
    with pytest.raises(UsageError, match=f"^new_{message}"):
        compose(parts["whisper"], parts["mbart50"], names)
    with pytest.raises(UsageError, match="'cy' and 'Welsh' are one language"):
        compose(parts["whisper"], parts["mbart50"], {"cy": "en", "Welsh": "de"})


@pytest.mark.parametrize(
    ("model_class", "config_class"), [(Wav2Vec2ForCTC, Wav2Vec2Config), (HubertForCTC, HubertConfig)]
)
def test_checkpoints_fine_tuned_for_ctc(
    model_class: Any, config_class: Any, parts: dict[str, Path], tmp_path: Path
) -> None:
    original = model_class(config_class(**tiny.WAVEFORM_SIZES))
    original.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    model, _ = compose(tmp_path, parts["mbart50"])
    expected = original.base_model.state_dict()
    ours = model.speech_encoder.encoder.state_dict()
    assert set(expected) - set(ours) == {"masked_spec_embed"}  # masking is a setting of the data here
    assert all(torch.equal(ours[name], expected[name]) for name in ours)


def test_pytorch_model_bin(parts: dict[str, Path], tmp_path: Path) -> None:
    copies = []
    for name in ("whisper", "mbart50"):
        copy = Path(shutil.copytree(parts[name], tmp_path / name))
        torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
        (copy / "model.safetensors").unlink()
        copies.append(copy)
    torch.manual_seed(0)
    model, _ = compose(*copies)
    torch.manual_seed(0)
    expected, _ = compose(parts["whisper"], parts["mbart50"])
    state = expected.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_parts_of_comsl_models(parts: dict[str, Path], tmp_path: Path) -> None:
    letters = ["<blank>", " ", "a"]
    first, _ = compose(parts["wav2vec2"], parts["mbart50"], ["cy"], tmp_path / "first", ctc_vocabulary=letters)
    model, processor = compose(tmp_path / "first", tmp_path / "first", ctc_vocabulary=letters, seed=1)
    state = first.state_dict()
    ours = model.state_dict()
    assert all(torch.equal(ours[name], state[name]) for name in ours if not name.startswith("adapter."))
    assert not torch.equal(ours["adapter.layers.0.conv.weight"], state["adapter.layers.0.conv.weight"])
    assert "cy" in processor.languages
    assert processor.feature_extractor.kind == "waveform"
    other, _ = compose(tmp_path / "first", parts["nllb"], ctc_vocabulary=["<blank>", "b", "c"], seed=2)
    assert not torch.equal(other.ctc_head.weight, first.ctc_head.weight)
    mixed, _ = compose(parts["whisper"], tmp_path / "first")
    assert mixed.main_input_name == "input_features"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dtype(dtype: torch.dtype, parts: dict[str, Path], tmp_path: Path) -> None:
    model, _ = compose(parts["whisper"], parts["mbart50"], ["cy"], tmp_path, ctc_vocabulary=["-", "a"], dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert load_model(tmp_path)[0].dtype == dtype


def test_settings_reach_the_configuration(parts: dict[str, Path], tmp_path: Path) -> None:
    compose(parts["whisper"], parts["mbart50"], out=tmp_path, adapter_strides=(2,), fixed_duration=5.0)
    model, processor = load_model(tmp_path)
    assert model.config.adapter_strides == [2]
    assert model.config.fixed_duration == processor.fixed_duration == 5.0
    assert model.config.mask_token_id == processor.mask_token_id


def test_a_fixed_duration_is_not_inherited(parts: dict[str, Path], tmp_path: Path) -> None:
    compose(parts["whisper"], parts["mbart50"], out=tmp_path, fixed_duration=5.0)
    for seconds in (None, 3.0):
        model, processor = compose(tmp_path, parts["mbart50"], fixed_duration=seconds)
        assert model.config.fixed_duration == processor.fixed_duration == seconds


def test_missing_weights_are_named(text_copy: Path, parts: dict[str, Path]) -> None:
    state = load_file(text_copy / "model.safetensors")
    for name in ("model.encoder.layers.1.fc1.weight", "model.decoder.layer_norm.bias"):
        del state[name]
    save_file(state, text_copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ComposeError, match=r"2 weights are missing.*decoder\.layer_norm\.bias, .*layers\.1\.fc1\.weight"
    ):
        compose(parts["whisper"], text_copy)


def test_missing_speech_weights_are_named_but_a_missing_decoder_is_not(parts: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(parts["whisper"], tmp_path / "speech"))
    state = {name: value for name, value in load_file(copy / "model.safetensors").items() if ".decoder." not in name}
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    compose(copy, parts["mbart50"])
    del state["model.encoder.conv2.weight"]
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ComposeError, match=r"1 weights are missing.*encoder\.conv2\.weight"):
        compose(copy, parts["mbart50"])


def test_weights_of_another_shape_are_named(text_copy: Path, parts: dict[str, Path]) -> None:
    state = load_file(text_copy / "model.safetensors")
    state["model.encoder.layer_norm.bias"] = torch.zeros(5)
    save_file(state, text_copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ComposeError, match=r"of another shape.*encoder\.layer_norm\.bias"):
        compose(parts["whisper"], text_copy)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "config.json"),
        ("model.safetensors", "model.safetensors"),
        ("sentencepiece.bpe.model", "is a file of the tokenizer missing"),
    ],
)
def test_missing_files_of_the_text_part(name: str, message: str, text_copy: Path, parts: dict[str, Path]) -> None:
    (text_copy / name).unlink()
    with pytest.raises(ComposeError, match=message) as caught:
        compose(parts["whisper"], text_copy)
    assert str(text_copy) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_and_wrong_checkpoints(text_copy: Path, parts: dict[str, Path]) -> None:
    with pytest.raises(ComposeError, match="no such directory"):
        compose(parts["whisper"].parent / "nothing", text_copy)
    with pytest.raises(ComposeError, match="a mbart model cannot be the speech part; use one of whisper"):
        compose(text_copy, text_copy)
    with pytest.raises(ComposeError, match="a whisper model cannot be the text part; use one of mbart"):
        compose(parts["whisper"], parts["whisper"])
    with pytest.raises(ModelLoadError, match="not a ComSL model"):
        load_model(text_copy)
    with (text_copy / "model.safetensors").open("r+b") as file:
        file.truncate(2000)
    with pytest.raises(ComposeError, match="cannot load its weights"):
        compose(parts["whisper"], text_copy)


def test_languages_that_make_no_sense(parts: dict[str, Path]) -> None:
    with pytest.raises(UnknownLanguage):
        compose(parts["whisper"], parts["mbart50"], {"qq": "en"})
    with pytest.raises(MissingLanguage, match="related language 'mdw'"):
        compose(parts["whisper"], parts["mbart50"], {"cy": "mdw"})
    with pytest.raises(MissingLanguage, match="'cy'"):
        compose(parts["whisper"], parts["mbart50"], languages=["cy"])


def test_text_model_without_language_tokens_is_an_error(text_copy: Path, parts: dict[str, Path]) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *"abcdefgh"])}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>")), unk_token="<unk>", eos_token="</s>"
    )
    for file in ("sentencepiece.bpe.model", "tokenizer_config.json"):
        (text_copy / file).unlink()
    tokenizer.save_pretrained(text_copy)
    with pytest.raises(UsageError, match="no language tokens such as de_DE"):
        compose(parts["whisper"], text_copy)
