"""From the command to the answer: ``python -m benchmarks.startup``.

Wall-clock and processor seconds of a whole process, medians of several (the first, which reads the files from disk, is
left out); beside them what importing torch and transformers' base class of models takes by itself.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

CLIP = Path(__file__).parents[1] / "docs" / "clip.mp3"
LIMITS = {"comsl --help": 0.3, "comsl translate docs/clip.mp3": 5.0}
COMMANDS = {
    "comsl --help": ["-m", "comsl", "--help"],
    "import torch": ["-c", "import torch"],
    "import PreTrainedModel": ["-c", "from transformers import PreTrainedModel"],
    "comsl translate docs/clip.mp3": ["-m", "comsl", "translate", str(CLIP), "--source", "de"],
}


def run(words: list[str]) -> tuple[float, float]:
    """Wall-clock and processor seconds of one process."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__.split("\n")[0])
    parser.add_argument("--repetitions", type=int, default=5)
    repetitions = parser.parse_args().repetitions
    print(f"{'':30}     wall      CPU   wanted")
    for name, words in COMMANDS.items():
        walls, processors = zip(*[run(words) for _ in range(repetitions + 1)][1:], strict=True)
        wanted = f"{LIMITS[name]:.1f} s" if name in LIMITS else ""
        print(f"{name:30}  {statistics.median(walls):5.2f} s  {statistics.median(processors):5.2f} s   {wanted}")


if __name__ == "__main__":
    main()
