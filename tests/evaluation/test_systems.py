from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from comsl.errors import ComSLError, UsageError
from comsl.evaluation import systems
from comsl.evaluation.systems import ModelDecoder, PreparedClip, load_decoder
from comsl.inference.decode import Decoded, DecodingOptions, Hypothesis
from comsl.inference.precision import QuantizedLinear
from comsl.inference.segment import Segment
from comsl.model import compose
from tests.tiny import tiny_comsl, tiny_m2m100, tiny_mbart50, tiny_wav2vec2, tiny_whisper, waveform

OPTIONS = DecodingOptions(beam=1, max_new_tokens=5)


def test_what_can_be_decoded_whole_is_whatever_is_in_it(tmp_path: Path) -> None:
    """Up to 15 seconds, or what the model takes if that is less; silence too, which comsl translate would leave out."""
    sizes = {"few": ((2, 2), 126 / 12.5), "many": ((2, 2, 2), 15.0)}
    for name, (strides, longest) in sizes.items():
        decoder = ModelDecoder(*tiny_comsl(tmp_path / name, adapter_strides=strides), OPTIONS)
        assert decoder.longest_whole == pytest.approx(longest, rel=0.01)
        samples = int(decoder.longest_whole * 16_000)
        clip = decoder.prepare(np.zeros(samples, np.float32))
        assert (clip.whole, len(clip.parts), clip.parts[0].seconds) == (True, 1, samples / 16_000)
        assert decoder.segments(clip) is None
        assert decoder.segments(decoder.prepare(np.zeros(samples + 1, np.float32))) == 0


def test_silence_too_long_for_the_model_gives_nothing(tmp_path: Path) -> None:
    decoder = ModelDecoder(*tiny_comsl(tmp_path / "model"), OPTIONS)
    silence = decoder.prepare(np.zeros(16_000 * 12, np.float32))
    assert silence == PreparedClip([], whole=False)
    clips = [decoder.prepare(waveform(1.0)), silence]
    ((heard, nothing),) = decoder.speech(clips, ["de", "cy"], ["en", "en"], ("translate",))
    assert len(heard.tokens) > 0
    assert (nothing.text, nothing.tokens) == ("", [])


def test_long_clips_are_decoded_segment_by_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = ModelDecoder(*tiny_comsl(tmp_path / "model"), OPTIONS)
    # 128 positions at 12.5 frames a second, two of them not for frames
    assert decoder.max_duration == pytest.approx(126 / 12.5, rel=0.01)
    monkeypatch.setattr(systems, "segment", lambda clip, longest: [Segment(0.0, 1.0), Segment(5.0, 7.5)])
    clip = waveform(12.0)
    long = decoder.prepare(clip)
    assert decoder.segments(long) == 2
    parts = long.parts
    assert [part.features.shape[1] for part in parts] == [100, 250]
    clips = [long, decoder.prepare(waveform(1.5, 1))]
    (whole,) = decoder.speech(clips, ["de", "cy"], ["en", "en"], ("translate",))
    (alone,) = decoder.speech(
        [PreparedClip([part], whole=True) for part in parts], ["de", "de"], ["en", "en"], ("translate",)
    )
    assert whole[0].tokens == alone[0].tokens + alone[1].tokens
    assert [hypothesis.truncated for hypothesis in alone] == [True, True]  # so that neither has an end to count
    lengths = [len(hypothesis.tokens) for hypothesis in alone]
    mean = sum(length * hypothesis.score for length, hypothesis in zip(lengths, alone, strict=True)) / sum(lengths)
    assert whole[0].score == pytest.approx(mean)
    assert whole[0].truncated


