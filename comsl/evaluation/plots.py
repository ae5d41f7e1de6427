"""Pictures for the report, as PNG bytes; drawn without a display."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from comsl.evaluation.attention import Attention

Curve = Sequence[tuple[float, float]]
"""Points (step, value)."""


def curves_png(panels: Mapping[str, Mapping[str, Curve]]) -> bytes:
    """Learning curves, one panel a key ("loss", "development set"), several named curves in each."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.5 * columns, 3.5 * rows), layout="constrained")
    for place, (title, curves) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, columns, place)
        for name, points in curves.items():
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, label=name, linewidth=1.3, marker="." if len(points) < 40 else None)
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="x-small", frameon=False)
    return png(figure)


def attention_png(attention: Attention) -> bytes:
    """The attention map over time, with the log-mel spectrogram above it where there is one."""
    spectrogram = attention.spectrogram is not None
    height = 1.0 + 0.24 * len(attention.tokens)
    ratios = [1.0, height] if spectrogram else [height]
    figure = Figure(figsize=(8.0, sum(ratios) + 0.6), layout="constrained")
    panels = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    if spectrogram:
        mel_extent = (0.0, attention.seconds, 0.0, 1.0)
        panels[0].imshow(attention.spectrogram, aspect="auto", origin="lower", extent=mel_extent, cmap="magma")
        panels[0].set_yticks([])
        panels[0].set_ylabel("log-mel")
    extent = (0.0, attention.seconds, len(attention.tokens) - 0.5, -0.5)
    panels[-1].imshow(attention.weights, aspect="auto", extent=extent, cmap="viridis", interpolation="nearest")
    panels[-1].set_yticks(np.arange(len(attention.tokens)), [plain(token) for token in attention.tokens], fontsize=8)
    panels[-1].set_xlabel("seconds of speech")
    return png(figure)


def plain(token: str) -> str:
    """A dollar would start a formula."""
    return token.replace("$", r"\$")


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # scripts that the built-in font lacks
        FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
