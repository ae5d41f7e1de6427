"""A small training beside other work on the same cores: ``python -m benchmarks.busy_cores``.

`comsl train` of the model that ships, on one clip, with 0, 1 and 2 processes beside it that compute without pause;
with threads that spin while they wait for one another (libgomp's own default), with those that sleep at once, and with
what `comsl` sets: a short spin, then sleep. Wall-clock seconds of whole processes, the kinds in turns, medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
ROW = {
    "audio": str(REPOSITORY / "docs" / "clip.mp3"),
    "transcript": "heute ist es kalt",
    "translation": "it is cold today",
    "source_language": "de",
    "target_language": "en",
}
POLICIES = {"spinning": {"GOMP_SPINCOUNT": "300000"}, "sleeping": {"OMP_WAIT_POLICY": "passive"}, "ours": {}}


def seconds(folder: Path, steps: int, environment: dict[str, str]) -> float:
    """Of one training of that many steps, start-up included."""
    words = ["train", str(REPOSITORY / "recipes/covost2-mini/3-joint.yaml")]
    words += ["--compose.speech", str(REPOSITORY / "comsl/demo/models/speech"), "--compose.ctc_vocabulary", "null"]
    words += ["--compose.ctc_units", "characters", "--compose.adapter", "convolution"]
    words += ["--compose.text", str(REPOSITORY / "comsl/demo/models/text"), "--objectives.ctc", "null"]
    words += ["--teacher", str(REPOSITORY / "comsl/demo/models/text"), "--evaluation.task", "loss"]
    words += ["--data.train", str(folder / "rows.jsonl"), "--data.dev", str(folder / "dev.jsonl")]
    words += ["--training.max_steps", str(steps), "--training.eval_steps", str(steps)]
    words += ["--output_dir", tempfile.mkdtemp(dir=folder)]
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "comsl", *words], capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(done.stderr)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.busy_cores", description=__doc__.split("\n")[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    chosen = parser.parse_args()
    base = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    print(f"processes beside it   {'   '.join(f'{name:>10}' for name in POLICIES)}   spinning / ours")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, rows in {"rows": 320, "dev": 1}.items():
            lines = (json.dumps({"id": f"{name}-{index}"} | ROW) for index in range(rows))
            (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        for neighbours in range(3):
            with ExitStack() as running:
                for _ in range(neighbours):
                    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
                    running.callback(busy.kill)
                turns = [
                    [seconds(folder, chosen.steps, base | policy) for policy in POLICIES.values()]
                    for _ in range(chosen.repetitions)
                ]
            medians = [statistics.median(column) for column in zip(*turns, strict=True)]
            row = "   ".join(f"{median:8.1f} s" for median in medians)
            print(f"{neighbours:19}   {row}   {medians[0] / medians[-1]:8.2f}", flush=True)


if __name__ == "__main__":
    main()
