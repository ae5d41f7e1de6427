import hashlib
import json
import logging
import time
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from comsl.data.sampler import BucketBatchSampler


def durations(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(4, 1.2, rows).clip(0.3, 20)


def flat(batches: list[list[int]]) -> list[int]:
    return [row for batch in batches for row in batch]


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", [1, 2, 7, 100, 1003])
@pytest.mark.parametrize("epoch", [0, 1, 17])
def test_each_row_once_over_all_ranks(rows: int, world_size: int, epoch: int) -> None:
    costs = durations(rows)
    seen: list[int] = []
    lengths = set()
    repeated = 0
    for rank in range(world_size):
        sampler = BucketBatchSampler(costs, 60, rank=rank, world_size=world_size, seed=3)
        sampler.set_epoch(epoch)
        batches = list(sampler)
        lengths.update((len(batches), len(sampler)))
        seen += flat(batches)
        repeated = sampler.repeated_batches
        for batch in batches:
            assert costs[batch].max() * len(batch) <= 60 + 1e-6
    assert len(lengths) == 1
    assert set(seen) == set(range(rows))
    if repeated == 0:
        assert len(seen) == rows
    else:
        assert rows < 2 * world_size  # one row a batch, and not a multiple of the ranks
        assert len(seen) == rows + repeated


def test_repeated_batches_are_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    sampler = BucketBatchSampler([1.0] * 5, 1, world_size=4)
    assert len(sampler) == 2
    assert sampler.repeated_batches == 3
    assert "3 batches of every epoch are repetitions" in caplog.text
    counts = Counter(flat(sampler.epoch_batches(0)))
    assert set(counts) == set(range(5))
    assert sum(counts.values()) == 8


def test_length_is_the_same_in_every_epoch() -> None:
    sampler = BucketBatchSampler(durations(500), 40, max_batch_size=12)
    for epoch in range(30):
        sampler.set_epoch(epoch)
        assert len(list(sampler)) == len(sampler)


def test_deterministic_and_different_between_epochs_and_seeds() -> None:
    def batches(seed: int, epoch: int) -> list[list[int]]:
        sampler = BucketBatchSampler(durations(300), 60, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert batches(1, 2) == batches(1, 2)
    first, second = batches(1, 0), batches(1, 1)
    assert first != second
    # Not only their order: hardly a batch has the same rows again.
    again = {frozenset(batch) for batch in first} & {frozenset(batch) for batch in second}
    assert len(again) < len(first) / 10
    assert batches(2, 0) != first


def test_two_ranks_share_what_one_has() -> None:
    """Two ranks see, step by step, what one rank with two accumulation steps sees."""
    costs = durations(400)
    assert len(BucketBatchSampler(costs, 60)) % 2 == 1
    alone = BucketBatchSampler(costs, 60, steps_multiple_of=2)
    assert len(alone) % 2 == 0
    pair = [list(BucketBatchSampler(costs, 60, rank=rank, world_size=2)) for rank in (0, 1)]
    assert [batch for both in zip(*pair, strict=True) for batch in both] == list(alone)


def test_padding_is_small() -> None:
    costs = durations(2000)
    batches = list(BucketBatchSampler(costs, 120))
    padded = sum(costs[batch].max() * len(batch) for batch in batches)
    assert padded < 1.2 * costs.sum()
    assert len(batches) < 1.3 * costs.sum() / 120


def test_max_batch_size() -> None:
    assert max(map(len, BucketBatchSampler([0.1] * 100, 100, max_batch_size=7))) == 7
    # Ten times 0.1 is not a rounding error more than 1.
    assert [len(batch) for batch in BucketBatchSampler([0.1] * 30, 1.0)] == [10, 10, 10]


def test_a_row_longer_than_a_batch_is_alone_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    costs = [1.0, 50.0, 2.0, 1.5, 30.0]
    with caplog.at_level(logging.WARNING):
        sampler = BucketBatchSampler(costs, 10)
    assert sampler.oversized_rows == 2
    assert "2 of 5 rows cost more than a batch may" in caplog.text
    batches = list(sampler)
    assert [1] in batches
    assert [4] in batches
    assert sorted(flat(batches)) == [0, 1, 2, 3, 4]


def test_unshuffled_is_longest_first() -> None:
    sampler = BucketBatchSampler([1.0, 3.0, 2.0, 1.0], 4, shuffle=False)
    assert list(sampler) == [[1], [2, 0], [3]]
    sampler.set_epoch(5)
    assert list(sampler) == [[1], [2, 0], [3]]


def test_temperature() -> None:
    """100 and 900 rows: temperature 2 draws 250 and 750, and the small language's rows 2.5 times each."""
    languages = ["cy"] * 100 + ["de"] * 900
    sampler = BucketBatchSampler([1.0] * 1000, 10, languages=languages, temperature=2)
    total: Counter[int] = Counter()
    for epoch in range(4):
        sampler.set_epoch(epoch)
        rows = flat(list(sampler))
        assert len(rows) == 1000
        assert sum(row < 100 for row in rows) == 250
        total.update(rows)
    assert {total[row] for row in range(100)} == {10}  # 4 epochs x 250 draws of 100 rows
    assert {total[row] for row in range(100, 1000)} == {3, 4}


def test_temperature_one_keeps_the_shares_and_every_row() -> None:
    sampler = BucketBatchSampler(durations(50), 20, languages=["a"] * 10 + ["b"] * 40, temperature=1)
    assert sorted(flat(list(sampler))) == list(range(50))


@pytest.mark.parametrize("world_size", [1, 3])
def test_temperature_with_lengths(world_size: int) -> None:
    costs = durations(700)
    languages = ["x" if row % 7 else "y" for row in range(700)]
    sampler = BucketBatchSampler(costs, 60, languages=languages, temperature=3, world_size=world_size)
    for epoch in range(10):
        sampler.set_epoch(epoch)
        batches = sampler.epoch_batches(epoch)
        assert len(batches) == len(sampler) * world_size
        assert all(costs[batch].max() * len(batch) <= 60 + 1e-6 for batch in batches)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"costs": []}, "no rows"),
        ({"costs": [1.0, -1.0]}, "row 1"),
        ({"costs": [1.0, float("nan")]}, "row 1"),
        ({"max_batch_cost": 0}, "max_batch_cost"),
        ({"max_batch_size": 0}, "max_batch_size"),
        ({"rank": 2, "world_size": 2}, "rank"),
        ({"temperature": 2.0}, "language of every row"),
        ({"temperature": 0, "languages": ["a"]}, "temperature"),
        ({"temperature": 2.0, "languages": ["a"], "shuffle": False}, "shuffle"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BucketBatchSampler(**{"costs": [1.0], "max_batch_cost": 10, **arguments})


@pytest.mark.parametrize(
    ("arguments", "digest"),
    [
        ({}, "a42c4c14369d2c72"),
        ({"max_batch_size": 5, "seed": 7}, "bbab589ad9a9a154"),
        ({"shuffle": False}, "3ee3568e0497522a"),
        ({"rank": 1, "world_size": 3, "steps_multiple_of": 2}, "9cd757b244e1851c"),
        ({"temperature": 3.0, "seed": 1}, "074ab6c1f4855918"),
        ({"temperature": 1.5, "rank": 2, "world_size": 4}, "64991d50942f50fc"),
    ],
)
def test_a_seed_gives_the_batches_it_always_gave(arguments: dict, digest: str) -> None:
    """Digests of the first release's batches: a run that is resumed after an update must see what it would have."""
    languages = ["cy" if row % 9 == 0 else "de" if row % 2 else "es" for row in range(3000)]
    sampler = BucketBatchSampler(durations(3000), 60, languages=languages, **arguments)
    batches = []
    for epoch in (0, 5):
        sampler.set_epoch(epoch)
        batches += list(sampler)
    assert hashlib.sha256(json.dumps(batches).encode()).hexdigest()[:16] == digest


def test_languages_may_be_numbers() -> None:
    names = ["cy" if row % 9 == 0 else "de" for row in range(500)]
    numbers = np.array([int(name == "de") for name in names])
    by_name, by_number = (
        BucketBatchSampler(durations(500), 60, languages=languages, temperature=2) for languages in (names, numbers)
    )
    assert list(by_name) == list(by_number)


def test_costs_are_gone_through_twice_to_plan_and_once_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    spans = BucketBatchSampler._spans
    monkeypatch.setattr(BucketBatchSampler, "_spans", lambda self, rows: passes.append(len(rows)) or spans(self, rows))
    sampler = BucketBatchSampler(durations(1000), 60)
    assert passes == [1000, 1000]
    for _ in range(3):
        next(iter(sampler))
    assert passes == [1000] * 5


def test_memory_is_that_of_a_few_arrays() -> None:
    """No list of all rows, whose numbers take 40 bytes each: neither of costs nor of what the other ranks do."""
    rows = 200_000
    costs = durations(rows)
    BucketBatchSampler(costs[:100], 300)  # what numpy loads when it is first used
    tracemalloc.start()
    next(iter(BucketBatchSampler(costs, 300, world_size=8)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 48 * rows


def test_a_million_rows_are_planned_in_seconds() -> None:
    start = time.perf_counter()
    sampler = BucketBatchSampler(durations(1_000_000), 300)
    next(iter(sampler))
    assert time.perf_counter() - start < 30
