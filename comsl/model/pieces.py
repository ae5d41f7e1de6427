"""The pieces of a tokenizer: what holds them together, and the same tokenizer with fewer of them.

A text that was cut into pieces that stay must be cut into the very same ones afterwards. What that takes depends on how
the tokenizer cuts:

- Unigram takes the cheapest way through a text, and stays the cheapest when dearer ones go. A character without a piece
  of its own is unknown, at a price measured from the piece of the lowest score: both must stay as they are.
- Byte-pair merges build a piece step by step, in an order that other texts share: every step must stay. The steps
  inside a piece do not depend on what stands around it, because a merge over its edge would have made another piece.
"""

from __future__ import annotations

import json
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from comsl.errors import ComSLError, UsageError

Needs = Callable[[Iterable[str]], set[str]]
"""Pieces -> those that must stay, too, for texts of them to be cut as before (they may name what is no piece)."""


class Pieces(ABC):
    """The tokens of a tokenizer with their ids, and what a smaller copy of it takes.

    Attributes:
        tokens: token -> id, special and language tokens included.
        fixed: ids of the tokens that no text is needed for: special tokens, and every language of the family, because
            the tokenizer classes of transformers number their whole list of languages.
        needs: see `Needs`.
        rules: what decides how a text is cut: tokenizers with equal rules cut alike.
    """

    tokens: dict[str, int]
    fixed: set[int]
    needs: Needs
    rules: Any

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.fixed = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}

    def trimmed(self, kept: list[str]) -> Any:
        """The tokenizer with these tokens, numbered in this order.

        Raises:
            ComSLError: it numbers them otherwise, which the weights could not follow.
        """
        numbers = {token: number for number, token in enumerate(kept)}
        with TemporaryDirectory() as folder:
            self.tokenizer.save_pretrained(folder)
            self._rewrite(Path(folder), numbers)
            tokenizer = type(self.tokenizer).from_pretrained(folder)
        check_numbers(tokenizer, kept)
        return tokenizer

    @abstractmethod
    def _rewrite(self, folder: Path, numbers: Mapping[str, int]) -> None:
        """Change the files of the saved tokenizer to those tokens with those ids."""


def pieces_of(tokenizer: Any) -> Pieces:
    """The pieces of a text part's tokenizer. Raises UsageError for a kind that cannot be trimmed exactly."""
    if hasattr(tokenizer, "backend_tokenizer"):
        return _TokenizersPieces(tokenizer)
    if hasattr(tokenizer, "sp_model") and hasattr(tokenizer, "lang_token_to_id"):
        return _SentencePiecePieces(tokenizer)
    raise UsageError(
        f"a {type(tokenizer).__name__} cannot be trimmed: only tokenizers of the tokenizers library (mBART-50, "
        "NLLB-200) and M2M-100's can"
    )


def check_numbers(tokenizer: Any, tokens: list[str]) -> None:
    """Whether a tokenizer has exactly these tokens under the ids 0, 1, ...; raises ComSLError naming the first other.

    The classes rebuild their vocabulary in their own way when they are loaded, so this is looked at, not assumed.
    """
    for number, (token, found) in enumerate(zip(tokens, tokenizer.convert_tokens_to_ids(tokens), strict=True)):
        if found != number:
            raise ComSLError(f"{type(tokenizer).__name__} gives token {token!r} the id {found} instead of {number}")
    further = [token for token, number in tokenizer.get_vocab().items() if number >= len(tokens)]
    if further:
        raise ComSLError(f"{type(tokenizer).__name__} adds tokens of its own: {', '.join(further[:3])}")


def script(character: str) -> str | None:
    """Script of a letter or mark, as the first word of its Unicode name ("LATIN", "CJK"); None for anything else."""
    return unicodedata.name(character, "").split(" ")[0] if unicodedata.category(character)[0] in "LM" else None


# ---------------------------------------------------------------------------------------------- what pieces depend on


def unigram_needs(scores: Mapping[str, float]) -> Needs:
    """See the top of the file: the characters of a piece, and the piece of the lowest score."""
    lowest = min(scores, key=scores.__getitem__)
    return lambda pieces: {lowest, *(character for piece in pieces for character in piece)}


def merge_needs(order: Callable[[str, str], float | None]) -> Needs:
    """See the top of the file: every step from the characters to the piece.

    Args:
        order: which of two merges comes first, the smaller; None where two pieces do not merge.
    """

    def steps(piece: str) -> set[str]:
        parts = list(piece)
        passed = set(parts)
        while True:
            possible = [(order(*pair), place) for place, pair in enumerate(pairwise(parts))]
            merges = [(rank, place) for rank, place in possible if rank is not None]
            if not merges:
                return passed
            _, place = min(merges)  # of equal ones the leftmost
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
            passed.add(parts[place])

    return lambda pieces: {part for piece in pieces for part in steps(piece)}


