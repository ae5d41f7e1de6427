"""Scoring at CoVoST 2's size: ``python -m benchmarks.scoring``.

Writes manifests with as many rows as CoVoST 2's test sets (21 languages into English, 96,780 rows) of random sentences,
and what two made-up systems say of them; then measures ``comsl score`` of both, ``comsl compare`` between them, and
sacreBLEU's own bootstrap of the largest language alone: wall-clock and processor seconds, and peak memory of the whole
process.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from comsl.data.corpora.covost2.published import published_size
from comsl.data.manifest import write_manifest
from comsl.evaluation.metrics import INTO_ENGLISH

SACREBLEU = """
import sys
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest
references, first, second = (open(path, encoding="utf-8").read().split("\\n")[:-1] for path in sys.argv[1:])
for metric in (BLEU(), CHRF(word_order=2)):
    PairedTest([("a", first), ("b", second)], {"metric": metric}, [references], "bs", 1000)()
"""


def vocabulary(seed: int, letters: str) -> list[str]:
    """Words, more or less as long as real ones."""
    rng = random.Random(seed)
    return ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(8000)]


def sentences(rng: random.Random, words: list[str], count: int) -> list[str]:
    """About 9 words each, as in Common Voice."""
    return [" ".join(rng.choices(words, k=rng.randint(4, 14))).capitalize() + "." for _ in range(count)]


def noisy(rng: random.Random, words: list[str], texts: list[str], wrong: float) -> Iterator[str]:
    for text in texts:
        yield " ".join(rng.choice(words) if rng.random() < wrong else word for word in text.split())


def write_world(folder: Path, share: float) -> dict[str, int]:
    """``LANG.jsonl``, ``LANG.{reference,a,b,heard}.txt``; returns the number of rows of each language."""
    rng, english, foreign = random.Random(0), vocabulary(1, "etaoinshrdlcumw"), vocabulary(2, "aeiourlnstbdgkmpvz")
    sizes = {}
    for code in INTO_ENGLISH:
        sizes[code] = max(1, round(share * published_size(code, "en", "test").rows))
        references, transcripts = (sentences(rng, words, sizes[code]) for words in (english, foreign))
        write_manifest(
            (
                {"id": f"{code}/{n}", "audio": f"{n}.mp3", "duration": 5.0, "source_language": code,
                 "target_language": "en", "transcript": transcript, "translation": reference}
                for n, (transcript, reference) in enumerate(zip(transcripts, references, strict=True))
            ),
            folder / f"{code}.jsonl",
        )  # fmt: skip
        texts = {
            "reference": references,
            "a": noisy(rng, english, references, 0.3),
            "b": noisy(rng, english, references, 0.295),
            "heard": noisy(rng, foreign, transcripts, 0.2),
        }
        for name, lines in texts.items():
            (folder / f"{code}.{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return sizes


def measure(name: str, words: list[str]) -> None:
    """Run one command and print its seconds and peak memory."""
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{name}: exit code {process.returncode}")
    wall, processor = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
    print(f"{name:40}  {wall:7.1f} s  {processor:7.1f} s CPU  {usage.ru_maxrss / 1e6:6.2f} GB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__.split("\n")[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the rows of each test set (default 1)")
    share = parser.parse_args().share
    comsl = [sys.executable, "-m", "comsl"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = write_world(folder, share)
        print(f"{len(sizes)} languages, {sum(sizes.values())} rows")
        for system in ("a", "b"):
            words = ["--system", system, "--out", str(folder / system)]
            words += ["--manifest", *(str(folder / f"{code}.jsonl") for code in sizes)]
            words += ["--hypotheses", *(str(folder / f"{code}.{system}.txt") for code in sizes)]
            words += ["--transcripts", *(str(folder / f"{code}.heard.txt") for code in sizes)]
            measure(f"comsl score, system {system}", [*comsl, "score", *words])
        folders = [str(folder / "a"), str(folder / "b")]
        measure("comsl compare", [*comsl, "compare", *folders, "--system", "a", "--system-b", "b"])
        largest = max(sizes, key=lambda code: sizes[code])
        files = [str(folder / f"{largest}.{name}.txt") for name in ("reference", "a", "b")]
        measure(f"sacreBLEU's bootstrap, {largest} alone", [sys.executable, "-c", SACREBLEU, *files])


if __name__ == "__main__":
    main()
