"""One system at one setting in a process of its own, so that its peak memory is its own.

Started by ``benchmarks.translate`` with the cell as JSON. Prints a line of JSON when it is loaded and warm, one for
every line "run" that it reads, and one at the end of its input.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.translate_systems import Cell, clips, load

STATUS = Path("/proc/self/status")


def reset_peak() -> None:
    """Let the peak resident memory start from what is resident now; Linux only, elsewhere loading counts too."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int | None:
    """Peak resident memory in bytes since ``reset_peak``."""
    if not STATUS.exists():
        return None
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def main() -> None:
    warnings.simplefilter("ignore")
    answers = sys.stdout
    cell = Cell(**json.loads(sys.argv[1]))

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    with contextlib.redirect_stdout(sys.stderr):
        system = load(cell)
        loading = peak()
        reset_peak()
        system.translate_clips(clips(1))  # warm-up, of a long file too
        waveforms = clips(cell.clips)

        def run() -> list[int]:
            return system.translate_clips(waveforms) if cell.file is None else system.translate_file(cell.file)

        answer(ready=True)
        for _ in sys.stdin:
            start = time.perf_counter()
            tokens = run()
            answer(seconds=time.perf_counter() - start, tokens=tokens)
        answer(peak=peak(), peak_loading=loading)


if __name__ == "__main__":
    main()
