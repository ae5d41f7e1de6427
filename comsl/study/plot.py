"""A study's scores as a picture."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from comsl.evaluation.plots import plain, png
from comsl.study.statistics import Study


def scores_png(study: Study) -> bytes:
    """Mean BLEU of every arm with its 95% interval, and each seed's score, in the order of the table; PNG."""
    results = study.results
    figure = Figure(figsize=(8.0, 0.9 + 0.3 * len(results)), layout="constrained")
    axes = figure.add_subplot()
    for place, result in enumerate(results):
        seeds = result.overall("bleu")
        axes.errorbar(
            np.mean(seeds), place, xerr=study.interval(result, "bleu"), fmt="o", color="C0", capsize=3, markersize=5
        )
        if len(seeds) > 1:
            axes.plot(seeds, [place] * len(seeds), "|", color="C1", markersize=9)
    axes.set_yticks(range(len(results)), [plain(result.arm.label) for result in results], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("mean BLEU, 95% interval; | a seed")
    axes.set_xlim(left=0)
    axes.grid(axis="x", alpha=0.3)
    return png(figure)
