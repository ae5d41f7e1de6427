"""Speech encoders: what a clip gives depends on that clip alone, and is what transformers gives for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModel, WhisperModel

from comsl.model import ComSLConfig, ComSLForConditionalGeneration, SpeechLengthError, compose
from tests import tiny

FAMILIES = ("whisper", "wav2vec2", "wav2vec2_large", "hubert", "wavlm", "wav2vec2_bert")
# An odd number of mel frames, a length between two frames, the shortest of all, the longest.
SECONDS = (1.01, 0.537, 0.1, 2.013)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_mbart50(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    path = getattr(tiny, f"tiny_{request.param}")(tmp_path_factory.mktemp(request.param))
    model, processor = compose(path, text)
    features = [processor.features(tiny.waveform(seconds, seed)) for seed, seconds in enumerate(SECONDS)]
    return request.param, path, model.eval(), processor, features


def encode(model: Any, batch: dict[str, torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Speech frames and adapted frames of each row, cut to their true lengths."""
    with torch.no_grad():
        hidden, lengths = model.encode_speech(batch[model.main_input_name], batch["attention_mask"])
        adapted, short = model.adapter(hidden, lengths)
    assert torch.equal(short, model.adapted_lengths(batch["attention_mask"]))
    rows = zip(hidden, lengths, adapted, short, strict=True)
    return [(frames[:count], shorter[:few]) for frames, count, shorter, few in rows]


def assert_rows_equal(rows: Any, expected: Any) -> None:
    for row, reference in zip(rows, expected, strict=True):
        for value, wanted in zip(row, reference, strict=True):
            assert value.shape == wanted.shape
            torch.testing.assert_close(value, wanted, atol=1e-5, rtol=1e-5)


def test_clip_alone_in_a_batch_and_with_more_padding(family: tuple[Any, ...]) -> None:
    name, _, model, processor, features = family
    alone = [encode(model, processor.pad_features([clip]))[0] for clip in features]
    batch = processor.pad_features(features)
    assert_rows_equal(encode(model, batch), alone)
    # Noise, not silence, behind the end: what is there must not be read.
    speech = batch[model.main_input_name]
    shape = list(speech.shape)
    shape[2 if name == "whisper" else 1] = 333
    more = {
        model.main_input_name: torch.cat([speech, torch.randn(shape)], dim=2 if name == "whisper" else 1),
        "attention_mask": torch.cat(
            [batch["attention_mask"], torch.zeros(len(features), 333, dtype=torch.long)], dim=1
        ),
    }
    assert_rows_equal(encode(model, more), alone)


