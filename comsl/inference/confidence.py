"""How good a translation is likely to be, seen from how well two ways to it agree.

A model that translates speech directly, and by way of its own transcript, makes two attempts with different weaknesses;
where they come out alike, both are likely right. The agreement, and how likely the model finds either, become the
expected chrF of the translation against a reference by a logistic regression, which is fitted on the rows of a
development manifest (``comsl.evaluation.calibrate``) and lies beside the model.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from comsl.errors import ComSLError, UsageError
from comsl.files import write_atomically
from comsl.inference import Mode
from comsl.inference.mbr import chrf
from comsl.inference.options import DecodingOptions, Hypothesis

CALIBRATION = "confidence.json"
"""File in the model's directory."""
COMPARED: tuple[Mode, ...] = ("direct", "cascade")
EVIDENCE = ("intercept", "agreement", "direct", "cascade")
"""What a weight is for: 1, and numbers from 0 to 1."""


def agreement(one: str, other: str) -> float:
    """chrF between two translations, 0 to 1, the mean of both directions."""
    return (chrf(one, other) + chrf(other, one)) / 2


def evidence(direct: Hypothesis, cascade: Hypothesis) -> list[float]:
    """In the order of ``EVIDENCE``; of either translation the geometric mean of its tokens' probabilities."""
    return [1.0, agreement(direct.text, cascade.text), _certainty(direct), _certainty(cascade)]


@dataclass(frozen=True)
class Calibration:
    """What the evidence of one model says about the quality of its translations."""

    weights: dict[str, list[float]]
    """By mode of translating, in the order of ``EVIDENCE``."""
    decoding: dict[str, Any]
    """Settings that the hypotheses were made with (``DecodingOptions.outcome``)."""
    manifests: list[str]
    rows: dict[str, int]
    """How many it was fitted on, by mode."""
    memory: dict[str, float] | None
    """Settings of the memory that pooled listened to (``TranslationMemory.settings``); None: it had none."""

    def confidence(self, mode: str, of: Sequence[float]) -> float:
        """Expected chrF of the mode's translation, 0 to 1, of its ``evidence``."""
        return 1 / (1 + math.exp(-sum(weight * value for weight, value in zip(self.weights[mode], of, strict=True))))

    def check(self, options: DecodingOptions, mode: str | None = None, memory: dict[str, float] | None = None) -> None:
        """UsageError for settings, or a mode (pooled: with a memory or without), that it was not made for."""
        again = "evaluate a development manifest with that and run comsl calibrate"
        if mode is not None and mode not in self.weights:
            raise UsageError(
                f"confidence: not calibrated for the mode {mode}, only for {', '.join(self.weights)}: {again}"
            )
        if mode == "pooled" and memory != self.memory:
            made, asked = _listening(self.memory), _listening(memory)
            if made == asked:
                raise UsageError(f"confidence: pooled was calibrated with a memory that chose by another rule: {again}")
            raise UsageError(f"confidence: pooled was calibrated {made}, not {asked}: {again}")
        for name, value in options.outcome().items():
            if self.decoding.get(name) != value:
                raise UsageError(f"confidence: calibrated with {name} {self.decoding.get(name)}, not {value}: {again}")

    def save(self, path: Path) -> None:
        write_atomically(path, json.dumps({"evidence": EVIDENCE, **asdict(self)}, ensure_ascii=False, indent=2) + "\n")


def load_calibration(model: str | Path) -> Calibration | None:
    """What ``comsl calibrate`` has left in a model's directory; None if nothing.

    Raises:
        ComSLError: a file of that name which is something else.
    """
    path = Path(model) / CALIBRATION
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if tuple(content.pop("evidence")) != EVIDENCE or any(len(w) != 4 for w in content["weights"].values()):
            raise ValueError("it weighs something else")
        return Calibration(**content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ComSLError(f"{path} is no calibration ({error}): run comsl calibrate again, or delete it") from error


def _listening(memory: dict[str, float] | None) -> str:
    return "without --memory" if memory is None else f"with --memory and --memory-gap {memory['gap']:g}"


def _certainty(hypothesis: Hypothesis) -> float:
    return math.exp(hypothesis.score) if hypothesis.text.strip() else 0.0
