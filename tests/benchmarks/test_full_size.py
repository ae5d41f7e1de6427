"""The paper's Medium at its full size: a training step and a translation on a machine with 24 GB."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHISPER_MEDIUM_ENCODER = 307_216_384
"""Parameters of openai/whisper-medium's encoder."""
MBART_50 = 610_879_488
"""Parameters of facebook/mbart-large-50-many-to-many-mmt."""
WIDTH = 1024
NEEDED = 20e9


def available_memory() -> int:
    """Bytes."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return 1024 * int(lines["MemAvailable"].split()[0])


@pytest.mark.slow
def test_medium_trains_and_translates_on_24_gigabytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a process of its own, so that the peak is its own; ``python -m benchmarks.full_size`` is the same."""
    if available_memory() < NEEDED:
        pytest.skip(f"{available_memory() / 1e9:.0f} GB of memory are free, {NEEDED / 1e9:.0f} are needed")
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.full_size", "--json", str(tmp_path / "figures.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-2000:]
    with capsys.disabled():
        print("\n" + done.stdout)
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["parameters"]["speech_encoder"] == WHISPER_MEDIUM_ENCODER
    assert found["parameters"]["text_model"] == MBART_50 + 2 * WIDTH
    step = found["train_step"]
    assert step["teacher"] == MBART_50 + 2 * WIDTH
    assert step["peak"] < 24e9
    assert found["translation"]["peak"] < 24e9
    assert found["translation"]["tokens"] == 20
    assert {"asr", "st", "mt", "mt_teacher", "ddm_st", "mtp", "erm"} <= step["terms"].keys()
    # Random weights know nothing of 250,056 tokens, so the cross-entropy is about that of a guess among them.
    for name in ("asr", "st", "mt"):
        assert step["terms"][name] == pytest.approx(math.log(250_056), rel=0.05)
