"""Memory -> the best hypotheses of each row, by whichever search does what the settings ask for."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from comsl.inference.generate import generate
from comsl.inference.options import DecodingOptions, Hypothesis
from comsl.inference.search import beam_search, greedy_search
from comsl.model.steps import DecoderSteps

Scored = tuple[list[int], float]
"""New tokens, the end included where there is one, and their mean log-probability."""


def nbest(
    model: Any,
    processor: Any,
    memory: Any,
    languages: Sequence[int],
    limits: Sequence[int],
    options: DecodingOptions,
    count: int = 1,
) -> list[list[Hypothesis]]:
    """Hypotheses of each of B rows, best first.

    Args:
        memory: of B rows, as ``model.encode`` makes it.
        languages: token id of the language to write, one a row.
        limits: most new tokens of each row, at least 1.
        count: how many a row; at most the beam, unless they are sampled.
    """
    prompt = model.decoder_prompt(torch.tensor(languages))
    found = search(model, memory, prompt, list(limits), options, processor.eos_token_id, count)
    return [[_hypothesis(tokens, score, processor) for tokens, score in row] for row in found]


def search(
    model: Any, memory: Any, prompt: Tensor, limits: list[int], options: DecodingOptions, end: int, count: int = 1
) -> list[list[Scored]]:
    """The ``count`` best of each row, best first; ``prompt`` [B, N] is what every hypothesis begins with."""
    if options.do_sample or options.no_repeat_ngram or options.repetition_penalty != 1.0:
        return generate(model, memory, prompt, limits, options, end, count)
    steps = DecoderSteps(model, memory.last_hidden_state, memory.memory_mask)
    if options.beam == 1:
        found = [[row] for row in greedy_search(steps, prompt, limits, end)]
    else:
        found = beam_search(steps, prompt, limits, end, options.beam, options.length_penalty)
    return [
        [(each.tokens, each.log_probability / len(each.tokens) if options.scores else math.nan) for each in row[:count]]
        for row in found
    ]


def _hypothesis(tokens: list[int], score: float, processor: Any) -> Hypothesis:
    """Tokens up to the end; one that its limit ended has no end, but may be padded."""
    truncated = processor.eos_token_id not in tokens
    if truncated:
        tokens = [token for token in tokens if token != processor.pad_token_id]
    else:
        tokens = tokens[: tokens.index(processor.eos_token_id)]
    return Hypothesis(processor.decode(tokens).strip(), score, tokens, truncated)
