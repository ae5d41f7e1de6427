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
from typing import Any

from benchmarks.machine import forget_peak, peak_memory
from benchmarks.translate_systems import Cell, clips, load


def main() -> None:
    warnings.simplefilter("ignore")
    answers = sys.stdout
    cell = Cell(**json.loads(sys.argv[1]))

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    with contextlib.redirect_stdout(sys.stderr):
        system = load(cell)
        loading = peak_memory()
        forget_peak()
        system.translate_clips(clips(1))  # warm-up, of a long file too
        waveforms = clips(cell.clips)

        def run() -> list[int]:
            return system.translate_clips(waveforms) if cell.file is None else system.translate_file(cell.file)

        answer(ready=True)
        for _ in sys.stdin:
            start = time.perf_counter()
            tokens = run()
            answer(seconds=time.perf_counter() - start, tokens=tokens)
        answer(peak=peak_memory(), peak_loading=loading)


if __name__ == "__main__":
    main()
