import pytest

from comsl.inference.clips import join_texts, longest_clip
from comsl.model import SpeechLengthError
from tests.tiny import tiny_comsl


def test_longest_clip(tmp_path):
    """The tiny text model has 128 positions, two of them not for frames; 50 frames a second before the strides."""
    assert longest_clip(*tiny_comsl(tmp_path / "plain")) == pytest.approx(126 / 12.5, rel=0.01)
    assert longest_clip(*tiny_comsl(tmp_path / "long", adapter_strides=(2, 2, 2))) == pytest.approx(
        126 / 6.25, rel=0.01
    )
    assert longest_clip(*tiny_comsl(tmp_path / "fixed", fixed_duration=5.0)) == pytest.approx(5.0)


def test_longest_clip_of_a_fixed_duration(tmp_path):
    """Every clip has the 30 seconds' frames, whatever its length: 94 with strides of 16, 375 with strides of 4."""
    longest = longest_clip(*tiny_comsl(tmp_path / "fits", adapter_strides=(2, 2, 2, 2), fixed_duration=30.0))
    assert longest == 28.0
    with pytest.raises(SpeechLengthError, match="30 s makes 375 frames of every clip, more than the 127"):
        longest_clip(*tiny_comsl(tmp_path / "too_long", fixed_duration=30.0))


def test_joined_texts():
    assert join_texts(["Guten Morgen.", "", None, "Wie geht es?"], "de") == "Guten Morgen. Wie geht es?"
    assert join_texts(["早上好。", "你好吗？"], "zh") == "早上好。你好吗？"
    assert join_texts(["おはよう。", None, "元気？"], "ja_XX") == "おはよう。元気？"
    assert join_texts([], "en") == join_texts([None, ""], "xx") == ""
