"""Where in the speech each symbol of the transcript begins and ends: the best path of CTC through it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Alignment(NamedTuple):
    first: Tensor
    """[B, L]: the frame that each label begins at."""
    last: Tensor
    """[B, L]: the last frame of each."""
    aligned: Tensor
    """[B]: False where the frames are too few for the labels, or there are no labels; the frames then mean nothing."""


@torch.no_grad()
def align(log_probs: Tensor, lengths: Tensor, labels: Tensor, label_lengths: Tensor) -> Alignment:
    """The likeliest CTC path (Viterbi) that spells the labels.

    Args:
        log_probs: [B, F, C], symbol 0 the blank.
        lengths: [B] real frames, at least 1 each.
        labels: [B, L] symbols, anything from ``label_lengths`` [B] on.
    """
    rows, frames, _ = log_probs.shape
    labels = labels.clamp_min(0)
    places = torch.arange(labels.shape[1], device=labels.device)
    # States: blank, label, blank, label, ..., blank.
    states = labels.new_zeros(rows, 2 * labels.shape[1] + 1)
    states[:, 1::2] = labels
    emitted = log_probs.gather(2, states[:, None].expand(-1, frames, -1))
    nothing = torch.finfo(log_probs.dtype).min / 4  # can be added to
    score = emitted.new_full(states.shape, nothing)
    score[:, :2] = emitted[:, 0, :2]
    skips = torch.zeros_like(states, dtype=torch.bool)  # over the blank before, which two equal labels need
    skips[:, 3::2] = labels[:, 1:] != labels[:, :-1]
    steps = []
    for frame in range(1, frames):
        before = torch.nn.functional.pad(score, (2, 0), value=nothing)
        options = torch.stack([score, before[:, 1:-1], before[:, :-2].masked_fill(~skips, nothing)])
        best, step = options.max(0)
        score = torch.where((frame < lengths)[:, None], (best + emitted[:, frame]).clamp_min(nothing), score)
        steps.append(step)
    ends = torch.stack([2 * label_lengths, (2 * label_lengths - 1).clamp_min(0)])
    finals = score.gather(1, ends.T)
    state = ends.T.gather(1, finals.argmax(1, keepdim=True))[:, 0]
    path = states.new_zeros(rows, frames)
    for frame in range(frames - 1, -1, -1):
        path[:, frame] = state
        if frame:
            step = steps[frame - 1].gather(1, state[:, None])[:, 0]
            state = torch.where(frame < lengths, state - step, state)
    inside = torch.arange(frames, device=path.device) < lengths[:, None]
    is_label = (path[:, None] == 2 * places[:, None] + 1) & inside[:, None]  # [B, L, F]
    numbers = torch.arange(frames, device=path.device)
    first = torch.where(is_label, numbers, frames).amin(2)
    last = torch.where(is_label, numbers, -1).amax(2)
    aligned = (finals.amax(1) > nothing / 2) & (label_lengths > 0)
    return Alignment(first, last, aligned)
