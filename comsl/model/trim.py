"""A model with the part of its text vocabulary that a corpus needs: the same outputs, fewer rows to keep and compute.

Texts made of tokens that stay are cut into the same tokens and get the same states and logits; others fall apart into
smaller pieces, at worst single characters.

Shapes: V tokens before, K after.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer

from comsl.data.errors import DataError
from comsl.errors import UsageError
from comsl.files import write_atomically

from .configuration import ComSLConfig
from .coverage import NO_LANGUAGE, Texts, TrimReport, measure
from .loading import load_config, load_model, load_text_part, quiet
from .pieces import Pieces, check_numbers, pieces_of, script
from .processing import ComSLProcessor
from .vocabulary import MissingLanguage, find_language, language_codes, language_tokens, plain_encoding

REPORT = "trim.json"
"""What was done, beside the model."""
# Settings of generation that hold token ids in forms of their own; no model here has any of them.
_UNSUPPORTED = ("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "forced_decoder_ids", "sequence_bias")


@dataclass(frozen=True)
class Selection:
    """Which of the pieces that the corpus is cut into stay. At most one rule; without one, all do.

    Attributes:
        min_count: those that occur so often.
        keep: the so many most frequent ones.
        coverage: the most frequent ones that together make up this share of the corpus' tokens.
    """

    min_count: int | None = None
    keep: int | None = None
    coverage: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} are rules for the same thing: give one of them")
        for name, value in given.items():
            if value <= 0 or (name == "coverage" and value > 1):
                wanted = "a share above 0 and up to 1" if name == "coverage" else "a positive number"
                raise UsageError(f"{name}: {value} is not {wanted}")

    def choose(self, counts: np.ndarray) -> list[int]:
        """Ids of the pieces that stay, of how often each occurs [V]."""
        order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
        if self.keep is not None:
            order = order[: self.keep]
        elif self.coverage is not None:
            order = order[: 1 + np.searchsorted(np.cumsum(counts[order]), self.coverage * counts.sum())]
        else:
            order = order[counts[order] >= (self.min_count or 1)]
        return order.tolist()


@dataclass
class _Loaded:
    """A model to trim: a composite with its processor, or a text model alone."""

    model: Any
    text_model: Any
    tokenizer: Any
    processor: ComSLProcessor | None
    languages: dict[str, int]

    def heard(self) -> list[int]:
        """Tokens that the CTC head hears."""
        return [] if self.processor is None else self.model.config.ctc_tokens or []

    @property
    def rows(self) -> int:
        """V: tokens that the text model has an embedding for."""
        rows: int = self.text_model.get_input_embeddings().num_embeddings
        return rows

    def size(self) -> tuple[int, int, float]:
        """V, parameters, and megabytes of them."""
        parameters = [(weight.numel(), weight.element_size()) for weight in self.model.parameters()]
        return self.rows, sum(count for count, _ in parameters), sum(count * size for count, size in parameters) / 1e6


def trim(
    model: str | Path,
    out: str | Path,
    corpus: Texts,
    check: Texts | None = None,
    *,
    languages: Sequence[str] | None = None,
    select: Selection | None = None,
    like: str | Path | None = None,
) -> TrimReport:
    """Save a model and its tokenizer with the tokens that a corpus needs.

    What stays: special and language tokens, the pieces that ``select`` chooses, every single character of the scripts
    in the corpus (and all digits, punctuation and symbols), so that nothing becomes unknown that was not, and what has
    to stay for texts of these pieces to be cut as before (`comsl.model.pieces`).

    Args:
        model: hub id or directory of a ComSL model, or of an mBART-50, M2M-100 or NLLB-200 checkpoint.
        out: a directory that does not exist, or is empty.
        corpus: what the model is for, both sides; with ``like`` it is only reported on.
        check: held-out texts, to report the coverage of.
        languages: languages in use; None: those of the manifests. A ComSL model knows only these afterwards.
        select: which of the pieces in the corpus stay.
        like: a directory that a model of the same vocabulary was trimmed to; exactly its tokens stay.

    Raises:
        UsageError: settings that contradict each other, a language without a text, ``out`` in use, a tokenizer that
            cannot be trimmed, another vocabulary than that of ``like``.
        MissingLanguage: a language that the model has no token for.
        DataError: texts that cannot be read, or none at all.
        ModelLoadError: no model there, or of another kind.
    """
    out, check, select = Path(out), check or Texts(), select or Selection()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists already; name a new directory")
    if like is None and not corpus:
        raise UsageError("nothing says what the model is for: name manifests or text files, or a trimmed model")
    if like is not None and (languages or select != Selection()):
        raise UsageError("a model that is trimmed like another takes its tokens and languages: ask for no others")

    loaded = _load(model)
    pieces = pieces_of(loaded.tokenizer)
    if like is None:
        counts, used = _count(loaded, corpus, languages)
        kept, reasons = _tokens_of_corpus(pieces, counts, select, loaded.heard())
    else:
        kept, reasons, used = _tokens_like(pieces, loaded, like)
    ids = [pieces.tokens[token] for token in kept]
    trimmed = pieces.trimmed(kept)
    if like is not None:
        _check_same(trimmed, like)
    coverage, left_out = {}, {}
    for name, texts in (("corpus", corpus), ("check", check)):
        if texts:
            coverage[name], skipped = measure(texts, loaded.tokenizer, trimmed, ids, used)
            left_out[name] = dict(skipped)

    before = loaded.size()
    _trim_weights(loaded.text_model, ids)
    _renumber(loaded, {old: new for new, old in enumerate(ids)}, used)
    after = loaded.size()
    _save(loaded, trimmed, out)
    check_numbers(_tokenizer(out), kept)
    report = TrimReport(
        model=str(model),
        settings={"corpus": asdict(corpus), "check": asdict(check), "languages": languages, "like": like}
        | asdict(select),
        languages=used,
        kept=reasons,
        vocabulary=[before[0], after[0]],
        parameters=[before[1], after[1]],
        megabytes=[before[2], after[2]],
        coverage=coverage,
        left_out=left_out,
    )
    content = json.dumps(asdict(report), ensure_ascii=False, indent=2, default=str)
    write_atomically(out / REPORT, content + "\n")
    return report


# ------------------------------------------------------------------------------------------------------- which tokens


def _count(loaded: _Loaded, corpus: Texts, languages: Sequence[str] | None) -> tuple[np.ndarray, list[str]]:
    """How often each token occurs in the corpus [V], and the codes of the languages in use."""
    wanted = None if languages is None else list(language_codes(languages, "languages"))
    for code in wanted or ():
        find_language(loaded.languages, code)
    counts = np.zeros(loaded.rows, dtype=np.int64)
    seen: dict[str, None] = {}
    for language, texts in corpus.read("counting tokens"):
        if language != NO_LANGUAGE and wanted is not None and language not in wanted:
            continue
        if language not in seen and language != NO_LANGUAGE and language not in loaded.languages:
            raise MissingLanguage(
                f"{corpus}: there are texts in {language!r}, which the model has no token for; it has "
                f"{', '.join(sorted(loaded.languages))}. Name the languages in use to leave others out"
            )
        seen[language] = None
        ids = [number for text in plain_encoding(loaded.tokenizer, texts)["input_ids"] for number in text]
        counts += np.bincount(ids, minlength=len(counts))
    if not counts.any():
        chosen = f" in {', '.join(wanted)}" if wanted else ""
        raise DataError(f"{corpus}: no transcript, translation or line of text{chosen} in there")
    if NO_LANGUAGE in seen:  # any language may be among the lines
        return counts, wanted or list(loaded.languages)
    missing = [code for code in wanted or () if code not in seen]
    if missing:
        raise UsageError(f"{corpus}: no text in {', '.join(missing)}; name a file with some, or leave the language out")
    return counts, wanted or list(seen)


def _tokens_of_corpus(
    pieces: Pieces, counts: np.ndarray, select: Selection, heard: Sequence[int]
) -> tuple[list[str], dict[str, int]]:
    """Tokens that stay, by their ids before, and how many do so for which reason; all that the CTC head hears do."""
    names = {number: token for token, number in pieces.tokens.items()}
    fixed = {names[number] for number in pieces.fixed}
    seen = {names[number] for number in np.flatnonzero(counts).tolist()}
    spoken = {names[number] for number in heard}
    chosen = {names[number] for number in select.choose(counts)}
    letters = set("".join(fixed))  # special tokens that stand in a text are spelled
    scripts = {None, *(script(character) for token in seen for character in token)}
    characters = {
        token for token in pieces.tokens if token in letters or (len(token) == 1 and script(token) in scripts)
    }
    needed = pieces.needs(chosen | spoken | characters) & pieces.tokens.keys()
    kept: set[str] = set()
    reasons = {}
    for reason, tokens in (
        ("special and language tokens", fixed),
        ("pieces of the corpus", chosen),
        *([("pieces that CTC hears", spoken)] if heard else []),
        ("single characters", characters),
        ("steps to other pieces", needed),
    ):
        reasons[reason] = len(tokens - kept)
        kept |= tokens
    return sorted(kept, key=pieces.tokens.__getitem__), reasons


def _tokens_like(pieces: Pieces, loaded: _Loaded, like: str | Path) -> tuple[list[str], dict[str, int], list[str]]:
    """Tokens of a trimmed model in its order, why they stayed there, and its languages."""
    if not (Path(like) / REPORT).is_file():
        raise UsageError(f"{like}: no {REPORT} there; name a directory that a model was trimmed to")
    theirs = json.loads((Path(like) / REPORT).read_text(encoding="utf-8"))
    tokens = pieces_of(_tokenizer(like)).tokens
    missing = sorted(tokens.keys() - pieces.tokens.keys(), key=tokens.__getitem__)
    if missing:
        raise UsageError(
            f"the model lacks {len(missing)} tokens of {like}: {', '.join(map(repr, missing[:5]))}; only models of the "
            "same vocabulary, new language tokens included, can be trimmed alike"
        )
    for code in theirs["languages"]:
        find_language(loaded.languages, code)
    return sorted(tokens, key=tokens.__getitem__), theirs["kept"], theirs["languages"]


def _check_same(trimmed: Any, like: str | Path) -> None:
    """Raise UsageError if two tokenizers with the same tokens cut texts differently."""
    if pieces_of(trimmed).rules != pieces_of(_tokenizer(like)).rules:
        raise UsageError(f"the tokenizer of {like} cuts texts by other scores: only models of one family trim alike")


# -------------------------------------------------------------------------------------------------------------- model


def _load(path: str | Path) -> _Loaded:
    if isinstance(load_config(path), ComSLConfig):
        model, processor = load_model(path)
        return _Loaded(model, model.text_model, processor.tokenizer, processor, processor.languages)
    text_model, tokenizer = load_text_part(path, None)
    return _Loaded(text_model, text_model, tokenizer, None, language_tokens(tokenizer))


def _tokenizer(path: str | Path) -> Any:
    with quiet():
        return AutoTokenizer.from_pretrained(path)


def _trim_weights(text_model: Any, ids: Sequence[int]) -> None:
    """Keep these rows of the embedding [V, d], the output layer and its bias: [K, d]."""
    embedding, head = text_model.get_input_embeddings().weight, text_model.get_output_embeddings().weight
    for part in (text_model.model.encoder, text_model.model.decoder):
        if part.embed_tokens.weight is not embedding:
            raise UsageError("the encoder or decoder has an embedding of its own: only shared ones can be trimmed")
    size = len(ids)
    with torch.no_grad():
        for weight in (embedding, head) if head is not embedding else (embedding,):
            weight[:size] = weight[ids]
        bias = getattr(text_model, "final_logits_bias", None)
        if bias is not None:
            bias[:, :size] = bias[:, ids]
    text_model.resize_token_embeddings(size)


def _renumber(loaded: _Loaded, numbers: Mapping[int, int], used: Sequence[str]) -> None:
    """Give every setting that holds a token id the id after trimming; a ComSL model keeps the languages in use."""
    holders = (
        loaded.model.config,
        loaded.text_model.config,
        loaded.model.generation_config,
        loaded.text_model.generation_config,
    )
    for settings in {id(holder): holder for holder in holders}.values():
        for name, value in settings.to_dict().items():
            if name in _UNSUPPORTED and value:
                raise UsageError(f"{name} is set by token ids, which trimming changes: remove it from the model first")
            if name.endswith("_token_id") and value is not None:
                setattr(settings, name, _new_ids(name, value, numbers))
    if loaded.processor is not None:
        loaded.model.config.text_config = loaded.text_model.config
        config = loaded.model.config
        config.languages = {code: numbers[find_language(config.languages, code)] for code in used}
        if config.ctc_tokens is not None:
            config.ctc_tokens = _new_ids("ctc_tokens", config.ctc_tokens, numbers)
        if config.translation_targets is not None:
            config.translation_targets = [code for code in config.translation_targets if code in config.languages]


def _new_ids(name: str, value: int | list[int], numbers: Mapping[int, int]) -> int | list[int]:
    listed = value if isinstance(value, list) else [value]
    missing = [number for number in listed if number not in numbers]
    if missing:
        some = ", ".join(map(str, missing[:5]))
        raise UsageError(f"{name}: the trimmed vocabulary lacks {len(missing)} of its {len(listed)} tokens, as {some}")
    renumbered = [numbers[number] for number in listed]
    return renumbered if isinstance(value, list) else renumbered[0]


def _save(loaded: _Loaded, tokenizer: Any, out: Path) -> None:
    keeper = tokenizer
    if loaded.processor is not None:
        keeper = ComSLProcessor(
            loaded.processor.feature_extractor,
            tokenizer,
            languages=loaded.model.config.languages,
            ctc_vocabulary=loaded.processor.ctc_vocabulary,
            ctc_tokens=loaded.model.config.ctc_tokens,
            max_positions=loaded.processor.max_positions,
        )
    with quiet():
        loaded.model.save_pretrained(out)
        keeper.save_pretrained(out)
