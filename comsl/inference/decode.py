"""Features or text -> hypotheses: the one place that decodes.

Training (dev BLEU), evaluation and translation all decode through here. What a row gives depends on that row alone: not
on its neighbours in the batch, not on the batch size, not on the order of the input (sampling excepted: its random
numbers are drawn batch by batch). Inputs are sorted by length to pad little, and hypotheses come back in input order.

Speech is translated in one of several modes:

direct   the decoder reads the encoded speech
cascade  the speech is transcribed, and the decoder reads the encoded transcript alone
mixed    the speech is transcribed, and transcript and speech are encoded together, text first, as in training; the
         decoder reads the speech part of it (``DecodingOptions.mixed_memory``)
pooled   of the best hypotheses of these three, the one that is likely to be least wrong (``comsl.inference.mbr``)
memory   of the translations of the sentences of a translation memory that are nearest to what was heard, the one that
         is likely to be least wrong (``comsl.inference.memory``); with such a memory "pooled" listens to it as well
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from comsl.errors import UsageError
from comsl.inference import MODES, Mode
from comsl.inference.clips import Clip
from comsl.inference.ctc import best_together, greedy_transcript
from comsl.inference.encoding import (
    DecodingError,
    EmbeddedClip,
    batch_by_length,
    beside,
    embed_clips,
    embed_texts,
    encode,
)
from comsl.inference.generate import PROMPT_TOKENS
from comsl.inference.mbr import least_risk
from comsl.inference.memory import Recalled, TranslationMemory
from comsl.inference.nbest import nbest
from comsl.inference.options import DecodingOptions, Hypothesis
from comsl.progress import track

__all__ = [
    "Decoded",
    "DecodingError",
    "DecodingOptions",
    "Hypothesis",
    "check_memory",
    "check_options",
    "check_recall",
    "decode_modes",
    "decode_speech",
    "decode_speech_tasks",
    "decode_text",
    "evaluating",
]

PARTS: tuple[Mode, ...] = ("direct", "cascade", "mixed")
"""The modes that search; "pooled" chooses among what they find."""


@dataclass(frozen=True)
class Decoded:
    """What became of a clip."""

    transcript: Hypothesis | None = None
    """Where it was asked for, or a mode needed it."""
    translations: dict[Mode, Hypothesis] = field(default_factory=dict)


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
    """Translate (in the mode "direct") or transcribe clips: ``decode_speech_tasks`` for one task.

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
    """Translate (in the mode "direct") and transcribe clips that are encoded once; see ``decode_modes``.

    Args:
        tasks: any of "translate" and "transcribe".

    Returns:
        For each task one hypothesis a clip, in the order of ``clips``.
    """
    for task in tasks:
        if task not in ("translate", "transcribe"):
            raise ValueError(f'task must be "translate" or "transcribe", not {task!r}')
    modes: list[Mode] = ["direct"] if "translate" in tasks else []
    languages = source_languages, target_languages
    wanted = "transcribe" in tasks
    decoded = decode_modes(
        model, processor, clips, *languages, modes, options, transcribe=wanted, description=description
    )
    texts = {
        "translate": [row.translations["direct"] for row in decoded if row.translations],
        "transcribe": [row.transcript for row in decoded if row.transcript is not None],
    }
    return [texts[task] for task in tasks]


def decode_modes(
    model: Any,
    processor: Any,
    clips: Sequence[Clip],
    source_languages: str | Sequence[str],
    target_languages: str | Sequence[str],
    modes: Sequence[Mode],
    options: DecodingOptions | None = None,
    *,
    transcribe: bool = False,
    memory: TranslationMemory | None = None,
    description: str | None = None,
) -> list[Decoded]:
    """Translate clips in several modes, and transcribe them; the speech encoder runs once, each search once.

    Args:
        model: a ``ComSLForConditionalGeneration`` on any device and in any floating type; in eval mode while this runs,
            every module's mode restored afterwards.
        clips: as ``prepare_clip`` makes them.
        source_languages, target_languages: one code for all clips or one a clip; transcripts are in the source
            language, and without modes the target is not looked at.
        modes: see the top of this file.
        transcribe: the transcripts are wanted whatever the modes.
        memory: what the mode "memory" answers from, and "pooled" listens to.
        description: label of a progress bar; None shows none.

    Returns:
        One entry a clip, in the order of ``clips``.

    Raises:
        UsageError: an unknown mode or language, a CTC head that the model does not have, or no memory to answer from.
        DecodingError: a transcript that is too long to be read again.
    """
    options = options or DecodingOptions()
    for mode in modes:
        if mode not in MODES:
            raise UsageError(f"unknown mode {mode!r}: use one of {', '.join(MODES)}")
    check_options(model, options)
    memory = memory if recalls(modes) else None
    check_memory(model, modes, memory)
    names = _codes(source_languages, len(clips))
    into_names = _codes(target_languages, len(clips)) if modes else names
    sources = _language_ids(source_languages, len(clips), processor)
    targets = _language_ids(target_languages, len(clips), processor) if modes else sources
    positions = _positions(model)
    rows = [
        _Row(clip, name, into, source, target, _limit(options, options.tokens_per_second * clip.seconds, positions))
        for clip, name, into, source, target in zip(clips, names, into_names, sources, targets, strict=True)
    ]
    batches = batch_by_length([clip.padded_seconds for clip in clips], options.batch_size, options.batch_seconds)
    nothing = Hypothesis("", 0.0)
    results = [Decoded(nothing if transcribe else None, dict.fromkeys(modes, nothing))] * len(clips)
    steps = batches if description is None else track(batches, total=len(batches), description=description)
    with _decoding(model, options):
        for batch in steps:
            decoded = _Batch(model, processor, [rows[row] for row in batch], options, memory).decode(modes, transcribe)
            for row, found in zip(batch, decoded, strict=True):
                results[row] = found
    return results


