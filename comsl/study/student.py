"""Student's t distribution, for differences whose error is estimated from a few seeds."""

from __future__ import annotations

import math

import numpy as np

POINTS = 200_001
LARGE = 1e4
"""Degrees of freedom from which on it is the normal distribution, to four digits."""


class Student:
    """By substituting t = sqrt(n) tan(u), its density in u is a power of the cosine: cos(u)^(n - 1).

    Args:
        degrees: of freedom, n; at least 1, whole or not, infinite too.
    """

    def __init__(self, degrees: float) -> None:
        n = min(max(degrees, 1.0), LARGE)
        # Of many degrees all the mass lies near 0, some 1 / sqrt(n) wide; so the grid does as well.
        self._u = math.pi / 2 * np.linspace(0.0, 1.0, POINTS) ** 2
        density = np.cos(self._u) ** (n - 1)
        area = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(self._u))])
        self._within = area / area[-1]
        self._scale = math.sqrt(n)

    def p(self, t: float) -> float:
        """Of both sides: how likely a value at least as far from 0 is."""
        return float(1.0 - np.interp(math.atan(abs(t) / self._scale), self._u, self._within))

    def quantile(self, probability: float) -> float:
        """Below which a value lies with that probability, 0.5 to 1."""
        return self._scale * math.tan(float(np.interp(2 * probability - 1, self._within, self._u)))
