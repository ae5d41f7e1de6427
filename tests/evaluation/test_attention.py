from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from comsl.evaluation.attention import cross_attention
from comsl.evaluation.plots import attention_png, curves_png
from comsl.inference.clips import prepare_clip
from comsl.model import compose
from tests.tiny import tiny_comsl, tiny_mbart50, tiny_wav2vec2_bert, waveform

PNG = b"\x89PNG\r\n\x1a\n"


def test_equals_what_the_model_reports(tmp_path: Path) -> None:
    model, processor = tiny_comsl(tmp_path / "model")
    implementation = model.text_model.config._attn_implementation
    clip = prepare_clip(waveform(1.3), processor)
    found = cross_attention(model, processor, clip, "de", "en", "the old man")

    ids, labels = processor.target_ids("the old man", "en")
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(
            input_features=torch.as_tensor(clip.features)[None],
            source_language_ids=torch.tensor([processor.language_id("de")]),
            decoder_input_ids=torch.tensor([ids]),
            output_attentions=True,
        )
    expected = torch.stack(output.cross_attentions).mean((0, 1, 2))  # [positions, 1 + frames]
    np.testing.assert_allclose(found.weights, expected[1:, 1:].numpy(), atol=1e-5)
    np.testing.assert_allclose(found.weights.sum(1) + expected[1:, 0].numpy(), 1.0, atol=1e-5)
    assert len(found.tokens) == len(labels) - 1 == found.weights.shape[0]
    assert found.tokens[-1] == "</s>"
    assert found.seconds == 1.3
    assert implementation != "eager"
    fresh, _ = tiny_comsl(tmp_path / "fresh")
    cross_attention(fresh, processor, clip, "de", "en", "the")
    assert fresh.text_model.config._attn_implementation == implementation
    assert attention_png(found).startswith(PNG)
    np.testing.assert_array_equal(found.spectrogram, clip.features)


def test_silence_of_a_fixed_duration_is_not_shown(tmp_path: Path) -> None:
    model, processor = tiny_comsl(tmp_path / "model", adapter_strides=(2, 2, 2, 2), fixed_duration=30.0)
    clip = prepare_clip(waveform(2.0), processor)
    found = cross_attention(model, processor, clip, "de", "en", "the old man")
    assert found.seconds == 2.0
    assert found.weights.shape[1] == 6  # of 94 frames for 30 seconds
    assert found.spectrogram is not None
    np.testing.assert_array_equal(found.spectrogram, clip.features[:, :200])
    assert attention_png(found).startswith(PNG)


def test_filterbanks_are_no_spectrogram(tmp_path: Path) -> None:
    """A short clip of wav2vec2-BERT's, [T, 160], has no more rows than a spectrogram has bands."""
    model, processor = compose(tiny_wav2vec2_bert(tmp_path / "speech"), tiny_mbart50(tmp_path / "text"))
    clip = prepare_clip(waveform(0.8), processor)
    assert clip.features.shape[0] <= 128
    found = cross_attention(model, processor, clip, "de", "en", "the old man")
    assert found.spectrogram is None
    assert attention_png(found).startswith(PNG)


def test_curves() -> None:
    panels = {"loss": {"training": [(1, 2.0), (2, 1.0)]}, "development set": {"bleu": [(2, 10.0)]}}
    assert curves_png(panels).startswith(PNG)
