"""One pass over a batch: every encoder view and every (memory, target) pair computed once, side by side.

Legend: B utterances, T packed positions, D text width, S transcript tokens, N target tokens, K pairs of a target,
M scored positions.

The text encoder runs once over the sequences [speech ; text ; mixed] that somebody reads, the decoder once over those
of all pairs, and the vocabulary once over all scored positions. Sequences stand behind one another without padding
(:mod:`comsl.model.packing`), so nothing depends on what else is in the batch, and nothing is paid for it either.
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
from comsl.model.packing import Spans, run_decoder, run_encoder
from comsl.objectives.base import CTC_LABELS, SPEECH_POSITIONS, UTTERANCES, WORDS, Memory, Pair, Reads, Target
from comsl.objectives.frozen import (
    TEACHER_TOKENS,
    FrozenDistribution,
    TopDistribution,
    cached_distribution,
    live_distribution,
)
from comsl.objectives.vocabulary import VocabularyLosses, deliver_last, vocabulary_losses
from comsl.objectives.words import Words, word_counts, words_of_passes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from comsl.model.modeling import ComSLForConditionalGeneration

Batch = Mapping[str, Any]


@dataclass(frozen=True)
class Packed:
    """Sequences behind one another: ``states`` [T, D]."""

    states: Tensor
    spans: Spans

    @classmethod
    def of(cls, padded: Tensor, mask: Tensor) -> Packed:
        """The true positions of right-padded rows [B, L, ...] with their mask [B, L]."""
        spans = Spans.consecutive(mask.sum(1))
        return cls(spans.packed(padded[:, : spans.longest]), spans)


@dataclass(frozen=True)
class Encoded:
    """The text encoder's output, packed [T, D], and where in it each memory of the B utterances lies."""

    states: Tensor
    spans: Mapping[Memory, Spans]


@dataclass
class CTCLoss:
    sum: Tensor
    unaligned: Tensor
    """Labels of utterances that have fewer frames than an alignment needs."""
    unknown: Tensor
    """Symbols of the transcripts that the CTC vocabulary lacks: nobody learns to spell them."""


@dataclass
class Views:
    """What the objectives read; every entry a sum over the local batch, and over its passes where there are two."""

    cross_entropy: dict[Pair, Tensor] = field(default_factory=dict)
    match: dict[tuple[Pair, Pair], Tensor] = field(default_factory=dict)
    frozen_match: dict[Pair, Tensor] = field(default_factory=dict)
    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """layer -> (alone, mixed) states [M, D] at all true speech positions of the batch."""
    shares: Tensor | None = None
    """[M]: what each of these positions counts. 1; of pieces that were heard, more, so that an utterance counts what
    ``counts`` knows of it before it is heard."""
    divergence: dict[Pair, Tensor] = field(default_factory=dict)
    """Of two passes: KL(first || second) + KL(second || first)."""
    unknown: dict[str, Tensor] = field(default_factory=dict)
    """Transcript, translation -> how many of their tokens stand for something that the vocabulary lacks."""
    _ctc: CTCLoss | None = None
    _sides: tuple[Packed, Packed] | None = None
    _words: list[Words] | None = None

    @property
    def sides(self) -> tuple[Packed, Packed]:
        """The text encoder's output of the speech and of the transcript."""
        if self._sides is None:
            raise RuntimeError("nothing declared that it reads both sides")
        return self._sides

    @property
    def words(self) -> list[Words]:
        """Of each pass."""
        if self._words is None:
            raise RuntimeError("nothing declared that it reads words")
        return self._words

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
    rows = next(iter(batch.values()))
    result[UTTERANCES] = torch.tensor(len(rows), device=rows.device)
    if "transcript_words" in batch:
        result[WORDS] = word_counts(batch).sum()
    if "attention_mask" in batch:
        result[SPEECH_POSITIONS] = model.speech_positions(batch["attention_mask"].sum(dim=1)).sum()
    return result


def compute_views(
    model: ComSLForConditionalGeneration, batch: Batch, reads: Reads, teacher: PreTrainedModel | None = None
) -> Views:
    """Computes exactly what ``reads`` names. See the module's docstring and docs/objectives.md.

    Args:
        batch: as :class:`comsl.data.collate.Collator` makes it.
        teacher: the frozen text model, needed if ``reads.frozen_matches`` and the batch has no cached distribution.
    """
    if reads.passes > 1:
        batch = {name: torch.cat([value] * reads.passes) for name, value in batch.items()}
    texts = (Target.TRANSCRIPT.value, Target.TRANSLATION.value)
    views = Views(unknown={text: batch[f"{text}_unknown"].sum() for text in texts if f"{text}_unknown" in batch})
    output_weight = deliver_last(model.output_weight)
    encoded = _encode(model, batch, reads, views)
    if reads.pairs:
        hidden = _decode(model, batch, sorted(reads.pairs, key=str), encoded)
        _score(model, batch, reads, hidden, output_weight, teacher, views)
    return views


