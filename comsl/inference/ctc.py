"""The CTC head as a recogniser, and as a second opinion on what the decoder heard.

Letters: F frames of the speech encoder, C symbols (0 is the blank).
"""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from comsl.inference.options import Hypothesis


def greedy_transcript(log_probs: Tensor, symbols: Sequence[str]) -> Hypothesis:
    """The text of the likeliest path: repeats are one symbol, blanks none.

    Args:
        log_probs: [F, C].
        symbols: C, as in the model's ``ctc_vocabulary``.

    Returns:
        ``tokens`` are numbers of symbols, ``score`` is the mean log-probability of a frame of the path.
    """
    best, path = log_probs.max(-1)
    spelled = _spelled(path.tolist())
    return Hypothesis(_written(spelled, symbols), best.mean().item(), spelled)


def sampled_transcripts(log_probs: Tensor, symbols: Sequence[str], count: int) -> list[str]:
    """The texts of paths drawn by their probabilities: what may have been said, where the likeliest path is but one.

    Of the same probabilities the same ones every time; none where ``count`` is 0.

    Args:
        log_probs: [F, C].
        symbols: C, as in the model's ``ctc_vocabulary``.
    """
    if not count:
        return []
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(log_probs.float().exp().cpu(), count, replacement=True, generator=generator)
    return [_written(_spelled(path), symbols) for path in drawn.T.tolist()]


def _spelled(path: Sequence[int]) -> list[int]:
    return [symbol for symbol, _ in groupby(path) if symbol]


def _written(spelled: Sequence[int], symbols: Sequence[str]) -> str:
    return " ".join("".join(symbols[symbol] for symbol in spelled).split())


def ctc_scores(log_probs: Tensor, texts: Sequence[str], processor: Any) -> list[float]:
    """Log-probability of each text summed over all its alignments; -inf for one that the frames are too few for.

    Characters, or pieces, that the head has no symbol for are left out of the text, as in training.

    Args:
        log_probs: [F, C].
    """
    return log_likelihoods(log_probs, [processor.ctc_ids(text)[0] for text in texts])


def log_likelihoods(log_probs: Tensor, labels: Sequence[Sequence[int]]) -> list[float]:
    """``ctc_scores`` of texts that are spelled already, as numbers of symbols."""
    losses = torch.nn.functional.ctc_loss(
        log_probs[:, None].expand(-1, len(labels), -1),
        torch.tensor([symbol for row in labels for symbol in row], dtype=torch.long, device=log_probs.device),
        torch.full((len(labels),), len(log_probs)),
        torch.tensor([len(row) for row in labels]),
        reduction="none",
    )
    return [-loss for loss in losses.tolist()]


def best_together(
    candidates: Sequence[Hypothesis], log_probs: Tensor, processor: Any, weight: float, length_penalty: float
) -> Hypothesis:
    """The candidate of the best (1 - weight) x decoder + weight x CTC log-probability, per token as the search ranks
    them; the decoder's own best where none can be aligned.

    Args:
        candidates: best first.
        log_probs: [F, C].
    """
    heard = ctc_scores(log_probs, [candidate.text for candidate in candidates], processor)

    def together(candidate: Hypothesis, ctc: float) -> float:
        length = len(candidate.tokens) + (not candidate.truncated)  # the end counts as a token
        return ((1 - weight) * candidate.log_probability + weight * ctc) / length**length_penalty

    scores = [together(*pair) for pair in zip(candidates, heard, strict=True)]
    best = max(range(len(scores)), key=lambda place: (scores[place], -place))
    return candidates[0] if math.isinf(scores[best]) else candidates[best]
