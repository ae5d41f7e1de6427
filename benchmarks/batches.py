"""A batch as the collator makes it, with random content: what a step is timed on."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.models import LANGUAGES

TOKENS = 16
"""Of each text, language and end included."""


def made_batch(frames: Tensor, vocabulary: int = 250_056, seed: int = 0) -> dict[str, Tensor]:
    """Fields for all seven objectives.

    Args:
        frames: [B], mel frames of each utterance.
        vocabulary: of the text model; its third last token is the mask.
    """
    generator = torch.Generator().manual_seed(seed)
    utterances, longest = len(frames), int(frames.max())
    language = torch.full((utterances, 1), min(LANGUAGES["de"], vocabulary - 2))
    end, ignored = torch.full((utterances, 1), 2), torch.full((utterances, 1), -100)
    shape = (utterances, TOKENS - 2)
    source, target = (torch.randint(4, min(250_000, vocabulary - 4), shape, generator=generator) for _ in range(2))
    masked = torch.zeros(utterances, TOKENS, dtype=torch.bool)
    masked[:, 3::7] = True
    transcript = torch.cat([language, source, end], 1)
    labels = torch.cat([ignored, source, end], 1)
    return {
        "input_features": torch.randn(utterances, 80, longest, generator=generator),
        "attention_mask": (torch.arange(longest) < frames[:, None]).long(),
        "source_language_ids": language[:, 0],
        "transcript_ids": transcript,
        "transcript_mask": torch.ones_like(transcript),
        "masked_transcript_ids": transcript.masked_fill(masked, vocabulary - 3),
        "transcript_decoder_input_ids": torch.cat([end, language, source], 1),
        "transcript_labels": labels,
        "mtp_labels": labels.masked_fill(~masked, -100),
        "translation_decoder_input_ids": torch.cat([end, language + 1, target], 1),
        "translation_labels": torch.cat([ignored, target, end], 1),
    }


def with_cached_teacher(batch: dict[str, Tensor], top_k: int, vocabulary: int = 250_056) -> dict[str, Tensor]:
    """The batch with made-up likeliest tokens of the teacher: the label and others, half of what is left over each."""
    labels = batch["translation_labels"].clamp_min(0)[..., None]
    shares = 0.5 ** torch.arange(1, top_k + 1)
    return {
        **batch,
        "teacher_tokens": (labels + 7919 * torch.arange(top_k)) % vocabulary,
        "teacher_probabilities": shares.expand(*labels.shape[:2], -1).contiguous(),
    }