# --- encoder -------------------------------------------------------------------------------------------------------


def _encode(model: ComSLForConditionalGeneration, batch: Batch, reads: Reads, views: Views) -> Encoded | None:
    """Runs the encoders over what is read of speech, text and mixed; fills in what is read on the way."""
    memories = {memory for memory, _ in reads.pairs}
    inputs: dict[str, Packed] = {}
    if reads.encoded_speech or reads.ctc:
        samples = batch["input_features"] if "input_features" in batch else batch["input_values"]
        frames, frame_lengths = model.encode_speech(samples, batch["attention_mask"])
        heard = None
        if reads.ctc:
            if model.ctc_head is None:
                raise ValueError("the CTC objective needs a model composed with ctc_vocabulary")
            heard = model.ctc_head(frames)
            log_probs = (heard if heard.dtype == torch.float64 else heard.float()).log_softmax(-1)
            views._ctc = _ctc_loss(log_probs, frame_lengths, batch)
        if reads.encoded_speech:
            embeds, mask = model.embed_speech(frames, frame_lengths, batch["source_language_ids"], heard)
            speech = Packed.of(embeds, mask)
            if reads.words:
                views._words = words_of_passes(model, batch, log_probs, frame_lengths, embeds, reads.passes)
            if reads.layers or reads.transport or Memory.SPEECH in memories:
                inputs["speech"] = speech
    if reads.encoded_text:
        inputs["text"] = _embedded(model, batch, "transcript_ids")
    if reads.mixed:
        masked = _embedded(model, batch, "masked_transcript_ids")
        inputs["mixed"] = _side_by_side(masked, speech)
        _check_positions(model, inputs["mixed"])
    if not inputs:
        return None
    spans = Spans.consecutive(torch.cat([view.spans.lengths for view in inputs.values()]))
    embeds = torch.cat([view.states for view in inputs.values()])
    states, recorded = run_encoder(model.text_encoder, embeds, spans, reads.layers)
    rows = len(spans.lengths) // len(inputs)
    where = {name: spans[i * rows : (i + 1) * rows] for i, name in enumerate(inputs)}
    parts = {Memory(name): where[name] for name in ("speech", "text") if name in where}
    if "mixed" in where:
        parts[Memory.MIXED_TEXT] = Spans(where["mixed"].starts, masked.spans.lengths)
        behind = where["mixed"].starts + masked.spans.lengths
        parts[Memory.MIXED_SPEECH] = Spans(behind, speech.spans.lengths)
    if recorded:
        known = model.speech_positions(batch["attention_mask"].sum(dim=1))
        views.shares = torch.repeat_interleave(known / speech.spans.lengths, speech.spans.lengths)
    for layer, hidden in recorded.items():
        alone, mixed = (hidden[parts[memory].index] for memory in (Memory.SPEECH, Memory.MIXED_SPEECH))
        views.layers[layer] = alone, mixed
    if reads.transport:
        speech_side, text_side = (
            Packed(states[parts[memory].index], Spans.consecutive(parts[memory].lengths))
            for memory in (Memory.SPEECH, Memory.TEXT)
        )
        views._sides = speech_side, text_side
    return Encoded(states, parts)


def _embedded(model: ComSLForConditionalGeneration, batch: Batch, name: str) -> Packed:
    ids = Packed.of(batch[name], batch["transcript_mask"])
    return Packed(model.embed_text(ids.states), ids.spans)


def _side_by_side(first: Packed, second: Packed) -> Packed:
    """Every sequence of ``second`` right behind the same sequence of ``first``."""
    behind = Spans(len(first.states) + second.spans.starts, second.spans.lengths)
    order = Spans.interleaved(first.spans, behind).index
    lengths = first.spans.lengths + second.spans.lengths
    return Packed(torch.cat([first.states, second.states])[order], Spans.consecutive(lengths))


def _check_positions(model: ComSLForConditionalGeneration, mixed: Packed) -> None:
    """Either side alone was checked where it was made; only together can they be too long.

    The data set refuses such rows by name; this is for batches that come from elsewhere.
    """
    positions = model.max_positions
    if positions is not None and mixed.spans.longest > positions:
        raise ComSLError(
            f"a transcript and its speech take {mixed.spans.longest} positions together, but the text encoder has "
            f"{positions}: leave out longer clips, or switch off mtp, stm and erm, which read them together"
        )


# --- decoder -------------------------------------------------------------------------------------------------------