# transformers' Whisper encoder takes 30 s only; the next test compares with that.
@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "whisper"], indirect=True)
def test_clip_gives_what_the_pretrained_model_gives(family: tuple[Any, ...]) -> None:
    _, path, model, processor, features = family
    extractor = AutoFeatureExtractor.from_pretrained(path)
    original = AutoModel.from_pretrained(path).eval()
    ours = encode(model, processor.pad_features(features))
    for seed, seconds in enumerate(SECONDS):
        inputs = extractor(tiny.waveform(seconds, seed), sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            expected = original(**inputs).last_hidden_state[0, : len(ours[seed][0])]
        torch.testing.assert_close(ours[seed][0], expected, atol=1e-4, rtol=0)  # transformers' filterbank rounds


def test_whisper_full_30_seconds_equal_transformers(text: Path, tmp_path: Path) -> None:
    path = tiny.tiny_whisper(tmp_path / "speech")
    model, processor = compose(path, text)
    original = WhisperModel.from_pretrained(path).get_encoder().eval()
    extractor = AutoFeatureExtractor.from_pretrained(path)
    clip = tiny.waveform(30.0)
    mel = extractor(clip, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        expected = original(mel).last_hidden_state
        hidden, lengths = model.eval().encode_speech(mel, None)
    torch.testing.assert_close(hidden, expected, atol=1e-5, rtol=0)
    assert lengths.tolist() == [1500]
    ours = encode(model, processor.pad_features([processor.features(clip)]))[0][0]
    torch.testing.assert_close(ours, expected[0], atol=1e-4, rtol=0)


def test_fixed_duration_is_whispers_own_regime(text: Path, tmp_path: Path) -> None:
    path = tiny.tiny_whisper(tmp_path / "speech")
    model, processor = compose(path, text, fixed_duration=30.0)
    original = WhisperModel.from_pretrained(path).get_encoder().eval()
    clip = tiny.waveform(1.3)
    mel = AutoFeatureExtractor.from_pretrained(path)(clip, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        expected = original(mel).last_hidden_state
    ours = encode(model.eval(), processor.pad_features([processor.features(clip)]))[0][0]
    torch.testing.assert_close(ours, expected[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("frames", "expected"), [(1, 1), (2, 1), (3, 2), (4, 2), (101, 51), (3000, 1500)])
def test_whisper_output_lengths(frames: int, expected: int) -> None:
    config = ComSLConfig(
        speech_config={"model_type": "whisper", "d_model": 16, "encoder_attention_heads": 2},
        text_config={"model_type": "mbart", "vocab_size": 10, "d_model": 16},
    )
    with torch.device("meta"):
        model = ComSLForConditionalGeneration(config)
    assert model.speech_encoder.output_lengths(torch.tensor([frames])).tolist() == [expected]


def test_longer_than_the_positions_is_an_error_with_the_length(text: Path, tmp_path: Path) -> None:
    model, processor = compose(tiny.tiny_whisper(tmp_path / "speech", max_source_positions=50), text)
    assert model.max_duration == 1.0
    fits = processor.pad_features([processor.features(tiny.waveform(1.0))])
    model.encode_speech(fits["input_features"], fits["attention_mask"])
    batch = processor.pad_features([processor.features(tiny.waveform(0.5)), processor.features(tiny.waveform(1.02))])
    with pytest.raises(SpeechLengthError, match=r"1\.02 s is longer than the 1 s"):
        model.encode_speech(batch["input_features"], batch["attention_mask"])


def test_longer_than_the_text_positions_is_an_error(tmp_path: Path) -> None:
    model, processor = compose(
        tiny.tiny_wav2vec2(tmp_path / "speech"), tiny.tiny_mbart50(tmp_path / "text", max_position_embeddings=10)
    )
    batch = processor(tiny.waveform(2.0), source_language="de")
    with pytest.raises(SpeechLengthError, match="takes 26 positions after the adapter, more than the 10"):
        model.generate(**batch)


def test_shorter_than_one_frame_is_an_error(text: Path, tmp_path: Path) -> None:
    model, processor = compose(tiny.tiny_wav2vec2(tmp_path / "speech"), text)
    batch = processor(tiny.waveform(0.01), source_language="de")
    with pytest.raises(SpeechLengthError, match="shorter than one frame"):
        model.generate(**batch)


@pytest.mark.parametrize("builder", [tiny.tiny_wav2vec2_large, tiny.tiny_wav2vec2_bert])
def test_a_checkpoints_own_length_adapter_does_not_see_padding(builder: Any, text: Path, tmp_path: Path) -> None:
    path = builder(tmp_path / "speech", add_adapter=True, num_adapter_layers=1, output_hidden_size=16)
    model, processor = compose(path, text)
    features = [processor.features(tiny.waveform(seconds, seed)) for seed, seconds in enumerate(SECONDS)]
    alone = [encode(model.eval(), processor.pad_features([clip]))[0] for clip in features]
    assert_rows_equal(encode(model, processor.pad_features(features)), alone)


def test_training_randomness_of_whisper(text: Path, tmp_path: Path) -> None:
    path = tiny.tiny_whisper(tmp_path / "speech", dropout=0.5, encoder_layerdrop=0.5)
    model, processor = compose(path, text)
    batch = processor.pad_features([processor.features(tiny.waveform(0.5))])
    model.train()
    first, _ = model.encode_speech(batch["input_features"], batch["attention_mask"])
    second, _ = model.encode_speech(batch["input_features"], batch["attention_mask"])
    assert not torch.equal(first, second)
    model.eval()
    assert_rows_equal(encode(model, batch), encode(model, batch))
