"""Clips and texts -> what the text encoder reads of them -> what the decoder reads.

The two halves of ``model.encode``, so that speech which is read alone and once more beside its transcript goes through
the speech encoder once.

Letters: B rows, F frames of the speech encoder, L positions of a row in the text encoder, d text width, C symbols of
the CTC head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from comsl.errors import ComSLError
from comsl.inference import MixedMemory
from comsl.inference.clips import Clip
from comsl.model.adapter import length_mask
from comsl.model.modeling import ComSLEncoderOutput

EMBEDDED_SECONDS, ENCODED_POSITIONS = 5.0, 256.0
"""What goes through the speech encoder and through the text encoder together on a CPU, padding included.

A GPU wants large batches; a CPU has work enough in one long row, and every padded frame costs as much as a real one."""


class DecodingError(ComSLError):
    """An input that this model cannot decode, named by its place in the input."""


class MixedLengthError(DecodingError):
    """A transcript and its speech that the text encoder has too few positions for."""


@dataclass(frozen=True)
class EmbeddedClip:
    """A clip on its way from the speech encoder to the text encoder."""

    embeds: Tensor
    """[L, d]: the language and the adapted frames."""
    ctc: Tensor | None
    """[F, C]: log-probabilities of the CTC head; None where there is none, or nobody asked."""


def embed_clips(
    model: Any, processor: Any, clips: Sequence[Clip], languages: Sequence[int], spelled: bool = False
) -> list[EmbeddedClip]:
    """Speech encoder and adapter, at true lengths.

    Args:
        languages: token id of the language spoken, one a clip.
        spelled: the CTC head is wanted as well.
    """
    like = next(model.parameters())
    bound = None if like.is_cuda else EMBEDDED_SECONDS
    found: dict[int, EmbeddedClip] = {}
    for rows in batch_by_length([clip.padded_seconds for clip in clips], len(clips), bound):
        batch = processor.pad_features([clips[row].features for row in rows])
        speech = torch.as_tensor(batch["input_features"] if "input_features" in batch else batch["input_values"])
        mask = torch.as_tensor(batch["attention_mask"]).to(like.device)
        hidden, lengths = model.encode_speech(speech.to(like.device, like.dtype), mask)
        ids = torch.tensor([languages[row] for row in rows], device=like.device)
        logits = model.ctc_head(hidden) if spelled else None
        embeds, inside = model.embed_speech(hidden, lengths, ids, logits)
        symbols = None if logits is None else logits.float().log_softmax(-1)
        sizes = zip(rows, lengths.tolist(), inside.sum(1).tolist(), strict=True)
        for place, (row, frames, positions) in enumerate(sizes):
            ctc = None if symbols is None else symbols[place, :frames]
            found[row] = EmbeddedClip(embeds[place, :positions], ctc)
    return [found[row] for row in range(len(clips))]


def embed_texts(model: Any, texts: Sequence[Sequence[int]]) -> list[Tensor]:
    """Embeddings [L, d] of texts as ids [language, tokens, end]."""
    device = next(model.parameters()).device
    return [model.embed_text(torch.tensor(ids, device=device)) for ids in texts]


def beside(model: Any, text: Tensor, speech: Tensor, memory: MixedMemory) -> tuple[Tensor, slice]:
    """The mixed input (docs/objectives.md), text first, and which positions of it the decoder is to read.

    Args:
        text, speech: [L, d] each.

    Raises:
        MixedLengthError: more positions than the text encoder has.
    """
    positions = len(text) + len(speech)
    if model.max_positions is not None and positions > model.max_positions:
        raise MixedLengthError(
            f"a transcript and its speech take {positions} positions together, but the text encoder has "
            f"{model.max_positions}: translate such speech in the mode direct or cascade, or cut it into segments"
        )
    kept = {"speech": slice(len(text), None), "text": slice(len(text)), "both": slice(None)}
    return torch.cat([text, speech]), kept[memory]


def encode(model: Any, embeds: Sequence[Tensor], kept: Sequence[slice] | None = None) -> ComSLEncoderOutput:
    """Text encoder: the memory of rows, padded behind their true positions.

    Args:
        embeds: [L, d] each.
        kept: the positions of each row that the decoder reads; None: all.
    """
    like = embeds[0]
    bound = None if like.is_cuda else ENCODED_POSITIONS
    states: dict[int, Tensor] = {}
    for rows in batch_by_length([len(row) for row in embeds], len(embeds), bound):
        padded = pad_sequence([embeds[row] for row in rows], batch_first=True)
        lengths = torch.tensor([len(embeds[row]) for row in rows], device=like.device)
        mask = length_mask(lengths, padded.shape[1]).long()
        hidden = model.text_encoder(inputs_embeds=padded, attention_mask=mask).last_hidden_state
        for place, row in enumerate(rows):
            positions = hidden[place, : len(embeds[row])]
            states[row] = positions if kept is None else positions[kept[row]]
    memory = [states[row] for row in range(len(embeds))]
    lengths = torch.tensor([len(row) for row in memory], device=like.device)
    padded = pad_sequence(memory, batch_first=True)
    return ComSLEncoderOutput(last_hidden_state=padded, memory_mask=length_mask(lengths, padded.shape[1]).long())


def batch_by_length(lengths: Sequence[float], batch_size: int, max_cost: float | None = None) -> list[list[int]]:
    """Indices of the rows of positive length, longest first, in batches of at most ``batch_size`` rows and padded cost
    (rows x longest) of at most ``max_cost``, a row alone excepted."""
    batches: list[list[int]] = []
    for row in sorted((row for row in range(len(lengths)) if lengths[row] > 0), key=lambda row: (-lengths[row], row)):
        batch = batches[-1] if batches else None
        full = batch is None or len(batch) >= batch_size
        if batch is None or full or (max_cost is not None and lengths[batch[0]] * (len(batch) + 1) > max_cost):
            batches.append([row])
        else:
            batch.append(row)
    return batches
