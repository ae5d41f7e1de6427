"""The composite model: its size, its parts, saving and loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoModelForSpeechSeq2Seq, MBartConfig, WhisperConfig

from comsl.errors import ComSLError
from comsl.model import ComSLConfig, ComSLForConditionalGeneration, TextLengthError, compose, load_model
from tests import tiny

TEXT_BUILDERS = {"mbart50": tiny.tiny_mbart50, "m2m100": tiny.tiny_m2m100, "nllb": tiny.tiny_nllb}


@pytest.fixture(scope="module")
def comsl(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    path = tmp_path_factory.mktemp("comsl") / "model"
    model, processor = tiny.tiny_comsl(path)
    return path, model, processor


def inputs(processor: Any, **more: Any) -> dict[str, torch.Tensor]:
    batch = dict(processor([tiny.waveform(1.0), tiny.waveform(0.6, 1)], source_language=["de", "cy"]))
    prompt, labels = zip(
        processor.target_ids("the old man", "en"), processor.target_ids("a house so", "en"), strict=True
    )
    length = min(map(len, prompt))
    batch["decoder_input_ids"] = torch.tensor([row[:length] for row in prompt])
    batch["labels"] = torch.tensor([row[:length] for row in labels])
    return batch | more


def test_medium_has_the_papers_number_of_trainable_parameters() -> None:
    speech = WhisperConfig(
        d_model=1024, encoder_layers=24, encoder_attention_heads=16, encoder_ffn_dim=4096, max_source_positions=1500
    )
    # mBART-50 large and the two languages that the paper adds, Welsh and Catalan.
    text = MBartConfig(vocab_size=250_054 + 2, d_model=1024, encoder_layers=12, decoder_layers=12)
    with torch.device("meta"):
        model = ComSLForConditionalGeneration(ComSLConfig(speech_config=speech, text_config=text))
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert round(trainable / 1e9, 3) == 0.946
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ["speech_encoder.encoder.embed_positions.weight"]


@pytest.mark.parametrize("text", TEXT_BUILDERS)
def test_save_and_load_gives_bit_identical_logits(text: str, tmp_path: Path) -> None:
    model, processor = compose(
        tiny.tiny_whisper(tmp_path / "speech"),
        TEXT_BUILDERS[text](tmp_path / "text"),
        ["cy", "mdw"],
        tmp_path / "model",
        ctc_vocabulary=["<blank>", "a", "b"],
    )
    again, reloaded = load_model(tmp_path / "model")
    batch = inputs(processor)
    with torch.no_grad():
        assert torch.equal(model.eval()(**batch).logits, again(**batch).logits)
    assert again.state_dict().keys() == model.state_dict().keys()
    assert again.text_encoder.embed_tokens.weight is again.output_weight
    assert again.text_decoder.embed_tokens.weight is again.output_weight
    assert reloaded.languages == processor.languages


def test_files_hold_safetensors_and_every_tensor_once(comsl: tuple[Path, Any, Any]) -> None:
    path, model, _ = comsl
    names = {file.name for file in path.iterdir()}
    assert "model.safetensors" in names
    assert not any(name.endswith(".bin") for name in names)
    with safe_open(path / "model.safetensors", "pt") as file:
        vocabulary = [name for name in file.keys() if model.config.vocab_size in file.get_slice(name).get_shape()]  # noqa: SIM118
    assert sorted(vocabulary) == ["text_model.final_logits_bias", "text_model.model.shared.weight"]


def test_auto_classes_find_it(comsl: tuple[Path, Any, Any]) -> None:
    path, _, _ = comsl
    assert isinstance(AutoConfig.from_pretrained(path), ComSLConfig)
    assert isinstance(AutoModelForSpeechSeq2Seq.from_pretrained(path), ComSLForConditionalGeneration)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtype_is_honoured(comsl: tuple[Path, Any, Any], dtype: torch.dtype, tmp_path: Path) -> None:
    path, _, processor = comsl
    model, _ = load_model(path, dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}
    batch = inputs(processor)
    assert torch.isfinite(model(**batch).logits).all()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert load_model(tmp_path)[0].dtype == dtype
    assert ComSLForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).dtype == torch.float32


def test_text_input_is_the_text_model_itself(comsl: tuple[Path, Any, Any]) -> None:
    path, model, processor = comsl
    original = AutoModelForSeq2SeqLM.from_pretrained(Path(f"{path}-parts") / "text").eval()
    batch = processor(text=["der alte Mann", "le vieil homme voit"], source_language=["de", "fr"])
    prompt = torch.tensor([processor.target_ids("the old man", "en")[0]] * 2)
    with torch.no_grad():
        ours = model(**batch, decoder_input_ids=prompt)
        theirs = original(
            input_ids=batch["input_ids"], attention_mask=batch["text_attention_mask"], decoder_input_ids=prompt
        )
    known = theirs.logits.shape[-1]
    torch.testing.assert_close(ours.logits[..., :known], theirs.logits, atol=1e-5, rtol=1e-5)


def test_language_embedding_stands_in_front_scaled_as_in_text(comsl: tuple[Path, Any, Any]) -> None:
    _, model, processor = comsl
    batch = inputs(processor)
    with torch.no_grad():
        hidden, lengths = model.encode_speech(batch["input_features"], batch["attention_mask"])
        embeds, mask = model.embed_speech(hidden, lengths, batch["source_language_ids"])
    welsh = model.output_weight[processor.language_id("cy")] * model.config.hidden_size**0.5
    torch.testing.assert_close(embeds[1, 0], welsh)
    assert torch.equal(mask.sum(dim=1), model.adapted_lengths(batch["attention_mask"]) + 1)
    assert embeds.shape == (2, 1 + 13, model.config.hidden_size)


def test_loss_is_the_mean_over_scored_tokens(comsl: tuple[Path, Any, Any]) -> None:
    _, model, processor = comsl
    batch = inputs(processor)
    with torch.no_grad():
        output = model(**batch)
    scores = output.logits.log_softmax(-1)
    picked = [scores[b, n, t] for b, row in enumerate(batch["labels"].tolist()) for n, t in enumerate(row) if t != -100]
    torch.testing.assert_close(output.loss, -torch.stack(picked).mean())


def test_same_logits_alone_and_in_a_batch(comsl: tuple[Path, Any, Any]) -> None:
    _, model, processor = comsl
    batch = inputs(processor)
    clip = processor(tiny.waveform(0.6, 1), source_language="cy")
    with torch.no_grad():
        together = model(**batch).logits[1]
        alone = model(**clip, decoder_input_ids=batch["decoder_input_ids"][1:]).logits[0]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_gradient_checkpointing_changes_neither_loss_nor_gradients(comsl: tuple[Path, Any, Any]) -> None:
    path, _, processor = comsl
    batch = inputs(processor)
    results = []
    for checkpointing in (False, True):
        model, _ = load_model(path)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        for part in (model.text_encoder, model.text_decoder, *model.text_encoder.layers, *model.text_decoder.layers):
            part.dropout = 0.0
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            assert model.speech_encoder.encoder.layers[0].gradient_checkpointing
            assert model.text_decoder.layers[0].gradient_checkpointing
        loss = model(**batch).loss
        loss.backward()
        results.append((loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (loss, gradients), (checkpointed, others) = results
    torch.testing.assert_close(loss, checkpointed)
    assert gradients.keys() == others.keys()
    assert any(name.startswith("speech_encoder.encoder.conv1") for name in gradients)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, others[name], msg=name)


def test_attention_maps_on_request_only(comsl: tuple[Path, Any, Any]) -> None:
    path, model, processor = comsl
    batch = inputs(processor)
    assert model(**batch).cross_attentions is None
    eager = ComSLForConditionalGeneration.from_pretrained(path, attn_implementation="eager").eval()
    with torch.no_grad():
        maps = eager(**batch, output_attentions=True).cross_attentions
    assert len(maps) == 2
    assert maps[0].shape == (2, 4, batch["labels"].shape[1], 1 + 13)
    torch.testing.assert_close(maps[0].sum(-1), torch.ones(maps[0].shape[:-1]))
    valid = int(model.adapted_lengths(batch["attention_mask"])[1]) + 1
    assert not maps[0][1, :, :, valid:].any()


def test_ctc_head(tmp_path: Path) -> None:
    model, processor = tiny.tiny_comsl(tmp_path / "model", ctc_vocabulary=["<blank>", " ", "a", "b"])
    batch = inputs(processor)
    hidden, lengths = model.encode_speech(batch["input_features"], batch["attention_mask"])
    assert model.ctc_head(hidden).shape == (2, 50, 4)
    assert lengths.tolist() == [50, 30]
    assert tiny.tiny_comsl(tmp_path / "without")[0].ctc_head is None


def test_unsupported_text_model_is_an_error() -> None:
    config = ComSLConfig(speech_config={"model_type": "whisper"}, text_config={"model_type": "t5"})
    with pytest.raises(ComSLError, match="'t5' is not supported"), torch.device("meta"):
        ComSLForConditionalGeneration(config)


def test_decoder_ids_are_never_guessed(comsl: tuple[Path, Any, Any]) -> None:
    _, model, processor = comsl
    batch = inputs(processor)
    del batch["decoder_input_ids"]
    with pytest.raises(ValueError, match="decoder_input_ids is missing"):
        model(**batch)


def test_text_longer_than_the_positions_is_an_error(comsl: tuple[Path, Any, Any]) -> None:
    _, model, processor = comsl
    fits = torch.full((1, 128), processor.language_id("de"))
    model.encode(input_ids=fits)
    with pytest.raises(TextLengthError, match="129 tokens is longer than the 128"):
        model.encode(input_ids=torch.full((1, 129), processor.language_id("de")))


@pytest.mark.parametrize(("builder", "layer"), [("whisper", "WhisperEncoderLayer"), ("wavlm", "WavLMEncoderLayer")])
def test_layers_that_fsdp_wraps_are_those_of_the_model(builder: str, layer: str, tmp_path: Path) -> None:
    model, _ = compose(getattr(tiny, f"tiny_{builder}")(tmp_path / "speech"), tiny.tiny_mbart50(tmp_path / "text"))
    names = {type(module).__name__ for module in model.modules()}
    assert {layer, "AdapterLayer", "MBartEncoderLayer", "MBartDecoderLayer"} <= model._no_split_modules <= names


def test_mixed_precision(comsl: tuple[Path, Any, Any]) -> None:
    _, model, processor = comsl
    batch = inputs(processor)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**batch).loss
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, model(**batch).loss, atol=0.1, rtol=0.05)
