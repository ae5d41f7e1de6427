"""The table of objectives, and their settings from YAML."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import Any

from comsl.errors import nearest
from comsl.objectives.asr import ASR
from comsl.objectives.base import Objective, ObjectiveError, Reads, Target, Term
from comsl.objectives.contrast import Contrast
from comsl.objectives.ctc import CTC
from comsl.objectives.ddm import DDM
from comsl.objectives.erm import ERM
from comsl.objectives.mt import MT
from comsl.objectives.mtp import MTP
from comsl.objectives.ot import OT
from comsl.objectives.rdrop import RDrop
from comsl.objectives.st import ST
from comsl.objectives.stm import STM
from comsl.objectives.views import Views

OBJECTIVES: dict[str, type[Objective]] = {
    cls.name: cls for cls in (ASR, ST, MT, DDM, MTP, STM, ERM, CTC, OT, Contrast, RDrop)
}


class ObjectiveSet:
    """The switched-on objectives.

    Args:
        settings: objective -> its settings (``{}`` or ``True`` = the defaults, which are the paper's; ``None`` or
            ``False`` = off), e.g. ``{"st": {"weight": 1.0}, "asr": True, "erm": None}``.

    Raises:
        ObjectiveError: an unknown objective or setting (the nearest is named), a wrong value, or nothing to train.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        for name in settings:
            _check_key(name, OBJECTIVES, "objective")
        switched_on = {name: value for name, value in settings.items() if value is not None and value is not False}
        # The table's order, so that the order of lines in a YAML file changes nothing.
        self.active: dict[str, Objective] = {
            name: _build(cls, switched_on[name]) for name, cls in OBJECTIVES.items() if name in switched_on
        }
        if not self.active.keys() - {DDM.name, RDrop.name}:
            raise ObjectiveError(f"no objective is switched on; there are {', '.join(OBJECTIVES)}")
        for objective in self.active.values():
            objective.connect(self.active)
        self.reads: Reads = reduce(Reads.__or__, (objective.reads() for objective in self.active.values()))

    def __iter__(self) -> Iterator[Objective]:
        return iter(self.active.values())

    @property
    def needs_teacher(self) -> bool:
        return bool(self.reads.frozen_matches)

    @property
    def fields(self) -> frozenset[str]:
        """What the collator has to build for these objectives."""
        reads = self.reads
        targets = {target for _, target in reads.pairs}
        transcribed = bool(targets & {Target.TRANSCRIPT, Target.MASKED_TOKENS})
        wanted = {
            "speech": reads.encoded_speech or reads.ctc,
            "transcript": reads.mixed or reads.encoded_text or reads.words or transcribed,
            "masked_transcript": reads.mixed,
            "translation": Target.TRANSLATION in targets,
            "ctc": reads.ctc,
            "words": reads.words,
        }
        return frozenset(name for name, is_wanted in wanted.items() if is_wanted)

    def terms(self, views: Views) -> Iterator[Term]:
        """What is summed up to the loss and, with the weight 0, what is only logged."""
        for objective in self:
            yield from objective.terms(views)
        for text, unknown in views.unknown.items():
            yield Term(f"{text}_unknown", 0.0, unknown, text)

    def settings(self) -> dict[str, dict[str, Any]]:
        """Resolved settings, as they would stand in YAML."""
        return {name: dataclasses.asdict(objective) for name, objective in self.active.items()}  # type: ignore[call-overload]


def _build(cls: type[Objective], value: Any) -> Objective:
    settings = {} if value is True else value
    if not isinstance(settings, Mapping):
        raise ObjectiveError(f"objectives.{cls.name}: expected its settings (or null to switch it off), got {value!r}")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key, setting in settings.items():
        _check_key(key, fields, f"setting of objectives.{cls.name}")
        if isinstance(setting, bool) or not isinstance(setting, int | float):
            raise ObjectiveError(f"objectives.{cls.name}.{key}: expected a number, got {setting!r}")
        _check_range(cls.name, key, setting)
    return cls(**settings)


def _check_range(objective: str, key: str, value: float) -> None:
    where = f"objectives.{objective}.{key}: {value!r} is not"
    if key in ("regularisation", "temperature") and value <= 0:
        raise ObjectiveError(f"{where} above 0")
    whole = key in ("layer", "iterations")
    upper = 1.0 if key in ("share", "teacher_share", "label_smoothing") else float("inf")
    lower = 1 if whole else 0
    if not lower <= value <= upper or (whole and value != int(value)):
        bounds = f"between {lower} and {upper}" if upper < float("inf") else f"at least {lower}"
        raise ObjectiveError(f"{where} {bounds}")


def _check_key(key: str, known: Iterable[str], what: str) -> None:
    known = list(known)
    if key not in known:
        guess = nearest(str(key), known, cutoff=0.0)
        raise ObjectiveError(f"unknown {what} {key!r}; did you mean {guess!r}? (there are {', '.join(known)})")
