"""CTC on the speech encoder, before the adapter (not in the paper)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comsl.objectives.base import CTC_LABELS, Objective, Reads, Term

if TYPE_CHECKING:
    from comsl.objectives.views import Views


@dataclass
class CTC(Objective):
    """CTC loss of the transcript's characters, or pieces, on the speech encoder's frames (50 Hz for Whisper).

    Needs a model composed with ``ctc_vocabulary``. Utterances whose frames are fewer than their labels need cannot be
    aligned; they add nothing to the sum, and their share of all labels is logged as ``ctc_unaligned``. Symbols that
    the vocabulary lacks are left out of the labels and logged, a label, as ``ctc_unknown``.
    """

    weight: float = 0.3

    name = "ctc"

    def reads(self) -> Reads:
        return Reads(ctc=True)

    def terms(self, views: Views) -> Iterator[Term]:
        yield Term("ctc", self.weight, views.ctc.sum, CTC_LABELS)
        yield Term("ctc_unaligned", 0.0, views.ctc.unaligned, CTC_LABELS)
        yield Term("ctc_unknown", 0.0, views.ctc.unknown, CTC_LABELS)
