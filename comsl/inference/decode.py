"""Features or text -> hypotheses: the one place that decodes.

Training (dev BLEU), evaluation and translation all decode through here. What a row gives depends on that row alone: not
on its neighbours in the batch, not on the batch size, not on the order of the input (sampling excepted: its random
numbers are drawn batch by batch). Inputs are sorted by length to pad little, and hypotheses come back in input order.

Letters: B rows of a batch, N tokens.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from comsl.errors import ComSLError
from comsl.inference.clips import Clip
from comsl.inference.generate import PROMPT_TOKENS, generate
from comsl.inference.search import beam_search, greedy_search
from comsl.model.modeling import ComSLEncoderOutput
from comsl.model.steps import DecoderSteps
from comsl.progress import track

ENCODED_SECONDS, ENCODED_TOKENS = 5.0, 256.0  # encoded together on a CPU, padding included


class DecodingError(ComSLError):
    """An input that this model cannot decode, named by its place in the input."""


@dataclass(frozen=True)
class DecodingOptions:
    """How to search. The defaults are the paper's (beam 5) with nothing suppressed.

    A row may grow to ``max_new_tokens`` tokens; when that is None, to ``tokens_per_second`` x its seconds (speech) or
    ``tokens_per_token`` x its source tokens (text) plus ``extra_tokens``: far more than any language needs, a bound for
    a decoder that runs in circles. In every case at most what the text model has positions for. The bound is each
    row's own: a stopping criterion ends every row at its own limit, so a long neighbour does not let it run on.
    """

    beam: int = 5
    """Beams; 1 is greedy search."""
    max_new_tokens: int | None = None
    """The same bound for every row, in tokens after the prompt; None derives it from the row's length."""
    tokens_per_second: float = 16.0
    tokens_per_token: float = 3.0
    extra_tokens: int = 16
    length_penalty: float = 1.0
    """Exponent of the length by which a beam's log-probability is divided: above 1 favours long output."""
    no_repeat_ngram: int = 0
    """Never repeat an n-gram of this many tokens; 0 switches it off."""
    repetition_penalty: float = 1.0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    """Of the sampling; greedy and beam search have no randomness."""
    batch_size: int = 8
    """Rows decoded together, at most."""
    batch_seconds: float | None = None
    """Padded seconds of speech decoded together, at most (a longer row goes alone); None: no such bound."""
    scores: bool = True
    """Score the hypotheses, which when sampling or penalising repetition costs one more pass of the decoder;
    switched off, ``Hypothesis.score`` is NaN."""

    def __post_init__(self) -> None:
        for name in ("beam", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, not {self.max_new_tokens}")


@dataclass(frozen=True)
class Hypothesis:
    """One decoded row."""

    text: str
    score: float
    """Mean natural log-probability of a generated token, the end included, whatever the search; NaN if unwanted."""
    tokens: list[int] = field(default_factory=list)
    """The generated ids: neither the prompt, nor the end, nor padding."""
    truncated: bool = False
    """The row reached its limit of new tokens before its end: the text is cut off, or goes round in circles."""


def decode_speech(
    model: Any,
    processor: Any,
    clips: Sequence[Clip],
    source_languages: str | Sequence[str],
    target_languages: str | Sequence[str],
    task: str = "translate",
    options: DecodingOptions | None = None,
    *,
    description: str | None = None,
) -> list[Hypothesis]:
    """Translate or transcribe clips: ``decode_speech_tasks`` for one task.

    Returns:
        One hypothesis a clip, in the order of ``clips``; nothing for nothing.
    """
    (hypotheses,) = decode_speech_tasks(
        model, processor, clips, source_languages, target_languages, (task,), options, description=description
    )
    return hypotheses


def decode_speech_tasks(
    model: Any,
    processor: Any,
    clips: Sequence[Clip],
    source_languages: str | Sequence[str],
    target_languages: str | Sequence[str],
    tasks: Sequence[str],
    options: DecodingOptions | None = None,
    *,
    description: str | None = None,
) -> list[list[Hypothesis]]:
    """Translate and transcribe clips that are encoded once.

    Args:
        model: a ``ComSLForConditionalGeneration`` on any device and in any floating type; in eval mode while this runs,
            every module's mode restored afterwards.
        clips: as ``prepare_clip`` makes them.
        source_languages, target_languages: one code for all clips or one a clip; of the task "transcribe" the output
            is in the source language whatever the target says.
        tasks: any of "translate" and "transcribe".
        description: label of a progress bar; None shows none.

    Returns:
        For each task one hypothesis a clip, in the order of ``clips``.
    """
    options = options or DecodingOptions()
    for task in tasks:
        if task not in ("translate", "transcribe"):
            raise ValueError(f'task must be "translate" or "transcribe", not {task!r}')
    sources = _language_ids(source_languages, len(clips), processor)
    targets = [
        sources if task == "transcribe" else _language_ids(target_languages, len(clips), processor) for task in tasks
    ]
    positions = _positions(model)
    limits = [_limit(options, options.tokens_per_second * clip.seconds, positions) for clip in clips]

    def inputs(rows: list[int]) -> dict[str, Tensor]:
        batch = processor.pad_features([clips[row].features for row in rows])
        names = ("input_features", "input_values", "attention_mask")
        arrays = {name: torch.as_tensor(batch[name]) for name in names if name in batch}
        arrays["source_language_ids"] = torch.tensor([sources[row] for row in rows])
        return arrays

    plan = _Plan(
        [clip.padded_seconds for clip in clips], limits, targets, inputs, ENCODED_SECONDS, options.batch_seconds
    )
    return _decode(model, processor, plan, options, description)


def decode_text(
    model: Any,
    processor: Any,
    texts: Sequence[str],
    source_languages: str | Sequence[str],
    target_languages: str | Sequence[str],
    options: DecodingOptions | None = None,
    *,
    description: str | None = None,
) -> list[Hypothesis]:
    """Translate texts with the text part of the model; see ``decode_speech``.

    A blank text gives an empty hypothesis of score 0: there is nothing to translate and nothing should be made up.

    Raises:
        DecodingError: a text has more tokens than the text model has positions.
    """
    options = options or DecodingOptions()
    sources = _codes(source_languages, len(texts))
    targets = _language_ids(target_languages, len(texts), processor)
    positions = _positions(model)
    ids: list[list[int]] = []
    for row, (text, source) in enumerate(zip(texts, sources, strict=True)):
        ids.append(processor.source_ids(text, source) if text.strip() else [])
        if len(ids[-1]) > positions:
            raise DecodingError(
                f"text {row} ({text[:40]!r}...) has {len(ids[-1])} tokens, the text model reads {positions}: split it"
            )
    limits = [_limit(options, options.tokens_per_token * len(tokens), positions) for tokens in ids]

    def inputs(rows: list[int]) -> dict[str, Tensor]:
        width = max(len(ids[row]) for row in rows)
        tokens = torch.full((len(rows), width), processor.pad_token_id, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for place, row in enumerate(rows):
            tokens[place, : len(ids[row])] = torch.tensor(ids[row])
            mask[place, : len(ids[row])] = 1
        return {"input_ids": tokens, "text_attention_mask": mask}

    plan = _Plan([float(len(tokens)) for tokens in ids], limits, [targets], inputs, ENCODED_TOKENS)
    return _decode(model, processor, plan, options, description)[0]


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Eval mode and no gradients inside; afterwards each module has the mode it had (a frozen part may differ)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        # Not inference_mode: position tables that grow on demand would stay behind as tensors autograd refuses.
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@dataclass(frozen=True)
class _Plan:
    """What to decode, a list entry a row; ``inputs`` builds the padded tensors of the rows it is given.

    ``targets`` has a list of output languages for each pass of the decoder over the same memory."""

    lengths: list[float]
    limits: list[int]
    targets: list[list[int]]
    inputs: Callable[[list[int]], dict[str, Tensor]]
    encoded_at_once: float
    """Padded length that is encoded together on a CPU, at most; a longer row goes alone."""
    max_cost: float | None = None


def _decode(
    model: Any, processor: Any, plan: _Plan, options: DecodingOptions, description: str | None
) -> list[list[Hypothesis]]:
    """Batch by length, encode, search, score, put back in order. Rows of length zero give the empty hypothesis."""
    results = [[Hypothesis("", 0.0)] * len(plan.lengths) for _ in plan.targets]
    batches = batch_by_length(plan.lengths, options.batch_size, plan.max_cost)
    steps = batches if description is None else track(batches, total=len(batches), description=description)
    parameter = next(model.parameters())
    fork = torch.random.fork_rng(devices=[parameter.device] if parameter.is_cuda else [], enabled=options.do_sample)
    with evaluating(model), fork:
        if options.do_sample:
            torch.manual_seed(options.seed)
        for rows in steps:
            encoded = _encode(model, plan, rows, parameter)
            for targets, found in zip(plan.targets, results, strict=True):
                prompt = model.decoder_prompt(torch.tensor([targets[row] for row in rows]))
                limits = [plan.limits[row] for row in rows]
                hypotheses = _search(model, encoded, prompt, limits, options, processor)
                for row, (tokens, score) in zip(rows, hypotheses, strict=True):
                    tokens, truncated = _without_end(tokens, processor)
                    found[row] = Hypothesis(processor.decode(tokens).strip(), score, tokens, truncated)
    return results


def _encode(model: Any, plan: _Plan, rows: list[int], like: Tensor) -> ComSLEncoderOutput:
    """The memory of a batch, encoded in smaller batches where that is faster.

    A GPU wants large batches; a CPU has work enough in one long row, and every padded frame costs as much as a real
    one. Memory is padded afterwards, when it is four times shorter.

    Args:
        rows: longest first, so that the smaller batches have them in the same order.
    """
    bound = None if like.is_cuda else plan.encoded_at_once
    groups = batch_by_length([plan.lengths[row] for row in rows], len(rows), bound)
    memory: list[Tensor] = []
    masks: list[Tensor] = []
    for group in groups:
        inputs = plan.inputs([rows[place] for place in group])
        encoded = model.encode(**{name: _to(tensor, like) for name, tensor in inputs.items()})
        memory += encoded.last_hidden_state
        masks += encoded.memory_mask
    return ComSLEncoderOutput(last_hidden_state=pad_sequence(memory, True), memory_mask=pad_sequence(masks, True))


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


def _search(
    model: Any, encoded: Any, prompt: Tensor, limits: list[int], options: DecodingOptions, processor: Any
) -> list[tuple[list[int], float]]:
    """New tokens of each row, the end included where there is one, and their mean log-probability."""
    if options.do_sample or options.no_repeat_ngram or options.repetition_penalty != 1.0:
        return generate(model, encoded, prompt, limits, options, processor.eos_token_id)
    steps = DecoderSteps(model, encoded.last_hidden_state, encoded.memory_mask)
    if options.beam == 1:
        found = greedy_search(steps, prompt, limits, processor.eos_token_id)
    else:
        found = beam_search(steps, prompt, limits, processor.eos_token_id, options.beam, options.length_penalty)
    return [(row.tokens, row.log_probability / len(row.tokens) if options.scores else math.nan) for row in found]


def _without_end(tokens: list[int], processor: Any) -> tuple[list[int], bool]:
    """Tokens up to the end, and whether there is none: a row that its limit ended has no end but may be padded."""
    if processor.eos_token_id in tokens:
        return tokens[: tokens.index(processor.eos_token_id)], False
    return [token for token in tokens if token != processor.pad_token_id], True


def _codes(codes: str | Sequence[str], rows: int) -> list[str]:
    """One code a row."""
    codes = [codes] * rows if isinstance(codes, str) else list(codes)
    if len(codes) != rows:
        raise ValueError(f"{len(codes)} languages for {rows} rows")
    return codes


def _language_ids(codes: str | Sequence[str], rows: int, processor: Any) -> list[int]:
    """One token a row; a language the model lacks is an error before any work, whether there are rows or not."""
    ids = {code: processor.language_id(code) for code in ([codes] if isinstance(codes, str) else list(codes))}
    return [ids[code] for code in _codes(codes, rows)]


def _limit(options: DecodingOptions, tokens: float, positions: int) -> int:
    limit = options.max_new_tokens or math.ceil(tokens) + options.extra_tokens
    return max(1, min(limit, positions - PROMPT_TOKENS))


def _positions(model: Any) -> int:
    return int(model.config.text_config.max_position_embeddings)


def _to(tensor: Tensor, like: Tensor) -> Tensor:
    return tensor.to(like.device, like.dtype if tensor.is_floating_point() else None)