def test_modes_are_those_of_the_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each segment is translated from its own transcript and speech; the texts are joined."""
    decoder = ModelDecoder(*tiny_comsl(tmp_path / "model"), OPTIONS)
    monkeypatch.setattr(systems, "segment", lambda clip, longest: [Segment(0.0, 1.0), Segment(5.0, 7.5)])
    long, short = decoder.prepare(waveform(12.0)), decoder.prepare(waveform(1.5, 1))
    parts = [PreparedClip([part], whole=True) for part in long.parts]
    whole, _ = decoder.modes([long, short], ["de", "cy"], ["en", "en"], ("mixed",))
    alone = decoder.modes(parts, ["de"] * 2, ["en"] * 2, ("mixed",))
    assert whole.translations["mixed"].tokens == [t for part in alone for t in part.translations["mixed"].tokens]
    assert whole.transcript.tokens == [token for part in alone for token in part.transcript.tokens]
    deaf = ModelDecoder(decoder.model, decoder.processor, DecodingOptions(transcript="ctc"))
    with pytest.raises(UsageError, match="no CTC head"):
        deaf.check_hearing("direct")
    assert deaf.text(["a b"], ["de"], ["en"])  # a cascade's second half need not hear


def test_half_precision_is_for_the_disk(tmp_path: Path) -> None:
    model, _ = tiny_comsl(tmp_path / "model")
    model.half().save_pretrained(tmp_path / "model")
    loaded = load_decoder(tmp_path / "model", OPTIONS, "cpu").model
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded.get_input_embeddings().weight, model.output_weight.float())


def test_a_precision_can_be_asked_for(tmp_path: Path) -> None:
    tiny_comsl(tmp_path / "model")
    assert isinstance(
        load_decoder(tmp_path / "model", OPTIONS, "cpu", "int8").model.text_model.lm_head, QuantizedLinear
    )


def test_other_checkpoints_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ComSLError, match="whisper is a whisper model, not a ComSL model"):
        load_decoder(tiny_whisper(tmp_path / "whisper"), OPTIONS)
    with pytest.raises(ComSLError, match="is a mbart model, not a ComSL model"):
        load_decoder(tiny_mbart50(tmp_path / "mbart"), OPTIONS)


def refused(path: str | Path) -> str:
    """The one line that a model is refused with."""
    with pytest.raises(ComSLError) as caught:
        load_decoder(path, OPTIONS, "cpu")
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_a_damaged_or_mistyped_model_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model"
    tiny_comsl(path)
    file = path / "model.safetensors"
    weights, whole = load_file(file), file.read_bytes()
    rest = {name: tensor for name, tensor in weights.items() if not name.startswith("adapter.")}
    assert len(rest) < len(weights)
    save_file(rest, file, {"format": "pt"})
    assert "weights are missing" in refused(path)
    assert "adapter." in refused(path)
    file.write_bytes(whole[: len(whole) // 2])
    assert "cannot load its weights" in refused(path)
    assert "no such directory" in refused(tmp_path / "modle")
    monkeypatch.chdir(tmp_path)
    assert "no such directory" in refused("modle")
    for spelling in ("./runz/modle", "../runz", "~/modle", "runz/modle/"):
        assert "no such directory" in refused(spelling)
    (tmp_path / "runs" / "half").mkdir(parents=True)
    assert "no such directory" in refused("runs/modle"), "runs is a directory here"
    assert "no config.json, so no model" in refused("runs/half")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "config.json" in refused("hub/modle"), "could be a hub id"


def test_segments_are_joined_as_the_language_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = ModelDecoder(*tiny_comsl(tmp_path / "model"), OPTIONS)
    pieces = [Hypothesis("一", -1.0, [1]), Hypothesis("", -3.0, []), Hypothesis("二", -2.0, [2], truncated=True)]
    found = [Decoded(piece, {"direct": piece}) for piece in pieces]
    monkeypatch.setattr(systems, "decode_modes", lambda *arguments, **settings: found)
    monkeypatch.setattr(systems, "segment", lambda clip, longest: [Segment(float(at), at + 1.0) for at in range(3)])
    clip = decoder.prepare(waveform(30.0))
    for source, target, expected in (("de", "zh", ["一二", "一 二"]), ("zh", "en", ["一 二", "一二"])):
        joined = decoder.speech([clip], [source], [target], ("translate", "transcribe"))
        assert [text.text for (text,) in joined] == expected
        assert joined[0][0].truncated
        # Two tokens and an end, an end, and a token without end.
        assert joined[0][0].score == pytest.approx((2 * -1.0 - 3.0 - 2.0) / 4)


def test_an_hour_is_cut_whatever_the_model_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = tiny_wav2vec2(tmp_path / "speech"), tiny_m2m100(tmp_path / "text")
    model, processor = compose(*parts, out=tmp_path / "model")
    assert model.max_duration is None
    decoder = ModelDecoder(model, processor, OPTIONS)
    asked = []

    def cut(clip: np.ndarray, longest: float) -> list[Segment]:
        asked.append(longest)
        return [Segment(0.0, 20.0), Segment(1800.0, 1825.0)]

    monkeypatch.setattr(systems, "segment", cut)
    hour = np.broadcast_to(np.float32(0.1), 3600 * 16_000)
    assert [part.seconds for part in decoder.prepare(hour).parts] == [20.0, 25.0]
    assert asked == [28.0]