def check_options(model: Any, options: DecodingOptions) -> None:
    """UsageError for settings that need a CTC head, of a model that has none."""
    if (options.transcript == "ctc" or options.ctc_weight) and getattr(model, "ctc_head", None) is None:
        raise UsageError("the model has no CTC head: transcribe with the decoder, or compose it with a CTC vocabulary")


def check_memory(model: Any, modes: Sequence[str], memory: TranslationMemory | None) -> None:
    """UsageError for modes that would recall something and cannot."""
    check_recall(modes, memory is not None)
    if memory is not None and getattr(model, "ctc_head", None) is None:
        raise UsageError("--memory: the model has no CTC head to search it with; compose it with a CTC vocabulary")


def check_recall(modes: Sequence[str], there_is_one: bool) -> None:
    """UsageError for a memory that is missing, or that none of the modes reads."""
    if "memory" in modes and not there_is_one:
        raise UsageError("memory answers from a translation memory: name its manifest with --memory")
    if there_is_one and not recalls(modes):
        raise UsageError("--memory: only memory and pooled use it; ask for one of them, or leave it out")


def recalls(modes: Sequence[str]) -> bool:
    """Whether one of them reads a translation memory, where there is one."""
    return "pooled" in modes or "memory" in modes


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
    """Translate texts with the text part of the model; see ``decode_modes``.

    A blank text gives an empty hypothesis of score 0: there is nothing to translate and nothing should be made up.

    Raises:
        DecodingError: a text has more tokens than the text model has positions.
    """
    options = options or DecodingOptions()
    sources = _codes(source_languages, len(texts))
    targets = _language_ids(target_languages, len(texts), processor)
    ids = _text_ids(model, processor, texts, sources)
    results = [Hypothesis("", 0.0)] * len(texts)
    batches = batch_by_length([len(tokens) for tokens in ids], options.batch_size)
    steps = batches if description is None else track(batches, total=len(batches), description=description)
    with _decoding(model, options):
        for rows in steps:
            languages = [targets[row] for row in rows]
            found = _text_candidates(model, processor, [ids[row] for row in rows], languages, options)
            for row, candidates in zip(rows, found, strict=True):
                results[row] = least_risk(candidates, sampled=options.do_sample)
    return results


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


@contextmanager
def _decoding(model: Any, options: DecodingOptions) -> Iterator[None]:
    """``evaluating``, with random numbers of our own where they are used."""
    device = next(model.parameters()).device
    fork = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], enabled=options.do_sample)
    with evaluating(model), fork:
        if options.do_sample:
            torch.manual_seed(options.seed)
        yield


@dataclass(frozen=True)
class _Row:
    """A clip to decode."""

    clip: Clip
    language: str
    """Spoken, as the processor calls it; ``source`` is its token."""
    into: str
    """What it is translated into; ``target`` is its token."""
    source: int
    target: int
    limit: int
    """Most new tokens."""


