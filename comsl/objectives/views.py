"""One pass over a batch: every encoder view and every (memory, target) pair computed once, side by side.

Legend: B utterances, L text-encoder positions, D text width, S transcript tokens, N target tokens, K pairs of a
target, M scored positions.

The text encoder runs once over the rows [speech ; text ; mixed] that somebody reads, the decoder once over the rows
of all pairs, and the vocabulary once per target over its scored positions. Rows are padded on the right and masked,
so nothing depends on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from comsl.data.constants import IGNORED_LABEL
from comsl.errors import ComSLError
from comsl.objectives.base import CTC_LABELS, SPEECH_POSITIONS, Memory, Pair, Reads, Target
from comsl.objectives.vocabulary import FrozenDistribution, VocabularyLosses, vocabulary_losses

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from comsl.model.modeling import ComSLForConditionalGeneration

Batch = Mapping[str, Any]


@dataclass(frozen=True)
class Rows:
    """Right-padded rows: ``states`` [B, L, D], ``lengths`` [B]."""

    states: Tensor
    lengths: Tensor

    def fitted(self, length: int) -> Rows:
        """The same rows cut or padded to ``length``; only padding is ever cut."""
        missing = max(0, length - self.states.shape[1])
        return Rows(F.pad(self.states[:, :length], (0, 0, 0, missing)), self.lengths)

    @property
    def mask(self) -> Tensor:
        """[B, L], 1 at true positions."""
        positions = torch.arange(self.states.shape[1], device=self.lengths.device)
        return (positions < self.lengths[:, None]).long()

    def part(self, start: Tensor, lengths: Tensor) -> Rows:
        """The positions ``start`` [B] .. ``start + lengths`` of every row."""
        positions = torch.arange(int(lengths.max()), device=lengths.device)
        index = (start[:, None] + positions).clamp_max(self.states.shape[1] - 1)
        return Rows(_gather(self.states, index), lengths)


@dataclass
class CTCLoss:
    sum: Tensor
    unaligned: Tensor
    """Labels of utterances that have fewer frames than an alignment needs."""
    unknown: Tensor
    """Characters of the transcripts that the CTC vocabulary lacks: nobody learns to spell them."""


@dataclass
class Views:
    """What the objectives read; every entry a sum over the local batch."""

    cross_entropy: dict[Pair, Tensor] = field(default_factory=dict)
    match: dict[tuple[Pair, Pair], Tensor] = field(default_factory=dict)
    frozen_match: dict[Pair, Tensor] = field(default_factory=dict)
    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """layer -> (alone, mixed) states [M, D] at all true speech positions of the batch."""
    unknown: dict[str, Tensor] = field(default_factory=dict)
    """Transcript, translation -> how many of their tokens stand for something that the vocabulary lacks."""
    _ctc: CTCLoss | None = None

    @property
    def ctc(self) -> CTCLoss:
        if self._ctc is None:
            raise RuntimeError("nothing declared that it reads the CTC loss")
        return self._ctc


def counts(batch: Batch, model: ComSLForConditionalGeneration) -> dict[str, Tensor]:
    """What every kind of sum is divided by, from the batch alone (no forward): scored tokens, speech positions."""
    result = {
        name: (batch[labels] != IGNORED_LABEL).sum()
        for name, labels in [*((target.value, target.labels) for target in Target), (CTC_LABELS, "ctc_labels")]
        if labels in batch
    }
    if "attention_mask" in batch:
        result[SPEECH_POSITIONS] = model.speech_positions(batch["attention_mask"].sum(dim=1)).sum()
    return result


def compute_views(
    model: ComSLForConditionalGeneration, batch: Batch, reads: Reads, teacher: PreTrainedModel | None = None
) -> Views:
    """Computes exactly what ``reads`` names. See the module's docstring and docs/objectives.md.

    Args:
        batch: as :class:`comsl.data.collate.Collator` makes it.
        teacher: the frozen text model, needed if ``reads.frozen_matches``.
    """
    texts = (Target.TRANSCRIPT.value, Target.TRANSLATION.value)
    views = Views(unknown={text: batch[f"{text}_unknown"].sum() for text in texts if f"{text}_unknown" in batch})
    encoded = _encode(model, batch, reads, views)
    if reads.pairs:
        memories = {memory: _memory(memory, encoded) for memory, _ in reads.pairs}
        hidden = _decode(model, batch, sorted(reads.pairs, key=str), memories)
        frozen = _teacher_hidden(teacher, batch, reads)
        for target in Target:
            _score(model, batch, reads, target, hidden, frozen, teacher, views)
    return views


# --- encoder -------------------------------------------------------------------------------------------------------


def _encode(model: ComSLForConditionalGeneration, batch: Batch, reads: Reads, views: Views) -> dict[str, Rows]:
    """Encoded rows by view ("speech", "text", "mixed"); fills in what is read on the way."""
    memories = {memory for memory, _ in reads.pairs}
    inputs: dict[str, Rows] = {}
    if reads.encoded_speech or reads.ctc:
        speech = batch["input_features"] if "input_features" in batch else batch["input_values"]
        frames, frame_lengths = model.encode_speech(speech, batch["attention_mask"])
        if reads.ctc:
            views._ctc = _ctc_loss(model, frames, frame_lengths, batch)
        if reads.encoded_speech:
            embeds, mask = model.embed_speech(frames, frame_lengths, batch["source_language_ids"])
            inputs["speech"] = Rows(embeds, mask.sum(1))
    if Memory.TEXT in memories:
        inputs["text"] = Rows(model.embed_text(batch["transcript_ids"]), batch["transcript_mask"].sum(1))
    if reads.mixed:
        masked = Rows(model.embed_text(batch["masked_transcript_ids"]), batch["transcript_mask"].sum(1))
        inputs["mixed"] = _concatenate(masked, inputs["speech"])
        _check_positions(model, inputs["mixed"])
        inputs["masked text"] = masked
    return _encode_rows(model, inputs, reads, views)


def _encode_rows(
    model: ComSLForConditionalGeneration, inputs: dict[str, Rows], reads: Reads, views: Views
) -> dict[str, Rows]:
    read = {"speech", "text", "mixed"} if reads.layers else {_view(memory) for memory, _ in reads.pairs}
    names = [name for name in ("speech", "text", "mixed") if name in inputs and name in read]
    if not names:
        return {}
    length = max(inputs[name].states.shape[1] for name in names)
    rows = [inputs[name].fitted(length) for name in names]
    output = model.text_encoder(
        inputs_embeds=torch.cat([row.states for row in rows]),
        attention_mask=torch.cat([row.mask for row in rows]),
        output_hidden_states=bool(reads.layers),
    )

    def split(states: Tensor) -> dict[str, Rows]:
        parts = states.chunk(len(names))
        return {name: Rows(part, inputs[name].lengths) for name, part in zip(names, parts, strict=True)}

    encoded = split(output.last_hidden_state)
    encoded.update({name: rows for name, rows in inputs.items() if name not in names})
    for layer in reads.layers:
        states = split(output.hidden_states[layer])
        mask = inputs["speech"].mask.bool()
        alone = states["speech"].states[:, : mask.shape[1]]
        mixed = states["mixed"].part(inputs["masked text"].lengths, inputs["speech"].lengths).states
        views.layers[layer] = alone[mask], mixed[mask]
    return encoded


def _check_positions(model: ComSLForConditionalGeneration, mixed: Rows) -> None:
    """Either side alone was checked where it was made; only together can they be too long.

    The data set refuses such rows by name; this is for batches that come from elsewhere.
    """
    positions = model.max_positions
    if positions is not None and mixed.states.shape[1] > positions:
        raise ComSLError(
            f"a transcript and its speech take {mixed.states.shape[1]} positions together, but the text encoder has "
            f"{positions}: leave out longer clips, or switch off mtp, stm and erm, which read them together"
        )


def _view(memory: Memory) -> str:
    return "mixed" if memory.is_mixed else memory.value


def _memory(memory: Memory, encoded: dict[str, Rows]) -> Rows:
    """What the decoder attends to: a view, or the mixed view cut apart again."""
    rows = encoded[_view(memory)]
    if memory is Memory.MIXED_TEXT:
        lengths = encoded["masked text"].lengths
        return rows.part(torch.zeros_like(lengths), lengths)
    if memory is Memory.MIXED_SPEECH:
        return rows.part(encoded["masked text"].lengths, encoded["speech"].lengths)
    return rows


# --- decoder -------------------------------------------------------------------------------------------------------


def _decode(
    model: ComSLForConditionalGeneration, batch: Batch, pairs: list[Pair], memories: dict[Memory, Rows]
) -> dict[Pair, Tensor]:
    """Decoder output [B, N, D] for every pair, from one run over the rows of all pairs."""
    inputs = [batch[target.decoder_inputs] for _, target in pairs]
    tokens = max(ids.shape[1] for ids in inputs)
    length = max(int(memories[memory].lengths.max()) for memory, _ in pairs)
    rows = [memories[memory].fitted(length) for memory, _ in pairs]
    output = model.text_decoder(
        # Padding stands on the right, where causal attention keeps it from every true position.
        input_ids=torch.cat(
            [F.pad(ids, (0, tokens - ids.shape[1]), value=model.config.pad_token_id) for ids in inputs]
        ),
        encoder_hidden_states=torch.cat([row.states for row in rows]),
        encoder_attention_mask=torch.cat([row.mask for row in rows]),
        use_cache=False,
    )
    parts = output.last_hidden_state.chunk(len(pairs))
    return {pair: part[:, : ids.shape[1]] for pair, part, ids in zip(pairs, parts, inputs, strict=True)}


def _teacher_hidden(teacher: PreTrainedModel | None, batch: Batch, reads: Reads) -> Tensor | None:
    """[B, N, D'] of the frozen text model over the translation."""
    if not reads.frozen_matches:
        return None
    if teacher is None:
        raise ValueError("an objective compares with the frozen text model, but no teacher was given")
    with torch.no_grad():
        return teacher.base_model(
            input_ids=batch["transcript_ids"],
            attention_mask=batch["transcript_mask"],
            decoder_input_ids=batch[Target.TRANSLATION.decoder_inputs],
            use_cache=False,
        ).last_hidden_state


# --- vocabulary ----------------------------------------------------------------------------------------------------


def _score(
    model: ComSLForConditionalGeneration,
    batch: Batch,
    reads: Reads,
    target: Target,
    hidden: dict[Pair, Tensor],
    frozen_hidden: Tensor | None,
    teacher: PreTrainedModel | None,
    views: Views,
) -> None:
    """Takes the scored positions of all pairs of one target through the vocabulary, once."""
    pairs = [pair for pair in hidden if pair[1] is target]
    if not pairs:
        return
    labels = batch[target.labels]
    scored = labels != IGNORED_LABEL
    place = {pair: k for k, pair in enumerate(pairs)}
    matches = sorted((match for match in reads.matches if match[0][1] is target), key=str)
    frozen_matches = sorted((pair for pair in reads.frozen_matches if pair[1] is target), key=str)
    frozen = None
    if frozen_matches and teacher is not None and frozen_hidden is not None:
        head = teacher.get_output_embeddings()
        frozen = FrozenDistribution(frozen_hidden[scored], head.weight, _bias(teacher))
    # A pair that is only matched, or only matched with, has no cross-entropy of its own: weight it with nothing.
    cross_entropy, match, frozen_match = vocabulary_losses(
        torch.stack([hidden[pair][scored] for pair in pairs]),
        model.output_weight,
        model.output_bias,
        VocabularyLosses(
            labels=labels[scored],
            smoothing=tuple(reads.cross_entropies.get(pair, 0.0) for pair in pairs),
            matches=tuple((place[student], place[other]) for student, other in matches),
            frozen_matches=tuple(place[pair] for pair in frozen_matches),
            frozen=frozen,
        ),
    )
    views.cross_entropy.update({pair: cross_entropy[place[pair]] for pair in pairs})
    views.match.update({key: match[i] for i, key in enumerate(matches)})
    views.frozen_match.update({key: frozen_match[i] for i, key in enumerate(frozen_matches)})


def _bias(text_model: PreTrainedModel) -> Tensor | None:
    bias = getattr(text_model, "final_logits_bias", None)
    return None if bias is None else bias[0]


def _ctc_loss(model: ComSLForConditionalGeneration, frames: Tensor, lengths: Tensor, batch: Batch) -> CTCLoss:
    if model.ctc_head is None:
        raise ValueError("the CTC objective needs a model composed with ctc_vocabulary")
    logits = model.ctc_head(frames)
    log_probs = (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)
    labels = batch["ctc_labels"]
    valid = labels != IGNORED_LABEL
    label_lengths = valid.sum(1)
    # A row without a single known character says nothing about the speech; it must not teach "all blank".
    labelled = label_lengths > 0
    repeats = ((labels[:, 1:] == labels[:, :-1]) & valid[:, 1:]).sum(1)
    aligned = lengths >= label_lengths + repeats
    loss = F.ctc_loss(
        log_probs.transpose(0, 1), labels.clamp_min(0), lengths, label_lengths, reduction="none", zero_infinity=True
    )
    return CTCLoss((loss * labelled).sum(), label_lengths[~aligned].sum(), batch["ctc_unknown"].sum())


# --- rows ----------------------------------------------------------------------------------------------------------


def _concatenate(first: Rows, second: Rows) -> Rows:
    """Every row of ``second`` right behind the true end of the same row of ``first``."""
    lengths = first.lengths + second.lengths
    positions = torch.arange(int(lengths.max()), device=lengths.device).expand(len(lengths), -1)
    in_first = positions < first.lengths[:, None]
    behind = first.states.shape[1] + positions - first.lengths[:, None]
    both = torch.cat([first.states, second.states], dim=1)
    index = torch.where(in_first, positions, behind).clamp_max(both.shape[1] - 1)
    return Rows(_gather(both, index), lengths)


def _gather(states: Tensor, index: Tensor) -> Tensor:
    """states [B, L, D], index [B, L'] -> [B, L', D]."""
    return states.gather(1, index[..., None].expand(-1, -1, states.shape[-1]))
