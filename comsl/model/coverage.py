"""What trimming a vocabulary did: to the model's size, and to how texts are cut."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from comsl.data.errors import DataError
from comsl.data.manifest import load_manifest
from comsl.progress import track
from comsl.provenance import versions

from .vocabulary import plain_encoding

NO_LANGUAGE = "text files"
"""What the lines of plain text files are listed as."""
_BATCH = 1000
_SIDES = (("source_language", "transcript"), ("target_language", "translation"))


@dataclass(frozen=True)
class Texts:
    """Where texts are read: transcripts and translations of manifests, lines of UTF-8 files."""

    manifests: Sequence[str | Path] = ()
    files: Sequence[str | Path] = ()

    def __bool__(self) -> bool:
        return bool(self.manifests or self.files)

    def __str__(self) -> str:
        return ", ".join(map(str, (*self.manifests, *self.files)))

    def read(self, purpose: str) -> Iterator[tuple[str, list[str]]]:
        """A language and some texts in it at a time; the language of plain text is `NO_LANGUAGE`.

        Raises:
            DataError: a file that cannot be read.
        """
        if self.manifests:
            columns = [name for side in _SIDES for name in side]
            rows = load_manifest([Path(path) for path in self.manifests]).select_columns(columns)
            for start in track(range(0, len(rows), _BATCH), description=purpose, unit=f"{_BATCH} rows"):
                batch = rows[start : start + _BATCH]
                texts = defaultdict(list)
                for side, column in _SIDES:
                    for language, text in zip(batch[side], batch[column], strict=True):
                        if language and text:
                            texts[language].append(text)
                yield from texts.items()
        for path in self.files:
            lines = _lines(path)
            while batch := list(islice(lines, _BATCH)):
                yield NO_LANGUAGE, batch


def _lines(path: str | Path) -> Iterator[str]:
    try:
        with Path(path).open(encoding="utf-8") as file:
            yield from filter(None, map(str.strip, file))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}") from error


@dataclass
class Coverage:
    """How the texts of one language are cut, by the whole vocabulary and by the trimmed one.

    Attributes:
        texts: their number.
        tokens, tokens_after: what they are cut into.
        covered: tokens of the whole vocabulary, of these texts, that the trimmed one has.
        cut_differently: texts that the trimmed vocabulary cuts otherwise.
        unknown, unknown_after: tokens that stand for what there is no piece for.
    """

    texts: int = 0
    tokens: int = 0
    tokens_after: int = 0
    covered: int = 0
    cut_differently: int = 0
    unknown: int = 0
    unknown_after: int = 0


def measure(
    texts: Texts, whole: Any, trimmed: Any, ids: Sequence[int], languages: Collection[str]
) -> tuple[dict[str, Coverage], Counter[str]]:
    """Coverage of each language, and the number of texts that were left out because they are in none of ``languages``.

    Args:
        texts: what to measure on.
        whole: the tokenizer before.
        trimmed: the tokenizer after.
        ids: of each token of the trimmed one, its id in the whole one.
        languages: codes of the languages in use.
    """
    kept = set(ids)
    found: dict[str, Coverage] = {}
    left_out: Counter[str] = Counter()
    for language, batch in texts.read("measuring coverage"):
        if language != NO_LANGUAGE and language not in languages:
            left_out[language] += len(batch)
            continue
        coverage = found.setdefault(language, Coverage())
        coverage.texts += len(batch)
        for before, after in zip(
            plain_encoding(whole, batch)["input_ids"], plain_encoding(trimmed, batch)["input_ids"], strict=True
        ):
            coverage.tokens += len(before)
            coverage.tokens_after += len(after)
            coverage.covered += sum(number in kept for number in before)
            coverage.cut_differently += [ids[number] for number in after] != before
            coverage.unknown += before.count(whole.unk_token_id)
            coverage.unknown_after += after.count(trimmed.unk_token_id)
    return found, left_out


@dataclass
class TrimReport:
    """What `trim` did; ``trim.json`` holds the same.

    Attributes:
        model: where it came from.
        settings: what was asked for.
        languages: in use.
        kept: reason -> number of tokens that stay for it, each counted under the first that applies.
        vocabulary: rows of the embedding, before and after.
        parameters: of the whole model, before and after.
        megabytes: of these.
        coverage: "corpus" and "check" -> language -> `Coverage`.
        left_out: the same for the number of texts that are in no language in use.
        versions: of what did it.
    """

    model: str
    settings: dict[str, Any]
    languages: list[str]
    kept: dict[str, int]
    vocabulary: list[int]
    parameters: list[int]
    megabytes: list[float]
    coverage: dict[str, dict[str, Coverage]]
    left_out: dict[str, dict[str, int]]
    versions: dict[str, str] = field(default_factory=versions)

    def render(self) -> Group:
        """Tables of the sizes and the coverage, and notes, for the terminal."""
        sizes = _table("", "before", "after", "")
        for name, form, (before, after) in (
            ("text vocabulary", "{:,}", self.vocabulary),
            ("parameters", "{:,}", self.parameters),
            ("MB", "{:,.1f}", self.megabytes),
        ):
            sizes.add_row(name, form.format(before), form.format(after), f"{after / before:.1%}")
        texts = _table("", "language", "texts", "tokens", "after", "covered", "cut differently", "unknown", "after")
        for purpose, languages in self.coverage.items():
            for language, found in languages.items():
                numbers = (found.texts, found.tokens, found.tokens_after)
                covered = f"{found.covered / max(1, found.tokens):.2%}"
                rest = (found.cut_differently, found.unknown, found.unknown_after)
                texts.add_row(purpose, language, *map(str, numbers), covered, *map(str, rest))
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.kept.items())
        notes = [f"languages in use: {' '.join(self.languages)}", f"tokens that stay: {reasons}"]
        for purpose, skipped in self.left_out.items():
            for language, count in skipped.items():
                notes.append(f"{purpose}: {count} texts in {language} were left out: no language in use")
        return Group(sizes, *([texts] if self.coverage else []), *(Text(note, style="dim") for note in notes))


def _table(*head: str) -> Table:
    table = Table()
    for place, name in enumerate(head):
        table.add_column(name, justify="left" if place == 0 or name == "language" else "right", no_wrap=True)
    return table
