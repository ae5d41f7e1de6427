"""Useful arithmetic of a training step, and of translating: the matrix products needed, from the architecture alone.

A product of [m, k] and [k, n] is 2 m k n operations. Counted is what no implementation can leave out: true lengths
without padding; every view of an utterance encoded once; every (memory, target) pair decoded once, with the keys and
values of a memory made once; every scored position of a pair through the vocabulary once. The backward pass of what is
trained costs twice its forward pass; a frozen part has none, and nothing is sent back into it. Not counted, because
they are choices: padding, activations or logits that are computed again, and everything that is not a product.

Legend: T mel frames, F frames of the speech encoder, F' frames after the adapter, S source tokens with language and
end, N target tokens likewise, d_s and d the widths of the speech and the text part, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from comsl.data.constants import IGNORED_LABEL
from comsl.model.configuration import ComSLConfig
from comsl.objectives import ObjectiveSet
from comsl.objectives.base import Memory, Pair, Reads, Target

PARTS = ("speech encoder", "adapter", "text encoder", "decoder", "vocabulary", "teacher")
BACKWARD = 2
"""Backward pass of a product over its forward pass: the gradients of both factors."""


@dataclass(frozen=True)
class Lengths:
    """One utterance."""

    frames: int
    """T."""
    transcript: int
    """S: language, tokens, end."""
    translation: int
    """N: end, language, tokens (as many as tokens, end and the unscored first place of the labels)."""
    masked: int
    """Masked, and therefore scored, tokens of the transcript."""


def batch_lengths(batch: Mapping[str, Tensor]) -> list[Lengths]:
    """Lengths of each utterance in a batch of ``comsl.data.collate.Collator`` with speech and all texts."""
    frames = batch["attention_mask"].sum(1)
    transcript = batch["transcript_mask"].sum(1)
    translation = (batch["translation_labels"] != IGNORED_LABEL).sum(1) + 1
    masked = (batch["mtp_labels"] != IGNORED_LABEL).sum(1)
    columns = (frames, transcript, translation, masked)
    return [Lengths(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def step_flops(
    config: ComSLConfig, lengths: Iterable[Lengths], objectives: ObjectiveSet, frozen_speech: bool = False
) -> dict[str, float]:
    """Useful operations of forward and backward, by part (``PARTS``); their sum is the step's.

    Args:
        config: of a model with Whisper's encoder; the teacher has the shape of its text part.
        lengths: of the utterances in the batch.
        objectives: what is switched on.
        frozen_speech: the speech encoder is not trained.
    """
    if config.speech_config.model_type != "whisper":
        raise ValueError(f"operations are counted for Whisper's encoder, not for {config.speech_config.model_type}")
    total = dict.fromkeys(PARTS, 0.0)
    for utterance in lengths:
        counted = _Utterance(config, utterance, objectives.reads)
        for part, operations in counted.parts(frozen_speech):
            total[part] += operations
    return total


def translation_flops(config: ComSLConfig, frames: Iterable[int], tokens: int, beam: int) -> float:
    """Useful operations of translating clips of so many mel frames (T) into so many tokens each.

    Of a memory's keys and values, and of the prompt (end, language), there is one for all beams; what beams have in
    common besides is counted for each.
    """
    text, reads = config.text_config, ObjectiveSet({"st": True}).reads
    width, total = text.d_model, 0.0
    for length in frames:
        clip = _Utterance(config, Lengths(length, 0, 0, 0), reads)
        adapter, adapted = clip._adapter(trained_input=True)
        memory, steps = adapted + 1, (tokens - 1) * beam
        total += clip._speech_encoder(trained=False) + adapter / (1 + BACKWARD)
        total += _encoder(text.encoder_layers, memory, width, text.encoder_ffn_dim) + clip._keys_and_values(memory)
        products = 2 * (6 * width**2 + 2 * width * text.decoder_ffn_dim)
        attention = 4 * (memory + tokens / 2) * width
        total += (2 + steps) * text.decoder_layers * (products + attention) + (1 + steps) * clip._vocabulary
    return total


class _Utterance:
    """The operations of one utterance."""

    def __init__(self, config: ComSLConfig, lengths: Lengths, reads: Reads) -> None:
        self.config, self.lengths, self.reads = config, lengths, reads
        self.frames = (lengths.frames - 1) // 2 + 1
        # A pair that is only matched with is a constant to the loss.
        self.trained = {*reads.cross_entropies, *reads.frozen_matches, *(student for student, _ in reads.matches)}

    def parts(self, frozen_speech: bool) -> Iterator[tuple[str, float]]:
        reads = self.reads
        if reads.encoded_speech or reads.ctc:
            yield "speech encoder", self._speech_encoder(trained=not frozen_speech)
        adapter, speech = self._adapter(trained_input=not frozen_speech)
        if reads.encoded_speech:
            yield "adapter", adapter
        positions = {"speech": speech + 1, "text": self.lengths.transcript}
        positions["mixed"] = positions["speech"] + positions["text"]
        yield "text encoder", sum(self._view(view, length) for view, length in positions.items())
        yield (
            "decoder",
            sum(map(self._pair, reads.pairs)) + sum(map(self._memory, {memory for memory, _ in reads.pairs})),
        )
        yield "vocabulary", sum(self._scored(pair[1]) * self._factor(pair) for pair in reads.pairs) * self._vocabulary
        if reads.frozen_matches:
            yield "teacher", self._teacher()

    # --- speech ------------------------------------------------------------------------------------------------------

    def _speech_encoder(self, trained: bool) -> float:
        speech = self.config.speech_config
        width = speech.d_model
        first = 2 * self.lengths.frames * 3 * speech.num_mel_bins * width
        second = 2 * self.frames * 3 * width * width
        layers = _encoder(speech.encoder_layers, self.frames, width, speech.encoder_ffn_dim)
        head = 2 * self.frames * width * len(self.config.ctc_vocabulary or ()) if self.reads.ctc else 0
        if not trained:
            return first + second + layers + head * (1 + BACKWARD)
        # The log-mel features take no gradient.
        return first * 2 + (second + layers + head) * (1 + BACKWARD)

    def _adapter(self, trained_input: bool) -> tuple[float, int]:
        """Operations, and F'. Raises ValueError for an adapter whose F' depends on what is heard."""
        if self.config.adapter != "convolution":
            raise ValueError(f"the adapter {self.config.adapter} is not counted")
        config = self.config
        kernel, length, width = config.adapter_kernel_size, self.frames, config.speech_config.d_model
        total = 0.0
        for number, stride in enumerate(config.adapter_strides):
            linear = 2 * length * width * config.adapter_ffn_factor * width
            total += 2 * linear * (1 + BACKWARD)
            if number == 0 and not trained_input:
                total -= linear
            length = (length + 2 * (kernel // 2) - kernel) // stride + 1
            total += 2 * length * kernel * width * 2 * config.hidden_size * (1 + BACKWARD)
            width = config.hidden_size
        return total, length

    # --- text --------------------------------------------------------------------------------------------------------

    def _view(self, view: str, length: int) -> float:
        """Text encoder over one view, as deep as somebody reads it."""
        text, reads = self.config.text_config, self.reads
        pairs = [pair for pair in reads.pairs if view == ("mixed" if pair[0].is_mixed else pair[0].value)]
        depth = text.encoder_layers if pairs else 0
        trained = text.encoder_layers if self.trained.intersection(pairs) else 0
        if view != "text":
            compared = max(reads.layers, default=0)
            depth, trained = max(depth, compared), max(trained, compared)
        layer = _encoder(1, length, text.d_model, text.encoder_ffn_dim)
        return (depth + BACKWARD * trained) * layer

    def _pair(self, pair: Pair) -> float:
        return self._decoder_layers(self._tokens(pair[1]), self._memory_length(pair[0])) * self._factor(pair)

    def _memory(self, memory: Memory) -> float:
        trained = any(pair[0] is memory for pair in self.trained)
        return self._keys_and_values(self._memory_length(memory)) * (1 + BACKWARD * trained)

    def _teacher(self) -> float:
        text, lengths = self.config.text_config, self.lengths
        encoder = _encoder(text.encoder_layers, lengths.transcript, text.d_model, text.encoder_ffn_dim)
        decoder = self._decoder_layers(lengths.translation, lengths.transcript)
        memory = self._keys_and_values(lengths.transcript)
        return encoder + decoder + memory + self._scored(Target.TRANSLATION) * self._vocabulary

    def _factor(self, pair: Pair) -> int:
        return 1 + BACKWARD * (pair in self.trained)

    def _tokens(self, target: Target) -> int:
        return self.lengths.translation if target is Target.TRANSLATION else self.lengths.transcript

    def _scored(self, target: Target) -> int:
        return self.lengths.masked if target is Target.MASKED_TOKENS else self._tokens(target) - 1

    def _memory_length(self, memory: Memory) -> int:
        if memory in (Memory.TEXT, Memory.MIXED_TEXT):
            return self.lengths.transcript
        return self._adapter(trained_input=True)[1] + 1

    def _decoder_layers(self, tokens: int, memory: int) -> float:
        """All but the keys and values of the memory. Of the causal attention all products are counted, as kernels
        and counters of this size do them; the half above the diagonal is far below 1% of the decoder."""
        text = self.config.text_config
        layer = _encoder(1, tokens, text.d_model, text.decoder_ffn_dim)
        cross = 2 * tokens * 2 * text.d_model**2 + 4 * tokens * memory * text.d_model
        return text.decoder_layers * (layer + cross)

    def _keys_and_values(self, memory: int) -> float:
        text = self.config.text_config
        return text.decoder_layers * 2 * memory * 2 * text.d_model**2

    @property
    def _vocabulary(self) -> float:
        """One position through the vocabulary."""
        return 2 * self.config.vocab_size * self.config.hidden_size


def _encoder(layers: int, length: int, width: int, ffn: int) -> float:
    """Transformer layers with self-attention: projections, feed-forward, scores and weighted values."""
    return layers * (2 * length * (4 * width**2 + 2 * width * ffn) + 4 * length**2 * width)
