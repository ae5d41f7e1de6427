"""Decoding by transformers' ``generate``, which has every setting there is: sampling, penalties on repetition.

What ``comsl.inference.search`` can do, it does several times faster; the tests hold it to what this gives.

Letters: B rows of a batch, N tokens of a decoder sequence, P tokens of the decoder's prompt [eos, language].
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

if TYPE_CHECKING:
    from comsl.inference.options import DecodingOptions

PROMPT_TOKENS = 2  # [eos, language]
SCORE_ELEMENTS = 1 << 25  # logits held at once when hypotheses are scored (128 MiB in float32)


class RowLimits(StoppingCriteria):
    """Ends each row of a batch at that row's own number of new tokens.

    Works for greedy search and sampling ([B, N] ids) and for beam search ([B x candidates, N] ids, a row's candidates
    side by side), where what the beams hold at the limit counts as finished, as at transformers' own ``max_length``.
    """

    def __init__(self, limits: Sequence[int], prompt: int = PROMPT_TOKENS) -> None:
        self.limits = torch.tensor(list(limits), dtype=torch.long)
        self.prompt = prompt

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        new_tokens = input_ids.shape[1] - self.prompt
        limits = self.limits.to(input_ids.device).repeat_interleave(input_ids.shape[0] // len(self.limits))
        return new_tokens >= limits


def generate(
    model: Any,
    encoded: Any,
    prompt: Tensor,
    limits: Sequence[int],
    options: "DecodingOptions",
    eos: int,
    count: int = 1,
) -> list[list[tuple[list[int], float]]]:
    """The ``count`` best of each row, or as many samples of it: new tokens, the end and padding included, and their
    mean log-probability (NaN if unwanted).

    Each of our settings is given, so that a checkpoint's own do not step in.

    Args:
        encoded: as ``model.encode`` makes it.
        prompt: [B, P].
        limits: most new tokens of each row.
    """
    criterion = RowLimits(limits, prompt.shape[1])
    settings: dict[str, Any] = {
        "num_beams": options.beam,
        "num_return_sequences": count,
        "length_penalty": options.length_penalty,
        "early_stopping": False,
        "no_repeat_ngram_size": options.no_repeat_ngram,
        "repetition_penalty": options.repetition_penalty,
        "do_sample": options.do_sample,
        # One more than any row may use: checkpoints that force the end at the batch's last step never get there.
        "max_new_tokens": int(criterion.limits.max()) + 1,
        "stopping_criteria": StoppingCriteriaList([criterion]),
    }
    if options.do_sample:
        settings |= {"temperature": options.temperature, "top_k": options.top_k, "top_p": options.top_p}
    # A copy: generate repeats the rows for its beams inside the object that it is given.
    sequences = model.generate(encoder_outputs=type(encoded)(**encoded), decoder_input_ids=prompt, **settings)
    scores = [math.nan] * len(sequences)
    if options.scores:
        scores = _scores(model, encoded, sequences, criterion, eos)
    found = list(zip(sequences[:, criterion.prompt :].tolist(), scores, strict=True))
    return [found[start : start + count] for start in range(0, len(found), count)]


def _scores(model: Any, encoded: Any, sequences: Tensor, criterion: RowLimits, eos: int) -> list[float]:
    """Mean log-probability of each sequence's new tokens by one teacher-forced pass of the decoder.

    Beam search could report it, but only by keeping the scores of all beams over the vocabulary at every step: several
    gigabytes at 250,000 tokens. Rows go through in pieces for the same reason.
    """
    scores: list[float] = []
    count = len(sequences) // len(criterion.limits)  # hypotheses of each row, side by side
    owners = torch.arange(len(criterion.limits), device=sequences.device).repeat_interleave(count)
    rows = max(1, SCORE_ELEMENTS // (sequences.shape[1] * int(model.config.text_config.vocab_size)))
    for start in range(0, len(sequences), rows):
        piece = slice(start, start + rows)
        memory = type(encoded)(**{name: tensor[owners[piece]] for name, tensor in encoded.items()})
        logits = model(encoder_outputs=memory, decoder_input_ids=sequences[piece, :-1], use_cache=False).logits
        logits = logits[:, criterion.prompt - 1 :].float()
        labels = sequences[piece, criterion.prompt :]
        log_probabilities = -torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        ends = (labels == eos).long()
        limits = criterion.limits.to(labels.device)[owners[piece]].clamp(max=labels.shape[1])
        lengths = torch.where(ends.any(1), ends.argmax(1) + 1, limits)
        counted = torch.arange(labels.shape[1], device=labels.device) < lengths[:, None]
        scores += (log_probabilities.where(counted, 0.0).sum(1) / lengths).tolist()
    return scores