class _Batch:
    """Clips that are decoded together."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        rows: Sequence[_Row],
        options: DecodingOptions,
        memory: TranslationMemory | None,
    ) -> None:
        self.model, self.processor, self.rows, self.options, self.memory = model, processor, rows, options, memory
        self.targets = [row.target for row in rows]
        self.limits = [row.limit for row in rows]

    def decode(self, modes: Sequence[Mode], transcribe: bool) -> list[Decoded]:
        searched = [mode for mode in PARTS if mode in modes or "pooled" in modes]
        heard = transcribe or any(mode != "direct" for mode in searched)
        by_ctc = heard and (self.options.transcript == "ctc" or self.options.ctc_weight > 0)
        spelled = by_ctc or self.memory is not None
        clips = embed_clips(
            self.model, self.processor, [row.clip for row in self.rows], [row.source for row in self.rows], spelled
        )
        # What the decoder reads of the speech alone; a CTC transcript needs no decoder.
        read = "direct" in searched or (heard and self.options.transcript == "decoder")
        memory = encode(self.model, [clip.embeds for clip in clips]) if read else None
        transcripts = self._transcripts(clips, memory) if heard else []
        found: dict[Mode, list[list[Hypothesis]]] = {}
        for mode in searched:
            if mode == "direct":
                found[mode] = self._nbest(memory)
            elif mode == "cascade":
                said = self._ids(transcripts)
                found[mode] = _text_candidates(self.model, self.processor, said, self.targets, self.options)
            else:
                found[mode] = self._nbest(self._mixed(clips, self._ids(transcripts, blank=True)))
        results = []
        for place, (row, clip) in enumerate(zip(self.rows, clips, strict=True)):
            recalled: list[Recalled] = []
            if self.memory is not None and clip.ctc is not None:
                recalled = self.memory.recall(clip.ctc, self.processor, row.language, row.into)
            here = {mode: lists[place] for mode, lists in found.items()}
            chosen = {mode: self._chosen(mode, here, recalled) for mode in modes}
            results.append(Decoded(transcripts[place] if heard else None, chosen))
        return results

    def _chosen(self, mode: Mode, found: Mapping[Mode, list[Hypothesis]], recalled: Sequence[Recalled]) -> Hypothesis:
        voices = self.memory.voices(recalled) if self.memory is not None and recalls([mode]) else []
        if mode == "memory":
            return least_risk(recalled=voices) if voices else Hypothesis("", math.nan)
        lists = [found[part] for part in (PARTS if mode == "pooled" else (mode,))]
        if voices:  # as much in sum as the three modes together, where the memory's trust in its best is 1
            assert self.memory is not None
            mass = len(lists) * self.memory.trust(recalled[0])
            voices = [(voice, weight * mass) for voice, weight in voices]
        return least_risk(*lists, sampled=self.options.do_sample, recalled=voices)

    def _ids(self, transcripts: Sequence[Hypothesis], blank: bool = False) -> list[list[int]]:
        texts = [transcript.text for transcript in transcripts]
        return _text_ids(self.model, self.processor, texts, [row.language for row in self.rows], blank)

    def _nbest(self, memory: Any) -> list[list[Hypothesis]]:
        count = max(1, self.options.mbr)
        return nbest(self.model, self.processor, memory, self.targets, self.limits, self.options, count)

    def _transcripts(self, clips: Sequence[EmbeddedClip], memory: Any) -> list[Hypothesis]:
        options = self.options
        symbols = [clip.ctc for clip in clips if clip.ctc is not None]
        if options.transcript == "ctc":
            return [greedy_transcript(each, self.model.config.ctc_vocabulary) for each in symbols]
        sources = [row.source for row in self.rows]
        count = options.beam if options.ctc_weight else 1
        found = nbest(self.model, self.processor, memory, sources, self.limits, options, count)
        if not options.ctc_weight:
            return [candidates[0] for candidates in found]
        weights = options.ctc_weight, options.length_penalty
        pairs = zip(found, symbols, strict=True)
        return [best_together(candidates, each, self.processor, *weights) for candidates, each in pairs]

    def _mixed(self, clips: Sequence[EmbeddedClip], ids: Sequence[Sequence[int]]) -> Any:
        """Memory of [transcript ; speech]; a blank transcript is [language, end]."""
        pairs = zip(embed_texts(self.model, ids), clips, strict=True)
        mixed = [beside(self.model, text, clip.embeds, self.options.mixed_memory) for text, clip in pairs]
        return encode(self.model, [embeds for embeds, _ in mixed], [kept for _, kept in mixed])


def _text_candidates(
    model: Any, processor: Any, ids: Sequence[Sequence[int]], targets: Sequence[int], options: DecodingOptions
) -> list[list[Hypothesis]]:
    """The best translations of texts as token ids; of no ids the empty one."""
    found = [[Hypothesis("", 0.0)]] * len(ids)
    rows = [row for row, tokens in enumerate(ids) if tokens]
    if rows:
        said = [ids[row] for row in rows]
        limits = [_limit(options, options.tokens_per_token * len(tokens), _positions(model)) for tokens in said]
        languages = [targets[row] for row in rows]
        memory = encode(model, embed_texts(model, said))
        candidates = nbest(model, processor, memory, languages, limits, options, max(1, options.mbr))
        for row, best in zip(rows, candidates, strict=True):
            found[row] = best
    return found


def _text_ids(
    model: Any, processor: Any, texts: Sequence[str], languages: Sequence[str], blank: bool = False
) -> list[list[int]]:
    """[language, tokens, end] of each text; nothing of a blank one, unless ``blank`` says so."""
    positions = _positions(model)
    ids: list[list[int]] = []
    for row, (text, language) in enumerate(zip(texts, languages, strict=True)):
        ids.append(processor.source_ids(text, language) if blank or text.strip() else [])
        if len(ids[-1]) > positions:
            raise DecodingError(
                f"text {row} ({text[:40]!r}...) has {len(ids[-1])} tokens, the text model reads {positions}: split it"
            )
    return ids


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