def _decode(
    model: ComSLForConditionalGeneration, batch: Batch, pairs: list[Pair], encoded: Encoded | None
) -> dict[Pair, Tensor]:
    """The decoder's output [M, D] at the scored positions of every pair, from one run over the sequences of all."""
    assert encoded is not None  # every pair has a memory
    ids, lengths, places = [], [], []
    for _, target in pairs:
        scored = batch[target.labels] != IGNORED_LABEL
        position = torch.arange(scored.shape[1], device=scored.device)
        # Causal attention: behind the last scored position nothing is read, so nothing is computed.
        lengths.append((scored * (position + 1)).amax(1).clamp_min(1))
        inputs = Spans.consecutive(lengths[-1])
        ids.append(inputs.packed(batch[target.decoder_inputs][:, : inputs.longest]))
        places.append((inputs.starts[:, None] + position)[scored])
    spans = Spans.consecutive(torch.cat(lengths))
    keys = [encoded.spans[memory] for memory, _ in pairs]
    hidden = run_decoder(
        model.text_decoder,
        model.embed_target(torch.cat(ids)),
        spans,
        encoded.states,
        Spans(torch.cat([key.starts for key in keys]), torch.cat([key.lengths for key in keys])),
    )
    of_pairs = hidden.split([len(tokens) for tokens in ids])
    return {pair: states[place] for pair, states, place in zip(pairs, of_pairs, places, strict=True)}


def _frozen(teacher: PreTrainedModel | None, batch: Batch) -> FrozenDistribution | TopDistribution:
    """Of the frozen text model over the translation: out of the batch where a cache has put it there, else live."""
    if TEACHER_TOKENS in batch:
        return cached_distribution(batch)
    if teacher is None:
        raise ValueError("an objective compares with the frozen text model, but no teacher was given")
    return live_distribution(teacher, batch)


# --- vocabulary ----------------------------------------------------------------------------------------------------


def _score(
    model: ComSLForConditionalGeneration,
    batch: Batch,
    reads: Reads,
    hidden: dict[Pair, Tensor],
    output_weight: Tensor,
    teacher: PreTrainedModel | None,
    views: Views,
) -> None:
    """Takes the scored positions of all pairs through the vocabulary, once.

    Each pass of a batch that goes through the model several times is a set of its own.
    """
    passes = reads.passes
    if passes > 1:
        batch = {name: value[: len(value) // passes] for name, value in batch.items()}
    groups, keys = [], []
    for target in Target:
        pairs = [pair for pair in hidden if pair[1] is target]
        if not pairs:
            continue
        labels = batch[target.labels]
        scored = labels != IGNORED_LABEL
        sets = {pair: range(k * passes, (k + 1) * passes) for k, pair in enumerate(pairs)}
        matches = sorted((match for match in reads.matches if match[0][1] is target), key=str)
        frozen_matches = sorted((pair for pair in reads.frozen_matches if pair[1] is target), key=str)
        divergences = sorted((pair for pair in reads.divergences if pair[1] is target), key=str)
        frozen = _frozen(teacher, batch) if frozen_matches else None
        # A pair that is only matched, or only matched with, has no cross-entropy of its own: weight it with nothing.
        losses = VocabularyLosses(
            labels=labels[scored],
            smoothing=tuple(reads.cross_entropies.get(pair, 0.0) for pair in pairs for _ in sets[pair]),
            matches=tuple(pair for s, t in matches for pair in zip(sets[s], sets[t], strict=True)),
            frozen_matches=tuple(place for pair in frozen_matches for place in sets[pair]),
            frozen=frozen,
            divergences=tuple((sets[pair][0], sets[pair][1]) for pair in divergences),
        )
        states = torch.cat([hidden[pair].unflatten(0, (passes, len(losses.labels))) for pair in pairs])
        groups.append((states, losses))
        keys.append((pairs, matches, frozen_matches, divergences))
    sums = vocabulary_losses(groups, output_weight, model.output_bias)
    for (pairs, matches, frozen_matches, divergences), found in zip(keys, sums, strict=True):
        views.cross_entropy.update(zip(pairs, found.cross_entropy.unflatten(0, (-1, passes)).sum(1), strict=True))
        views.match.update(zip(matches, found.match.unflatten(0, (-1, passes)).sum(1), strict=True))
        views.frozen_match.update(
            zip(frozen_matches, found.frozen_match.unflatten(0, (-1, passes)).sum(1), strict=True)
        )
        views.divergence.update(zip(divergences, found.divergence, strict=True))


def _ctc_loss(log_probs: Tensor, lengths: Tensor, batch: Batch) -> CTCLoss:
    labels = batch["ctc_labels"]
    valid = labels != IGNORED_LABEL
    label_lengths = valid.sum(1)
    # A row without a single known symbol says nothing about the speech; it must not teach "all blank".
    labelled = label_lengths > 0
    repeats = ((labels[:, 1:] == labels[:, :-1]) & valid[:, 1:]).sum(1)
    aligned = lengths >= label_lengths + repeats
    loss = F.ctc_loss(
        log_probs.transpose(0, 1), labels.clamp_min(0), lengths, label_lengths, reduction="none", zero_infinity=True
    )
    return CTCLoss((loss * labelled).sum(), label_lengths[~aligned].sum(), batch["ctc_unknown"].sum())
