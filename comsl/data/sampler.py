"""Batches of similar cost: shuffled by (seed, epoch), shared between ranks."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

logger = logging.getLogger(__name__)

Indices = npt.NDArray[np.int64]

# Rows are sorted by cost times exp(noise * normal): about 5% keeps padding small and still mixes neighbours.
_NOISE = 0.05
# Costs that are Python numbers at a time: those of all rows would take five times their array.
_BLOCK = 1 << 16


class BucketBatchSampler(Sampler[list[int]]):
    """Batches whose padded cost (longest row x rows) stays within a bound; a ``batch_sampler`` for DataLoader.

    Rows are sorted by their cost with a little noise, so that a batch holds rows of similar length and its make-up
    differs from epoch to epoch, cut into batches, and the batches shuffled. All of it follows from (seed, epoch) and
    the arguments; nothing but the costs is looked at.

    Every row is in exactly one batch of an epoch. The number of batches is the same in every epoch and a multiple of
    the number of ranks, so that all ranks take equally many steps: where batches are missing for that, the largest
    ones are halved. Only if that leaves none of two rows (every row its own batch, and their number not a multiple of
    the number of ranks) are batches repeated, which ``repeated_batches`` counts and a warning says.

    With ``temperature`` an epoch is a sample instead: it has as many rows as the data set, language l's share of
    them proportional to n_l ** (1 / temperature). Each language's rows are gone through in shuffled rounds that
    continue in the next epoch, so that no row is drawn twice before all of its language were drawn once.

    Args:
        costs: cost of each row (seconds of audio, say), positive.
        max_batch_cost: bound of longest cost x number of rows. A row that alone exceeds it gets a batch of its own;
            ``oversized_rows`` counts them and a warning says so.
        max_batch_size: bound of the number of rows, if any.
        shuffle: False for batches in the order of falling cost, the same in every epoch.
        seed: seed of the order.
        rank: which share of the batches to yield: every ``world_size``-th one, from ``rank`` on.
        world_size: number of ranks.
        languages: language of each row, or a number that stands for it; needed for ``temperature``.
        temperature: 1 keeps the languages' shares, larger values even them out; None draws every row once.
        steps_multiple_of: let the number of batches a rank be a multiple of this (accumulation steps), so
            that no optimizer step is partial, and N ranks go through what one rank with N accumulation steps does.

    Raises:
        ValueError: for arguments that make no sense.
    """

    def __init__(
        self,
        costs: Sequence[float] | npt.NDArray[np.floating],
        max_batch_cost: float,
        max_batch_size: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        languages: Sequence[str] | npt.NDArray[Any] | None = None,
        temperature: float | None = None,
        steps_multiple_of: int = 1,
    ) -> None:
        self.costs = np.asarray(costs, dtype=np.float64)
        self.max_batch_cost = float(max_batch_cost)
        self.max_batch_size = max_batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.temperature = temperature
        self.steps_multiple_of = steps_multiple_of
        self._check(languages)
        self._language_rows, self._language_draws = self._shares(languages)
        self.epoch = 0
        self.repeated_batches = 0
        """Batches of an epoch that are repetitions, over all ranks."""
        self.oversized_rows = int((self.costs > self.max_batch_cost).sum())
        """Rows that cost more than ``max_batch_cost`` alone."""
        self._batches = self._batches_per_epoch()
        self._report()

    def _check(self, languages: Sequence[str] | npt.NDArray[Any] | None) -> None:
        if self.costs.ndim != 1 or self.costs.size == 0:
            raise ValueError("there are no rows to make batches of")
        if not (np.isfinite(self.costs).all() and (self.costs > 0).all()):
            row = int(np.argmin(np.where(np.isfinite(self.costs), self.costs, -np.inf)))
            raise ValueError(f"costs must be positive numbers, row {row} has {self.costs[row]}")
        if not self.max_batch_cost > 0:
            raise ValueError(f"max_batch_cost must be positive, not {self.max_batch_cost}")
        if self.max_batch_size is not None and self.max_batch_size < 1:
            raise ValueError(f"max_batch_size must be at least 1, not {self.max_batch_size}")
        if self.steps_multiple_of < 1:
            raise ValueError(f"steps_multiple_of must be at least 1, not {self.steps_multiple_of}")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank must be between 0 and world_size - 1, not {self.rank} of {self.world_size}")
        if self.temperature is None:
            return
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, not {self.temperature}")
        if not self.shuffle:
            raise ValueError("temperature sampling draws rows at random: it needs shuffle=True")
        if languages is None or len(languages) != self.costs.size:
            raise ValueError("temperature sampling needs the language of every row")

    def _shares(self, languages: Sequence[str] | npt.NDArray[Any] | None) -> tuple[list[Indices], list[int]]:
        """Rows of each language and how many of them an epoch draws."""
        if self.temperature is None or languages is None:
            return [np.arange(self.costs.size)], [self.costs.size]
        names, which = np.unique(np.asarray(languages), return_inverse=True)
        rows = [np.flatnonzero(which == index) for index in range(len(names))]
        weights = np.array([len(some) for some in rows], np.float64) ** (1 / self.temperature)
        exact = weights / weights.sum() * self.costs.size
        draws = np.floor(exact).astype(np.int64)
        draws[np.argsort(draws - exact)[: self.costs.size - int(draws.sum())]] += 1
        return rows, draws.tolist()

    def _report(self) -> None:
        if self.rank:
            return
        if self.oversized_rows:
            logger.warning(
                "%d of %d rows cost more than a batch may (max_batch_cost %g, longest row %g): each gets its own batch",
                self.oversized_rows, self.costs.size, self.max_batch_cost, self.costs.max(),
            )  # fmt: skip
        if self.repeated_batches:
            logger.warning(
                "%d rows cannot be shared evenly between %d ranks: %d batches of every epoch are repetitions",
                self.costs.size, self.world_size, self.repeated_batches,
            )  # fmt: skip

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches of an epoch on this rank: the same on every rank and in every epoch."""
        return self._batches // self.world_size

    def __iter__(self) -> Iterator[list[int]]:
        return self._batches_of(self.epoch, slice(self.rank, None, self.world_size))

    def epoch_batches(self, epoch: int) -> list[list[int]]:
        """The batches of all ranks in one epoch; rank r takes every ``world_size``-th one from the r-th on."""
        return list(self._batches_of(epoch, slice(None)))

    def _batches_of(self, epoch: int, share: slice) -> Iterator[list[int]]:
        """Some of an epoch's batches, made when they are asked for: a list of numbers takes five times its array."""
        rows, spans = self._pack(self._draw(epoch), epoch)
        spans = self._fill_up(spans)
        if self.shuffle:
            spans = spans[np.random.default_rng((self.seed, epoch, 1)).permutation(len(spans))]
        for start, stop in spans[share]:
            yield rows[start:stop].tolist()

    def _draw(self, epoch: int) -> Indices:
        """The rows of an epoch: all, or each language's next ones of its endless shuffled rounds."""
        if self.temperature is None:
            return self._language_rows[0]
        drawn = []
        for language, (rows, draws) in enumerate(zip(self._language_rows, self._language_draws, strict=True)):
            start, stop = epoch * draws, (epoch + 1) * draws
            for lap in range(start // len(rows), -(-stop // len(rows))):
                order = np.random.default_rng((self.seed, lap, 2, language)).permutation(rows)
                first = lap * len(rows)
                drawn.append(order[max(start - first, 0) : stop - first])
        return np.concatenate(drawn)

    def _sorted(self, rows: Indices, epoch: int, noise: float) -> Indices:
        keys = -np.log(self.costs[rows])
        if noise:
            keys = keys + noise * np.random.default_rng((self.seed, epoch, 0)).standard_normal(len(rows))
        return rows[np.argsort(keys, kind="stable")]

    def _spans(self, ordered: Indices) -> Indices:
        """Where the batches of rows in this order start and stop [batches, 2], greedily filled."""
        starts, longest, size = [0], 0.0, 0
        most = self.max_batch_size or len(ordered)
        bound = self.max_batch_cost * (1 + 1e-9)  # so that ten rows of 0.1 fit in 1.0
        for first in range(0, len(ordered), _BLOCK):
            for position, cost in enumerate(self.costs[ordered[first : first + _BLOCK]].tolist(), start=first):
                if cost > longest:
                    longest = cost
                size += 1
                if size > 1 and (size > most or longest * size > bound):
                    starts.append(position)
                    longest, size = cost, 1
        return np.stack([starts, [*starts[1:], len(ordered)]], axis=1)

    def _pack(self, rows: Indices, epoch: int) -> tuple[Indices, Indices]:
        """The epoch's rows in the order of batches, and the spans of at most as many batches as an epoch has."""
        for noise in (_NOISE, _NOISE / 2, _NOISE / 4, _NOISE / 8, 0.0) if self.shuffle else (0.0,):
            ordered = self._sorted(rows, epoch, noise)
            spans = self._spans(ordered)
            if len(spans) <= self._batches:
                return ordered, spans
        # Only a temperature's sample can come here, when it happens to be longer than other epochs' samples.
        logger.warning(
            "epoch %d: the sample is longer than usual, its %d shortest rows are left out",
            epoch, len(ordered) - spans[self._batches, 0],
        )  # fmt: skip
        return ordered, spans[: self._batches]

    def _batches_per_epoch(self) -> int:
        rows = self._draw(0)
        noises = (0.0, _NOISE) if self.shuffle else (0.0,)
        needed = max(len(self._spans(self._sorted(rows, 0, noise))) for noise in noises)
        # Later epochs may need a few more; one that needs still more is packed with less noise.
        share = 0.01 if self.temperature is None else 0.03
        needed += int(share * needed) if self.shuffle else 0
        needed = min(needed, len(rows))
        unit = self.world_size * self.steps_multiple_of
        total = -(-needed // unit) * unit
        self.repeated_batches = max(0, total - len(rows))
        return total

    def _fill_up(self, spans: Indices) -> Indices:
        """Halve the batches of most rows until there are as many as an epoch has."""
        while (missing := self._batches - len(spans)) > 0:
            sizes = spans[:, 1] - spans[:, 0]
            halves = np.argsort(-sizes, kind="stable")[:missing]
            halves = halves[sizes[halves] > 1]
            if not halves.size:
                return np.concatenate([spans, spans[np.arange(missing) % len(spans)]])
            middle = spans[halves, 0] + sizes[halves] // 2
            second = np.stack([middle, spans[halves, 1]], axis=1)
            spans = spans.copy()
            spans[halves, 1] = middle
            spans = np.concatenate([spans, second])
        return spans
