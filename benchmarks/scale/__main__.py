"""How cost grows, and what that predicts: ``python -m benchmarks.scale [PART ...] [--full] [--out DIR]``.

    manifests   start-up and memory of the data at 10^4 .. 10^6 rows (--full: 10^7, 7 GB of disk)
    steps       time and memory of a training step against seconds of speech, vocabulary and model
                (--full: up to the Medium model, 16 GB of memory)
    processes   two processes against one
    prediction  8 GPUs x CoVoST 2, from counted operations and written assumptions
    recipes     the same for every stage of recipes/covost2

All five without PART. Reduced to about four minutes on two cores; --full stays under twenty. Tables go to the screen,
the figures and a plot of each to --out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import description
from benchmarks.scale import manifests, plots, prediction, recipes
from benchmarks.scale.steps import Step, efficiency, in_own_process

PARTS = ("manifests", "steps", "processes", "prediction", "recipes")


def run_manifests(full: bool, out: Path) -> list[dict[str, Any]]:
    sizes = [10**4, 10**5, 10**6, *([10**7] if full else [])]
    with tempfile.TemporaryDirectory() as folder:
        rows = manifests.compare(sizes, [".jsonl", ".parquet"], Path(folder))
    table(rows, ["rows", "format", "start", "file MB", *manifests.STAGES, "total", "imports MB", "peak MB"])
    plots.manifests(rows, out / "manifests.png")
    return rows


def run_steps(full: bool, out: Path) -> dict[str, list[dict[str, Any]]]:
    """Each series changes one thing of the same step."""
    middle = Step(size="small" if full else "tiny")
    batches = [2, 4, 8, 16] if full else [2, 4, 8]
    vocabularies = [8_000, 64_000, 250_056]
    sizes = ["tiny", "small", "medium"] if full else ["tiny", "small"]
    series = {
        "audio seconds": [Step(**{**vars(middle), "utterances": number}) for number in batches],
        "vocabulary": [Step(**{**vars(middle), "vocabulary": number}) for number in vocabularies],
        "size": [Step(size=size, utterances=2) for size in sizes],
    }
    measured = {name: [dict(in_own_process(step)) for step in chosen] for name, chosen in series.items()}
    share = statistics.median(row["share of limit"] for rows in measured.values() for row in rows)
    for name, rows in measured.items():
        for row in rows:
            row["model of cost"] = row["useful GFLOP"] / row["matrix product GFLOP/s"] / share / row["seconds"]
        print(f"\nA step against {name}")
        table(rows, ["size", "vocabulary", "audio seconds", "seconds", "peak MB", "activations MB", *SHARES])
        plots.steps(rows, name, out / f"step_{name.replace(' ', '_')}.png")
    print(
        f"\nModel of cost: useful operations at {share:.0%} of the machine's rate (the median of the rows above);"
        " its column is predicted over measured seconds."
    )
    return measured


SHARES = ["useful GFLOP", "matrix product GFLOP/s", "share of limit", "model of cost"]


def run_processes(full: bool, out: Path) -> dict[str, Any]:
    """Gradients are averaged once a batch, so the larger the batch, the less it costs."""
    result = efficiency(Step(size="small" if full else "tiny", utterances=4))
    megabytes = 4 * result["two"]["trained parameters"] / 2**20
    print(
        f"\nTwo processes, one thread each, {result['two']['audio seconds']:.0f} s of speech in each batch,"
        f" {megabytes:.0f} MB of gradients averaged over gloo: {result['one']['seconds']:.2f} s a step alone,"
        f" {result['two']['seconds']:.2f} s together, efficiency {result['efficiency']:.0%}"
    )
    plots.efficiency(result, out / "processes.png")
    return result


def run_prediction(full: bool, out: Path) -> dict[str, Any]:
    result = prediction.predict(prediction.Assumptions())
    print("\nPredicted, not measured: 8 GPUs x CoVoST 2")
    for name, value in result.items():
        lines = value.items() if isinstance(value, dict) else [("", value)]
        print(f"  {name}" + "".join(f"\n    {key:30} {number:,.3g}" for key, number in lines))
    return result


def run_recipes(full: bool, out: Path) -> list[dict[str, Any]]:
    given = prediction.Assumptions()
    rows = recipes.stages(given)
    print(f"\nPredicted, not measured: the stages of recipes/covost2 on {given.gpus} H100")
    table(rows, list(rows[0]))
    return rows


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    def text(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
        return f"{value:,}" if isinstance(value, int) else str(value)

    cells = [list(columns), *([text(row[column]) for column in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/scale"), help="default: runs/scale")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    runs = {
        "manifests": run_manifests,
        "steps": run_steps,
        "processes": run_processes,
        "prediction": run_prediction,
        "recipes": run_recipes,
    }
    for part in arguments.parts or PARTS:
        result = {"machine": description(), part: runs[part](arguments.full, arguments.out)}
        (arguments.out / f"{part}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
