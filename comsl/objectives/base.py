"""What an objective is: its settings, what it reads, and its terms of the loss.

An objective is a dataclass whose fields are its settings in YAML. It declares in :meth:`Objective.reads` what it needs
and gets it back, computed once for all objectives, in :class:`~comsl.objectives.views.Views`. Adding an objective is
one file and one line of YAML; leaving the line out removes its cost.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from comsl.errors import UsageError

if TYPE_CHECKING:
    from comsl.objectives.views import Views


class ObjectiveError(UsageError):
    """A setting of the objectives is wrong; the message names it and what is possible."""


class Memory(Enum):
    """What the decoder attends to: an encoded view of the utterance, or a part of one."""

    SPEECH = "speech"
    TEXT = "text"
    MIXED_SPEECH = "mixed speech"
    """The speech part of the encoded [masked transcript ; speech]."""
    MIXED_TEXT = "mixed text"
    """Its text part."""

    @property
    def is_mixed(self) -> bool:
        return self in (Memory.MIXED_SPEECH, Memory.MIXED_TEXT)


class Target(Enum):
    """What the decoder predicts, and under which name the batch holds its labels and the loss its count."""

    TRANSCRIPT = "transcript"
    TRANSLATION = "translation"
    MASKED_TOKENS = "masked_tokens"
    """The transcript, scored at the masked places alone."""

    @property
    def decoder_inputs(self) -> str:
        text = Target.TRANSCRIPT if self is Target.MASKED_TOKENS else self
        return f"{text.value}_decoder_input_ids"

    @property
    def labels(self) -> str:
        return "mtp_labels" if self is Target.MASKED_TOKENS else f"{self.value}_labels"


Pair = tuple[Memory, Target]

SPEECH_POSITIONS = "speech_positions"
CTC_LABELS = "ctc_labels"
UTTERANCES = "utterances"
WORDS = "words"


@dataclass(frozen=True)
class Reads:
    """What an objective needs computed."""

    cross_entropies: Mapping[Pair, float] = field(default_factory=dict)
    """(memory, target) -> label smoothing."""
    matches: frozenset[tuple[Pair, Pair]] = frozenset()
    """(student, teacher): the student's distribution against the live, detached one of the teacher."""
    frozen_matches: frozenset[Pair] = frozenset()
    """Pairs compared with the frozen text model's distribution over the same target."""
    layers: frozenset[int] = frozenset()
    """Text-encoder layers whose output at the speech positions is compared, alone and in the mixed input."""
    ctc: bool = False
    """The speech encoder's frames, before the adapter."""
    divergences: frozenset[Pair] = frozenset()
    """Pairs whose distributions under two draws of dropout are compared."""
    transport: bool = False
    """The text encoder's output of the speech and of its transcript."""
    words: bool = False
    """The words of the transcripts, spoken and written, as the text encoder is given them."""

    @property
    def pairs(self) -> frozenset[Pair]:
        in_matches = (pair for match in self.matches for pair in match)
        return frozenset([*self.cross_entropies, *in_matches, *self.frozen_matches, *self.divergences])

    @property
    def passes(self) -> int:
        """How many times the batch goes through the model, each time with dropout of its own."""
        return 2 if self.divergences else 1

    @property
    def mixed(self) -> bool:
        """Whether transcript and speech are encoded together."""
        return bool(self.layers) or any(memory.is_mixed for memory, _ in self.pairs)

    @property
    def encoded_speech(self) -> bool:
        """Whether speech goes through the adapter (CTC reads it before)."""
        return self.mixed or self.transport or self.words or any(memory is Memory.SPEECH for memory, _ in self.pairs)

    @property
    def encoded_text(self) -> bool:
        """Whether the transcript goes through the text encoder alone."""
        return self.transport or any(memory is Memory.TEXT for memory, _ in self.pairs)

    def __or__(self, other: Reads) -> Reads:
        for pair in self.cross_entropies.keys() & other.cross_entropies.keys():
            if self.cross_entropies[pair] != other.cross_entropies[pair]:
                raise ValueError(f"two objectives ask for different label smoothing on {pair}")
        return Reads(
            cross_entropies={**self.cross_entropies, **other.cross_entropies},
            matches=self.matches | other.matches,
            frozen_matches=self.frozen_matches | other.frozen_matches,
            layers=self.layers | other.layers,
            ctc=self.ctc or other.ctc,
            divergences=self.divergences | other.divergences,
            transport=self.transport or other.transport,
            words=self.words or other.words,
        )


@dataclass(frozen=True)
class Term:
    """One addend of the loss: ``weight * sum / count`` (or ``weight * sum`` with the paper's reduction)."""

    name: str
    weight: float
    sum: Tensor
    """Scalar, over the local batch."""
    count: str
    """Key of the count (see :func:`comsl.objectives.views.counts`) that this sum is divided by."""


class Objective(ABC):
    """Base of all objectives; subclasses are dataclasses."""

    name: ClassVar[str]

    def connect(self, active: Mapping[str, Objective]) -> None:
        """Sees the other switched-on objectives once, before training; most do not depend on them."""
        return

    @abstractmethod
    def reads(self) -> Reads: ...

    @abstractmethod
    def terms(self, views: Views) -> Iterator[Term]: ...
