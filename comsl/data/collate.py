"""Examples -> one batch.

Shapes: B examples, T feature frames, S transcript tokens with language and end, N translation tokens likewise, C
symbols of the CTC vocabulary. Everything is padded on the right: ids with the pad token, labels with -100.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from comsl.data.constants import IGNORED_LABEL
from comsl.data.dataset import Example, check_fields
from comsl.data.errors import DataError
from comsl.errors import ComSLError

Batch = dict[str, Tensor]


class Collator:
    """Builds the fields that the objectives read, and nothing else.

    speech
        ``input_features`` [B, n_mels, T] or [B, T, S * n_mels], or ``input_values`` [B, samples]; ``attention_mask``;
        ``source_language_ids`` [B]; ``durations`` [B] in seconds.
    transcript
        ``transcript_ids``, ``transcript_mask`` [B, S]: what the encoder reads, [language, tokens, end].
        ``transcript_decoder_input_ids`` [B, S] = [end, language, tokens] and
        ``transcript_labels`` [B, S] = [-100, tokens, end]; ``transcript_unknown`` [B]: unknown tokens of each row.
    masked_transcript
        ``masked_transcript_ids``, ``transcript_mask`` [B, S]: each token but language and end replaced by the mask
        token with ``mask_probability``. ``mtp_labels`` [B, S]: the transcript's labels where a token was replaced, else
        -100. ``transcript_decoder_input_ids`` as above, which the decoder reads.
    translation
        ``translation_decoder_input_ids`` and ``translation_labels`` [B, N], ``translation_unknown`` [B], as the
        transcript's.
        Where the examples have a cached teacher: ``teacher_tokens`` and ``teacher_probabilities`` [B, N, k] beside the
        labels, zeros where none is scored.
    ctc
        ``ctc_labels`` [B, C]: all -100 for a row without a character that the vocabulary has; ``ctc_unknown`` [B]:
        characters of each row that it lacks.

    words
        ``transcript_words`` [B, S] and ``ctc_words`` [B, C]: which word of the transcript (0, 1, ...) each of
        ``transcript_ids`` and ``ctc_labels`` belongs to; -1 for language, end and padding.

    A text with more tokens than the processor's ``max_positions`` is an error that names its row.

    Args:
        processor: a ComSLProcessor.
        fields: some of the above.
        mask_probability: of each token for ``masked_transcript``.
    """

    def __init__(self, processor: Any, fields: Collection[str], mask_probability: float = 0.15) -> None:
        self.processor = processor
        self.fields = check_fields(fields)
        if not 0 <= mask_probability <= 1:
            raise ValueError(f"mask_probability must be between 0 and 1, not {mask_probability}")
        self.mask_probability = mask_probability

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Raises DataError naming the row: a needed field is missing, or its language is not the model's."""
        batch: Batch = {}
        if "speech" in self.fields:
            batch.update(self._speech(examples))
        if self.fields & {"transcript", "masked_transcript"}:
            batch.update(self._transcript(examples))
        if "translation" in self.fields:
            batch.update(self._translation(examples))
            if any(example.teacher is not None for example in examples):
                batch.update(self._teacher(examples, batch["translation_labels"]))
        if "ctc" in self.fields:
            rows = self._each(examples, "transcript", lambda row: self.processor.ctc_ids(row.transcript))
            # One place at least: no row of the batch may have a label.
            batch["ctc_labels"] = self._pad([ids or [IGNORED_LABEL] for ids, _ in rows], IGNORED_LABEL)
            batch["ctc_unknown"] = torch.tensor([unknown for _, unknown in rows], dtype=torch.long)
        if "words" in self.fields:
            words = self._each(examples, "transcript", lambda row: self.processor.word_numbers(row.transcript))
            batch["transcript_words"] = self._pad([[-1, *tokens, -1] for tokens, _ in words], -1)
            batch["ctc_words"] = self._pad([symbols or [-1] for _, symbols in words], -1)
        return batch

    def _each(self, examples: Sequence[Example], column: str, make: Callable[[Example], Any]) -> list[Any]:
        made = []
        for example in examples:
            if getattr(example, column) is None:
                name = "audio" if column == "features" else column
                raise DataError(f"row {example.id!r} has no {name}; fill it in, or leave the row out")
            try:
                made.append(make(example))
            except ComSLError as error:
                raise DataError(f"row {example.id!r}: {error}") from None
        return made

    def _speech(self, examples: Sequence[Example]) -> Batch:
        features = self._each(examples, "features", lambda row: row.features)
        languages = self._each(examples, "source_language", lambda row: self.processor.language_id(row.source_language))
        return {
            **self.processor.pad_features(features),
            "source_language_ids": torch.tensor(languages),
            "durations": torch.tensor([float(example.duration or 0.0) for example in examples]),
        }

    def _transcript(self, examples: Sequence[Example]) -> Batch:
        def source(row: Example) -> list[int]:
            return self._fitting(self.processor.source_ids(row.transcript, row.source_language), "transcript")

        def target(row: Example) -> tuple[list[int], list[int]]:
            return self.processor.target_ids(row.transcript, row.source_language)

        ids = self._each(examples, "transcript", source)
        targets = self._each(examples, "transcript", target)
        labels = [row[1] for row in targets]
        batch = {
            "transcript_mask": self._pad([[1] * len(row) for row in ids], 0),
            "transcript_decoder_input_ids": self._pad([row[0] for row in targets], self.processor.pad_token_id),
        }
        if "transcript" in self.fields:
            batch["transcript_ids"] = self._pad(ids, self.processor.pad_token_id)
            batch["transcript_labels"] = self._pad(labels, IGNORED_LABEL)
            batch["transcript_unknown"] = self._unknown(labels)
        if "masked_transcript" in self.fields:
            masks = [self._mask(example, len(row)) for example, row in zip(examples, ids, strict=True)]
            mask_token = self.processor.mask_token_id
            batch["masked_transcript_ids"] = self._pad(
                [np.where(mask, mask_token, row).tolist() for mask, row in zip(masks, ids, strict=True)],
                self.processor.pad_token_id,
            )
            batch["mtp_labels"] = self._pad(
                [np.where(mask, row, IGNORED_LABEL).tolist() for mask, row in zip(masks, labels, strict=True)],
                IGNORED_LABEL,
            )
        return batch

    def _mask(self, example: Example, length: int) -> np.ndarray:
        """[length] bool: which of [language, tokens, end] are masked. Not the augmentation's numbers, hence the 1."""
        mask = np.random.default_rng((*example.key, 1)).random(length) < self.mask_probability
        mask[0] = mask[-1] = False
        return mask

    def _translation(self, examples: Sequence[Example]) -> Batch:
        self._each(examples, "target_language", lambda row: None)

        def target(row: Example) -> tuple[list[int], list[int]]:
            ids, labels = self.processor.target_ids(row.translation, row.target_language)
            return self._fitting(ids, "translation"), labels

        targets = self._each(examples, "translation", target)
        return {
            "translation_decoder_input_ids": self._pad([row[0] for row in targets], self.processor.pad_token_id),
            "translation_labels": self._pad([row[1] for row in targets], IGNORED_LABEL),
            "translation_unknown": self._unknown([row[1] for row in targets]),
        }

    def _teacher(self, examples: Sequence[Example], labels: Tensor) -> Batch:
        tops = self._each(examples, "teacher", lambda row: row.teacher)
        size = (*labels.shape, tops[0][0].shape[1])
        tokens, probabilities = torch.zeros(size, dtype=torch.long), torch.zeros(size)
        for place, (example, (known, shares)) in enumerate(zip(examples, tops, strict=True)):
            scored = labels[place] != IGNORED_LABEL
            if int(scored.sum()) != len(known):
                raise DataError(
                    f"row {example.id!r}: its translation has {int(scored.sum())} tokens, the cached teacher "
                    f"{len(known)}: the cache is damaged; delete its folder"
                )
            tokens[place, scored], probabilities[place, scored] = (
                torch.from_numpy(known).long(),
                torch.from_numpy(shares),
            )
        return {"teacher_tokens": tokens, "teacher_probabilities": probabilities}

    def _unknown(self, labels: Sequence[list[int]]) -> Tensor:
        """[B]: tokens of each row that stand for something that the vocabulary lacks."""
        return torch.tensor([row.count(self.processor.unk_token_id) for row in labels])

    def _fitting(self, ids: list[int], what: str) -> list[int]:
        """The ids, which are no more than the text model has positions for."""
        limit = getattr(self.processor, "max_positions", None)
        if limit is not None and len(ids) > limit:
            raise DataError(
                f"its {what} is {len(ids)} tokens long (with language and end), the text model has positions for"
                f" {limit}; split the row at its sentences, or leave it out"
            )
        return ids

    @staticmethod
    def _pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
        longest = max(len(row) for row in rows)
        return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows], dtype=torch.long)
