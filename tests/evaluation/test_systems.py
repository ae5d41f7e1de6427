from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from comsl.errors import ComSLError
from comsl.evaluation import systems
from comsl.evaluation.systems import ModelDecoder, load_decoder, longest_clip, split_long
from comsl.inference.decode import DecodingOptions
from comsl.inference.segment import Segment
from tests.tiny import tiny_comsl, tiny_mbart50, tiny_whisper, waveform

OPTIONS = DecodingOptions(beam=1, max_new_tokens=5)


def test_short_clips_stay_whole() -> None:
    clip = waveform(2.0)
    assert split_long(clip, None)[0] is clip
    assert split_long(clip, 2.0)[0] is clip


def test_silence_too_long_for_the_model_gives_nothing(tmp_path: Path) -> None:
    decoder = ModelDecoder(*tiny_comsl(tmp_path / "model"), OPTIONS)
    silence = decoder.prepare(np.zeros(16_000 * 12, np.float32))
    assert silence == []
    heard, nothing = decoder.speech([decoder.prepare(waveform(1.0)), silence], ["de", "cy"], ["en", "en"], "translate")
    assert len(heard.tokens) > 0
    assert (nothing.text, nothing.tokens) == ("", [])


def test_long_clips_are_decoded_segment_by_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = ModelDecoder(*tiny_comsl(tmp_path / "model"), OPTIONS)
    # 128 positions at 12.5 frames a second, two of them not for frames
    assert longest_clip(decoder.model, decoder.processor) == pytest.approx(126 / 12.5)
    monkeypatch.setattr(systems, "segment", lambda clip, longest: [Segment(0.0, 1.0), Segment(5.0, 7.5)])
    clip = waveform(12.0)
    parts = decoder.prepare(clip)
    assert [part.shape[1] for part in parts] == [100, 250]
    whole = decoder.speech([parts, decoder.prepare(waveform(1.5, 1))], ["de", "cy"], ["en", "en"], "translate")
    alone = decoder.speech([[part] for part in parts], ["de", "de"], ["en", "en"], "translate")
    assert whole[0].tokens == alone[0].tokens + alone[1].tokens
    lengths = [len(hypothesis.tokens) + 1 for hypothesis in alone]
    mean = sum(length * hypothesis.score for length, hypothesis in zip(lengths, alone, strict=True)) / sum(lengths)
    assert whole[0].score == pytest.approx(mean)


def test_half_precision_is_for_the_disk(tmp_path: Path) -> None:
    model, _ = tiny_comsl(tmp_path / "model")
    model.half().save_pretrained(tmp_path / "model")
    loaded = load_decoder(tmp_path / "model", OPTIONS, "cpu").model
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded.output_weight, model.output_weight.float())


def test_other_checkpoints_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ComSLError, match="whisper is a model of type 'whisper', not a ComSL model"):
        load_decoder(tiny_whisper(tmp_path / "whisper"), OPTIONS)
    with pytest.raises(ComSLError, match="'mbart', not a ComSL model"):
        load_decoder(tiny_mbart50(tmp_path / "mbart"), OPTIONS)
    with pytest.raises(ComSLError, match="nothing"):
        load_decoder(tmp_path / "nothing", OPTIONS)
