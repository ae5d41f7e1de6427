"""Word-level contrast of speech and text (not in the paper)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from comsl.objectives.base import WORDS, Objective, ObjectiveError, Reads, Term
from comsl.objectives.ctc import CTC

if TYPE_CHECKING:
    from comsl.objectives.views import Views
    from comsl.objectives.words import Words


@dataclass
class Contrast(Objective):
    """A spoken word should be nearer to its written form than to any other word of the batch, as WACO (Ouyang et al.,
    ACL 2023) has it: both as the text encoder is given them, the mean of the word's positions after the adapter and the
    mean of its tokens' embeddings.

    The words' places in the speech come from the CTC head, which is trained beside; a word lasts until the next one
    begins. Words are what stands between spaces: in a script without spaces that is the sentence. The negatives are the
    words of the batch on the same device, those that are spelled alike left out, so the loss depends on the size of the
    batch. Words of utterances that cannot be aligned, or one of whose words CTC has no symbol of, add nothing; their
    share is logged as ``contrast_unaligned``.
    """

    weight: float = 0.3
    temperature: float = 0.2
    """What the cosines are divided by: the smaller, the more the nearest wrong words count."""

    name = "contrast"

    def connect(self, active: Mapping[str, Objective]) -> None:
        if CTC.name not in active:
            raise ObjectiveError(
                "objectives.contrast finds the words by the CTC head: switch objectives.ctc on as well"
            )

    def reads(self) -> Reads:
        return Reads(words=True)

    def terms(self, views: Views) -> Iterator[Term]:
        losses = [contrast(words, self.temperature) for words in views.words]
        yield Term("contrast", self.weight, torch.stack(losses).sum(), WORDS)
        yield Term("contrast_unaligned", 0.0, torch.stack([words.unaligned for words in views.words]).sum(), WORDS)


def contrast(words: Words, temperature: float) -> Tensor:
    """Sum over words of -log softmax(cosines / temperature) at the word itself, in float32 at least."""
    speech, text = words.speech, words.text
    exact = torch.promote_types(speech.dtype, torch.float32)
    with torch.autocast(speech.device.type, enabled=False):
        spoken, written = (F.normalize(side.to(exact), dim=-1) for side in (speech, text))
        number = torch.arange(len(written), device=written.device)
        alike = (words.spelling[:, None] == words.spelling).all(2) & (number[:, None] != number)
        cosines = (spoken @ written.T / temperature).masked_fill(alike, torch.finfo(exact).min)
        return F.cross_entropy(cosines, number, reduction="sum")
