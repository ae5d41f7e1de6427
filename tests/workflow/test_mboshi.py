"""recipes/mboshi and mboshi-folds in a reduced form: every step by `comsl run`, on a made-up corpus of its layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from comsl import cli
from tests.data.audio_files import tone, write_sound

REPOSITORY = Path(__file__).parents[2]
WORDS = [("bísí lémi", "un mot"), ("wa áyεí", "il est venu"), ("moro apɛrɛ", "l'homme prit le livre")]


def name(number: int) -> str:
    """A word of five syllables, another one for every number: a tokenizer wants something to learn from."""
    return "".join(
        "bdfgklmnprstvz"[number * 5 // 3**place % 14] + "aeiou"[number // 2**place % 5] for place in range(4)
    )


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["", "-folds"])
def test_from_the_corpus_to_the_page(plan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part, count in (("train", 240), ("dev", 4)):
        folder = tmp_path / "corpus" / "full_corpus_newsplit" / part
        folder.mkdir(parents=True)
        for number in range(count):
            both = [WORDS[number % 3], WORDS[number // 3 % 3]]
            said, meant = (" ".join(words) for words in zip(*both, strict=True))
            write_sound(folder / f"anna_{number:03d}.wav", tone(1.2))
            (folder / f"anna_{number:03d}.mb").write_text(f"{said} {name(number + 500)}\n", encoding="utf-8")
            (folder / f"anna_{number:03d}.fr").write_text(
                f"{meant} {name(number)} {number}, {part}\n", encoding="utf-8"
            )
    pairs = tmp_path / "fra.txt"
    pairs.write_text(
        "".join(f"A man, {name(number + 900)}.\tUn homme, {name(number + 900)}.\n" for number in range(40))
    )
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.chdir(REPOSITORY)
    steps = {
        "french_steps": 2,
        "text_steps": 2,
        "speech_steps": 2,
        "masked_steps": 2,
        "pieces_steps": 2,
        "joint_steps": 2,
        "warmup": 1,
        "tuning_warmup": 1,
        "vocabulary": 70,
        "beam": 2,
        "mbr": 2,
    }
    out = tmp_path / "out"
    given = {"corpus": tmp_path / "corpus", "pairs": pairs, "out": out, "page": out / "page.md", **steps}
    settings = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    settings += ["--set", "seeds=[1]"] if not plan else []
    assert cli.main(["run", f"recipes/mboshi{plan}", *settings]) == 0
    page = (out / "page.md").read_text(encoding="utf-8")
    for row in ("direct", "cascade", "mixed", "pooled", "text only", "look-up"):
        assert row in page
