"""Speech for the tests: espeak-ng's, made once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from comsl.demo.speech import Voice, synthesize

SENTENCES = (
    "Am Montag fährt die alte Lehrerin mit dem Zug nach Berlin.",
    "Der kleine Hund schläft im Garten.",
    "Ja.",
    "Morgen kaufen wir drei rote Äpfel auf dem Markt.",
)


def say(text: str, variant: str = "", seconds: float = 0.0) -> np.ndarray:
    """German, with ``seconds`` of silence at both ends."""
    return synthesize(text, Voice("de", variant), silence=(seconds, seconds))


def talkative(model: Any, processor: Any) -> None:
    """Keep a random model from answering with special tokens only, which decode to nothing."""
    silent = [*processor.tokenizer.all_special_ids, *processor.languages.values()]
    model.text_model.final_logits_bias[0, silent] = -50.0
    model.text_model.final_logits_bias[0, processor.eos_token_id] = -1.0


@pytest.fixture(scope="session")
def sentences() -> list[np.ndarray]:
    return [say(text) for text in SENTENCES]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, sentences: list[np.ndarray]) -> Path:
    """talk.wav (four sentences with pauses), a.wav ... d.wav (one each), silence.wav, and things that are not audio."""
    path = tmp_path_factory.mktemp("audio")
    pause = np.zeros(16_000, np.float32)
    talk = np.concatenate([part for sentence in sentences for part in (pause, sentence)])
    for name, samples in {"talk": talk, "silence": pause, **dict(zip("abcd", sentences, strict=True))}.items():
        soundfile.write(path / f"{name}.wav", samples, 16_000)
    (path / "empty.wav").touch()
    (path / "text.wav").write_text("this is not audio")
    soundfile.write(path / "blip.wav", np.full(160, 0.1), 16_000)
    soundfile.write(path / "short.wav", np.full(1000, 0.1), 16_000)
    soundfile.write(path / "nan.wav", np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    return path
