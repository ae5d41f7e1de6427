"""``comsl prepare covost2`` at scale: seconds and memory of a first run, of one that decodes nothing anew, of a second.

    python -m benchmarks.covost2 --rows 1000000

The corpus is a look-alike with one language of so many clips (links to a few mp3 files of the given length; Common
Voice's clips last 5 s, and decoding takes time by the second).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

from benchmarks.scale.manifests import _WORDS

LINKS = 30_000
"""Names that a file system gives one file at most, with a margin."""
MARKS = ("train", "train", "train_covost", "train", "train", "train", "train", "train", "dev", "test")


def write_clip(path: Path, seconds: float, frequency: float) -> Path:
    """An mp3 as Common Voice has them: mono, 48 kHz, 64 kbit/s."""
    samples = 0.3 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * 48_000)) / 48_000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libmp3lame", rate=48_000)
        stream.layout, stream.bit_rate = "mono", 64_000
        frame = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], format="fltp", layout="mono")
        frame.sample_rate = 48_000
        for piece in (frame, None):
            container.mux(stream.encode(piece))
    return path


def write_corpus(root: Path, rows: int, seconds: float) -> None:
    """``root/fr`` of a release and ``root/covost_v2.fr_en.tsv``; one clip in ten is not translated."""
    clips = root / "fr" / "clips"
    clips.mkdir(parents=True)
    generator = np.random.default_rng(0)
    with (root / "fr" / "validated.tsv").open("w") as table, (root / "covost_v2.fr_en.tsv").open("w") as translated:
        table.write("client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent\n")
        translated.write("path\ttranslation\tsplit\n")
        for number in range(rows + rows // 9):
            if number % LINKS == 0:
                original = write_clip(root / f"{number}.mp3", seconds, 200 + number % 800)
                lengths = generator.integers(5, 16, LINKS).tolist()
            name, words = f"common_voice_fr_{number:08d}.mp3", lengths[number % LINKS]
            os.link(original, clips / name)
            table.write(f"{number % 5000:0128x}\t{name}\t{' '.join(_WORDS[:words])} {number}.\t2\t0\t\t\t\n")
            if number % 10:
                mark = MARKS[number // 10 % 10]
                translated.write(f"{name}\t{' '.join(_WORDS[-words:])} \\\\ {number}!\t{mark}\n")


def measure(root: Path, workers: int) -> dict[str, float]:
    """Seconds by the clock and of all processes' processor time, and MB of the largest process, of one run."""
    command = [sys.executable, "-m", "comsl", "prepare", "covost2", "--covost", str(root), "--common-voice", str(root)]
    command += ["--languages", "fr", "--out", str(root / "out"), "--workers", str(workers), "--partial"]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return {
        "seconds": round(time.perf_counter() - start, 2),
        "processor seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak MB": round(usage.ru_maxrss / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, metavar="N", help="translated rows (default 100000)")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="X", help="of a clip (default 5)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), metavar="N", help="(default: all cores)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_corpus(root, arguments.rows, arguments.seconds)
        for run in ("first run", "texts again, clips known", "second run"):
            if run.startswith("texts"):
                shutil.rmtree(root / "out" / "fr_en")
            print(json.dumps({"run": run, "rows": arguments.rows} | measure(root, arguments.workers)), flush=True)


if __name__ == "__main__":
    main()
