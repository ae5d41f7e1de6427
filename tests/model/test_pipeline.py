"""transformers' pipeline("automatic-speech-recognition") on a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

from comsl.model import SpeechLengthError, compose
from tests import tiny

CLIPS = [tiny.waveform(seconds, seed) for seed, seconds in enumerate((1.0, 0.53, 1.71))]


@pytest.fixture(scope="module", params=["whisper", "wav2vec2_large", "wav2vec2_bert"])
def comsl(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    path = tmp_path_factory.mktemp("pipeline")
    speech = getattr(tiny, f"tiny_{request.param}")(path / "speech")
    model, processor = compose(speech, tiny.tiny_mbart50(path / "text"), out=path / "model")
    return path / "model", model.eval(), processor


@pytest.mark.parametrize(
    "arguments",
    [
        {"source_language": "de", "task": "transcribe"},
        {"source_language": "de", "target_language": "fr"},
        {"source_language": "de", "target_language": "en", "task": "translate", "num_beams": 1},
    ],
)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_pipeline_gives_what_generate_gives(comsl: tuple[Any, ...], arguments: dict[str, Any], batch_size: int) -> None:
    path, model, processor = comsl
    recognise = pipeline("automatic-speech-recognition", model=str(path))
    settings = arguments | {"max_new_tokens": 8}
    texts = [
        output["text"].strip() for output in recognise(list(CLIPS), generate_kwargs=settings, batch_size=batch_size)
    ]
    expected = [
        processor.decode(model.generate(**processor(clip, source_language="de"), **settings)[0]) for clip in CLIPS
    ]
    assert texts == expected


def test_pipeline_never_cuts(tmp_path: Path) -> None:
    tiny.tiny_comsl(tmp_path / "model")
    recognise = pipeline("automatic-speech-recognition", model=str(tmp_path / "model"))
    with pytest.raises(SpeechLengthError, match=r"31\.00 s is longer than the 30 s"):
        recognise(tiny.waveform(31.0), generate_kwargs={"source_language": "de", "max_new_tokens": 2})