# ----------------------------------------------------------------------------------------------------------- the kinds


class _TokenizersPieces(Pieces):
    """Of the tokenizers library: everything stands in tokenizer.json (mBART-50: Unigram, NLLB-200: merges)."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer)
        self.tokens = tokenizer.get_vocab()
        self.rules = model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
        if model["type"] == "Unigram":
            self.needs = unigram_needs(dict(model["vocab"]))
        elif model["type"] == "BPE":
            ranks: dict[tuple[str, str], int] = {(*pair,): rank for rank, pair in enumerate(model["merges"])}
            self.needs = merge_needs(lambda left, right: ranks.get((left, right)))
        else:
            raise UsageError(f"a vocabulary of the kind {model['type']} cannot be trimmed: only Unigram and BPE can")

    def _rewrite(self, folder: Path, numbers: Mapping[str, int]) -> None:
        with _json_file(folder / "tokenizer.json") as content:
            names = {number: token for token, number in self.tokens.items()}
            model = content["model"]
            if model["type"] == "Unigram":  # ids are places in the list
                model["unk_id"] = numbers[names[model["unk_id"]]]
                model["vocab"] = [entry for entry in model["vocab"] if entry[0] in numbers]
            else:
                model["vocab"] = {token: numbers[token] for token in model["vocab"] if token in numbers}
                model["merges"] = [
                    pair for pair in model["merges"] if all(x in numbers for x in (*pair, "".join(pair)))
                ]
            for token in content["added_tokens"]:
                token["id"] = numbers[token["content"]]
            if content["padding"]:
                content["padding"]["pad_id"] = numbers[content["padding"]["pad_token"]]
            for token in (content["post_processor"] or {}).get("special_tokens", {}).values():
                token["ids"] = [numbers[name] for name in token["tokens"]]


class _SentencePiecePieces(Pieces):
    """M2M-100's: a sentencepiece model cuts, vocab.json numbers, and the languages are numbered behind that."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer)
        # Needs protobuf, which the other families do without; its classes are made when it is imported.
        from sentencepiece import sentencepiece_model_pb2

        schema: Any = sentencepiece_model_pb2
        self.tokens = {**tokenizer.encoder, **tokenizer.lang_token_to_id, **tokenizer.get_added_vocab()}
        self.fixed |= set(tokenizer.lang_token_to_id.values())
        self._model = schema.ModelProto.FromString(tokenizer.sp_model.serialized_model_proto())
        self._normal = schema.ModelProto.SentencePiece.NORMAL
        self.rules = scores = {entry.piece: entry.score for entry in self._model.pieces if entry.type == self._normal}
        kind = schema.TrainerSpec.ModelType.Name(self._model.trainer_spec.model_type)
        if kind == "UNIGRAM":
            self.needs = unigram_needs(scores)
        elif kind == "BPE":
            self.needs = merge_needs(lambda left, right: -scores[left + right] if left + right in scores else None)
        else:
            raise UsageError(f"a sentencepiece model of the kind {kind} cannot be trimmed: only UNIGRAM and BPE can")

    def _rewrite(self, folder: Path, numbers: Mapping[str, int]) -> None:
        names = self.tokenizer.vocab_files_names
        with _json_file(folder / names["vocab_file"]) as content:
            _replace(content, {token: numbers[token] for token in content if token in numbers})
        for entry in reversed(range(len(self._model.pieces))):
            piece = self._model.pieces[entry]
            # A piece that vocab.json lacks has no embedding to save, and is a step to others or unknown as it was.
            if piece.type == self._normal and piece.piece in self.tokens and piece.piece not in numbers:
                del self._model.pieces[entry]
        self._model.trainer_spec.vocab_size = len(self._model.pieces)
        (folder / names["spm_file"]).write_bytes(self._model.SerializeToString())
        with _json_file(folder / "tokenizer_config.json") as content:
            added = content.get("added_tokens_decoder", {})
            _replace(added, {str(numbers[entry["content"]]): entry for entry in added.values()})
        if (folder / "added_tokens.json").exists():
            with _json_file(folder / "added_tokens.json") as content:
                _replace(content, {token: numbers[token] for token in content})


@contextmanager
def _json_file(path: Path) -> Iterator[dict[str, Any]]:
    """Content of a JSON file, written back with its changes."""
    content = json.loads(path.read_text(encoding="utf-8"))
    yield content
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")


def _replace(content: dict[str, Any], other: dict[str, Any]) -> None:
    content.clear()
    content.update(other)
