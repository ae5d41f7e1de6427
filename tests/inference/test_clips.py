import pytest

from comsl.inference.clips import join_texts, longest_clip
from tests.tiny import tiny_comsl


def test_longest_clip(tmp_path):
    """The tiny text model has 128 positions, two of them not for frames; 50 frames a second before the strides."""
    assert longest_clip(*tiny_comsl(tmp_path / "plain")) == pytest.approx(126 / 12.5, rel=0.01)
    assert longest_clip(*tiny_comsl(tmp_path / "long", adapter_strides=(2, 2, 2))) == pytest.approx(
        126 / 6.25, rel=0.01
    )
    assert longest_clip(*tiny_comsl(tmp_path / "fixed", fixed_duration=5.0)) == pytest.approx(5.0)


def test_joined_texts():
    assert join_texts(["Guten Morgen.", "", None, "Wie geht es?"], "de") == "Guten Morgen. Wie geht es?"
    assert join_texts(["早上好。", "你好吗？"], "zh") == "早上好。你好吗？"
    assert join_texts(["おはよう。", None, "元気？"], "ja_XX") == "おはよう。元気？"
    assert join_texts([], "en") == join_texts([None, ""], "xx") == ""
