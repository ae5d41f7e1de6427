"""What has been seen since the last log line, and how the development score went; saved with every checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor


class Progress:
    """Sums that the next log line averages, and the scores that choose checkpoints and stop the training.

    The sums stay tensors on their device until they are logged: reading them would wait for the device at every step.
    """

    def __init__(self, more_is_better: bool) -> None:
        self.more_is_better = more_is_better
        self.scores: dict[int, tuple[float, float]] = {}
        """Step -> score and loss on the development set."""
        self.stopped = False
        """Early stopping has ended the training."""
        self._terms: dict[str, tuple[Any, Any]] = {}
        self._speech_seconds: Any = 0.0
        self._tokens: Any = 0.0
        self._since = time.monotonic()

    # --------------------------------------------------------------------------------------------------- averages

    def add_terms(self, terms: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Local (sum, count) of every term of a batch."""
        for name, (total, count) in terms.items():
            before = self._terms.get(name, (0.0, 0.0))
            self._terms[name] = (before[0] + total.detach().float(), before[1] + count)

    def add_amounts(self, speech_seconds: Tensor, tokens: list[Tensor]) -> None:
        """Of a global batch: seconds of speech and target tokens."""
        self._speech_seconds = self._speech_seconds + speech_seconds
        self._tokens = sum(tokens, self._tokens)

    def drain(self, gather: Callable[[Any], list[Any]]) -> dict[str, float]:
        """Averages and rates since the last call, over all ranks."""
        everywhere = gather(self._local_terms())
        seconds = max(time.monotonic() - self._since, 1e-9)
        logs: dict[str, float] = {}
        for name in {name: None for terms in everywhere for name in terms}:
            total = sum(terms[name][0] for terms in everywhere if name in terms)
            count = sum(terms[name][1] for terms in everywhere if name in terms)
            logs[name] = total / max(count, 1.0)
            logs[f"{name}_count"] = count
        logs["seconds"] = seconds
        logs["speech_hours_per_hour"] = float(self._speech_seconds) / seconds
        logs["tokens_per_second"] = float(self._tokens) / seconds
        self._terms, self._speech_seconds, self._tokens = {}, 0.0, 0.0
        self._since = time.monotonic()
        return logs

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time in here (evaluating, saving) does not count against the training's rates."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._since += time.monotonic() - start

    def _local_terms(self) -> dict[str, tuple[float, float]]:
        return {name: (float(total), float(count)) for name, (total, count) in self._terms.items()}

    # ----------------------------------------------------------------------------------------------------- scores

    def add_score(self, step: int, score: float, loss: float) -> bool:
        """Whether it is the best so far."""
        self.scores[step] = (score, loss)
        return self.best_step == step

    def best_steps(self, number: int) -> list[int]:
        """The steps with the best scores, best first. A score that is NaN is the worst.

        Of equal scores the one with the lower loss is better: BLEU stays 0 for a while when a model starts from
        nothing, which is neither a reason to stop nor to prefer the first checkpoint.
        """
        sign = -1.0 if self.more_is_better else 1.0

        def order(item: tuple[int, tuple[float, float]]) -> tuple[bool, float, float, int]:
            step, (score, loss) = item
            return (math.isnan(score), 0.0 if math.isnan(score) else sign * score, loss, step)

        return [step for step, _ in sorted(self.scores.items(), key=order)[:number]]

    @property
    def best_step(self) -> int | None:
        return next(iter(self.best_steps(1)), None)

    @property
    def best_score(self) -> float | None:
        return None if self.best_step is None else self.scores[self.best_step][0]

    @property
    def without_improvement(self) -> int:
        """Evaluations since the best one."""
        return sum(step > self.best_step for step in self.scores) if self.best_step is not None else 0

    # ------------------------------------------------------------------------------------------------------ state

    def state(self) -> dict[str, Any]:
        return {
            "scores": dict(self.scores),
            "stopped": self.stopped,
            "terms": self._local_terms(),
            "speech_seconds": float(self._speech_seconds),
            "tokens": float(self._tokens),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.scores, self.stopped = dict(state["scores"]), state["stopped"]
        self._terms = dict(state["terms"])
        self._speech_seconds, self._tokens = state["speech_seconds"], state["tokens"]
        self._since = time.monotonic()
