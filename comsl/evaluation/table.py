"""One row a language: the table that a paper prints, and the published figures beside it.

Made from ``scores.json`` alone, for ``table.md`` and the first part of ``report.html``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comsl.evaluation import LOOKUP
from comsl.evaluation.metrics import INTO_ENGLISH, bleu_tokenizer
from comsl.evaluation.notes import coverage, footnotes, some, summary
from comsl.evaluation.published import Published, PublishedSystem, covost_test_rows, load_published, side
from comsl.evaluation.records import TABLE, read_scores
from comsl.files import write_atomically
from comsl.languages import COVOST_TARGETS, LANGUAGES, LEVELS

Scores = dict[str, Any]
"""Content of ``scores.json``."""
Line = tuple[str, ...]
NO_CELL = "-"
WORDS = ("code", "language", "level")
"""Heads of columns that hold no numbers."""


@dataclass(frozen=True)
class Sheet:
    """A table of text with what has to be said about it; one without lines has only that."""

    title: str
    head: Line = ()
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def sheets(scores: Scores) -> list[Sheet]:
    """The languages of an evaluation, then published figures, of each direction that CoVoST 2 has."""
    names = _names(scores)
    return [_language_sheet(scores, names), *_published_sheets(scores, names)] if names else []


def write_table(folder: str | Path) -> Path:
    """Write ``table.md`` of an evaluation folder and return its path; errors as of ``read_scores``."""
    folder = Path(folder)
    write_atomically(folder / TABLE, markdown(read_scores(folder)))
    return folder / TABLE


def markdown(scores: Scores) -> str:
    """The page as Markdown."""
    parts = [f"# Evaluation of {scores['model']}", summary(scores)]
    for sheet in sheets(scores):
        parts.append(f"## {sheet.title}")
        if sheet.lines:
            parts.append(_markdown_table(sheet))
        parts.append(_markdown_list(sheet.notes))
    parts += [
        "## How it was scored",
        _markdown_list(f"`{note}`" if "|" in note else note for note in footnotes(scores)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


# -------------------------------------------------------------------------------------------------------- languages


@dataclass(frozen=True)
class _Column:
    """Of the table of languages: its head, its cell of a direction, and that of a mean over a group."""

    head: str
    cell: Callable[[str], str]
    mean: Callable[[str], str] = lambda group: ""


def _language_sheet(scores: Scores, names: Sequence[str]) -> Sheet:
    columns = [
        *_label_columns(names),
        *_amount_columns(scores),
        *[column for system in scores["systems"] for column in _score_columns(scores, system)],
        *[_error_rate_column(scores, system) for system in scores["transcription"]],
        *_count_columns(scores),
    ]
    lines = [tuple(column.cell(name) for column in columns) for name in names]
    means = _means(scores)
    if len(names) > 1:
        for group, average in means.items():
            label = ("mean", coverage(group, average))
            lines.append(label + tuple(column.mean(group) for column in columns[len(label) :]))
    notes = _language_notes(scores, names, means)
    return Sheet(_title(names), tuple(column.head for column in columns), lines, notes)


def _names(scores: Scores) -> list[str]:
    """The directions, in the order of the papers' tables; the languages where nothing was translated."""
    order = [f"{code}-en" for code in INTO_ENGLISH] + [f"en-{code}" for code in COVOST_TARGETS] + list(INTO_ENGLISH)
    found = list(dict.fromkeys(name for result in _results(scores).values() for name in result["pairs"]))
    known = [name for name in order if name in found]
    return known + [name for name in found if name not in known]


def _results(scores: Scores) -> dict[str, Any]:
    """Of the systems that translated; of the transcripts where nothing was translated."""
    results: dict[str, Any] = scores["systems"] or scores["transcription"]
    return results


def _title(names: Sequence[str]) -> str:
    sources, targets = ({name.split("-")[place] for name in names if "-" in name} for place in (0, -1))
    if not sources:
        return "Transcription, by language"
    if targets == {"en"}:
        return "Translation into English, by language"
    return "Translation from English, by language" if sources == {"en"} else "Translation, by direction"


def _label_columns(names: Sequence[str]) -> list[_Column]:
    """Code and name of the language that changes from row to row; of both sides where both do."""
    sources, targets = ([name.split("-")[place] for name in names] for place in (0, -1))
    one_target, one_source = len(set(targets)) == 1, len(set(sources)) == 1

    def code(name: str) -> str:
        if one_target or "-" not in name:
            return name.split("-")[0]
        return name.split("-")[-1] if one_source else name

    columns = [
        _Column("code", code),
        _Column("language", lambda name: " → ".join(LANGUAGES[part].name for part in code(name).split("-"))),
    ]
    if any(_level(name) for name in names):
        columns.append(_Column("level", lambda name: _level(name) or NO_CELL))
    return columns


def _level(name: str) -> str | None:
    """CoVoST 2's resource level, which is one of source languages into English."""
    source, _, target = name.partition("-")
    return LANGUAGES[source].level if target in ("", "en") else None


def _amount_columns(scores: Scores) -> list[_Column]:
    columns = [_Column("rows", lambda name: str(_first(scores, name)["rows"]))]
    if scores["train_manifests"] and scores["systems"]:
        none = {"seconds": 0.0}
        hours = _Column("train h", lambda name: f"{scores['training'].get(name, none)['seconds'] / 3600:.1f}")
        columns.insert(0, hours)
    return columns


def _first(scores: Scores, name: str) -> dict[str, Any]:
    """A direction's scores of the first system that has any."""
    return next(result["pairs"][name] for result in _results(scores).values() if name in result["pairs"])


def _score_columns(scores: Scores, system: str) -> list[_Column]:
    result = scores["systems"][system]

    def cell(kind: str) -> Callable[[str], str]:
        return lambda name: with_interval(result["pairs"][name][kind]) if name in result["pairs"] else NO_CELL

    def mean(kind: str) -> Callable[[str], str]:
        return lambda group: _mean(scores, result["averages"][kind], group)

    return [_Column(f"{system} {title}", cell(kind), mean(kind)) for kind, title in KINDS.items()]


KINDS = {"bleu": "BLEU", "chrf": "chrF++"}


def _mean(scores: Scores, averages: Mapping[str, Any], group: str) -> str:
    """A mean; one over other languages than the line says, which is that of the first system, says so itself."""
    average = averages.get(group)
    if average is None:
        return NO_CELL
    same = average["missing"] == _means(scores)[group]["missing"]
    same = same and average["languages"] == _means(scores)[group]["languages"]
    return f"{average['value']:.1f}" + ("" if same else f" (over {average['languages']})")


def _means(scores: Scores) -> dict[str, Any]:
    """By group, the averages of the first system: what the means of the table are over."""
    means: dict[str, Any] = next(iter(_results(scores).values()))["averages"]["bleu" if scores["systems"] else "wer"]
    return means


def _error_rate_column(scores: Scores, system: str) -> _Column:
    """WER by the source language; what is counted by characters is marked."""
    result = scores["transcription"][system]

    def cell(name: str) -> str:
        pair = result["pairs"].get(name.split("-")[0])
        if pair is None:
            return NO_CELL
        return f"{pair['wer']:.1f}" + (" (CER)" if pair["normaliser"].endswith("/characters") else "")

    head = "WER" if len(scores["transcription"]) == 1 else f"WER, {system}"
    return _Column(head, cell, lambda group: _mean(scores, result["averages"]["wer"], group))


COUNTS = ("failed", "empty", "truncated")


def _count_columns(scores: Scores) -> list[_Column]:
    """Counts of the systems side by side, one number where they agree."""
    results = [result for system, result in _results(scores).items() if system != LOOKUP]

    def cell(count: str) -> Callable[[str], str]:
        def text(name: str) -> str:
            counts = [str(result["pairs"][name][count]) for result in results if name in result["pairs"]]
            return counts[0] if len(set(counts)) == 1 else " / ".join(counts)

        return text

    return [_Column(count, cell(count)) for count in COUNTS]


def _language_notes(scores: Scores, names: Sequence[str], means: Mapping[str, Any]) -> list[str]:
    systems = [system for system in _results(scores) if system != LOOKUP]
    notes = [
        "every row of the manifests is scored: one that could not be done (no such clip, broken audio, a language that "
        "the model lacks) is counted as failed, and its empty hypothesis as a wrong one",
    ]
    if len(systems) > 1:
        notes.append(f"failed, empty, truncated: {' / '.join(systems)}, where these differ")
    if len(names) > 1 and any(group in means for group in LEVELS):
        notes.append("high, mid, low: resource levels of CoVoST 2's source languages, as in the ComSL paper")
    if scores["systems"]:
        notes.append(f"BLEU: scored as in the CoVoST 2 paper (Wang et al. 2020, section 4.1), {_tokens(scores)}")
    if scores["transcription"] and scores["systems"]:
        notes.append("WER: of all rows of the source language; CER where it is written without spaces")
    unknown = {name: found["rows_without_duration"] for name, found in scores["training"].items() if name in names}
    notes += [
        f"train h of {name}: {rows} rows of unknown length are not in it" for name, rows in unknown.items() if rows
    ]
    return notes


def _tokens(scores: Scores) -> str:
    """What BLEU's n-grams are of, as its signatures say."""
    case = "without case, which the paper keeps" if scores["lowercase"] else "with case"
    pairs = [name for result in scores["systems"].values() for name in result["pairs"]]
    spaceless = [
        LANGUAGES[code].name
        for code in dict.fromkeys(name.split("-")[1] for name in pairs)
        if bleu_tokenizer(code) == "char"
    ]
    characters = f", into {' and '.join(spaceless)} by character" if spaceless else ""
    return f"on detokenised text {case}{characters}"


def with_interval(metric: Mapping[str, Any]) -> str:
    """ "31.5 ± 0.4"."""
    return f"{metric['score']:.1f}" + ("" if metric["ci"] is None else f" ± {metric['ci']:.1f}")


# -------------------------------------------------------------------------------------------------------- published


def _published_sheets(scores: Scores, names: Sequence[str]) -> list[Sheet]:
    """Published figures beside ours, of test sets that have CoVoST 2's size and only of these."""
    published = load_published()
    sizes = {name: covost_test_rows(name) for name in names if scores["systems"]}
    found = []
    for direction, title in (("xx-en", "into English"), ("en-xx", "from English")):
        here = [name for name, size in sizes.items() if size is not None and side(name)[0] == direction]
        if not here:
            continue
        same = [name for name in here if _first(scores, name)["rows"] == sizes[name]]
        others = [
            f"{side(name)[1]} ({_first(scores, name)['rows']} of {sizes[name]} rows)"
            for name in here
            if name not in same
        ]
        title = f"Beside published figures on CoVoST 2 {title} (BLEU)"
        if same:
            notes = [f"not shown, being another test set: {some(others)}"] if others else []
            found.append(_published_sheet(scores, published, direction, same, title, notes))
        else:
            found.append(Sheet(title, notes=[f"none is comparable: not CoVoST 2's test sets, {some(others)}"]))
    return found


def _published_sheet(
    scores: Scores, published: Published, direction: str, names: Sequence[str], title: str, notes: list[str]
) -> Sheet:
    systems = [system for system in published.systems if system.direction == direction]
    systems = [system for system in systems if system.means or {side(name)[1] for name in names} & {*system.languages}]
    ours = {
        system: {side(name)[1]: result["pairs"][name]["bleu"]["score"] for name in names if name in result["pairs"]}
        for system, result in scores["systems"].items()
        if system != LOOKUP
    }
    lines = []
    for name in names:
        code = side(name)[1]
        own = [_number(values.get(code)) for values in ours.values()]
        lines.append((code, LANGUAGES[code].name, *own, *(_number(system.languages.get(code)) for system in systems)))
    for group, (label, codes) in _published_groups(published, direction).items():
        if all(code in values for code in codes for values in ours.values()):
            own = [_number(sum(values[code] for code in codes) / len(codes)) for values in ours.values()]
            lines.append(("mean", label, *own, *(_number(system.means.get(group)) for system in systems)))
    notes = [*notes, *_sources(systems), f"{NO_CELL}: the source gives no figure; data, models and decoding differ"]
    return Sheet(title, ("code", "language", *ours, *(system.name for system in systems)), lines, notes)


def _published_groups(published: Published, direction: str) -> dict[str, tuple[str, Sequence[str]]]:
    """Label and languages of every group that a mean is published over."""
    if direction == "en-xx":
        return {"all": (f"all ({len(COVOST_TARGETS)})", COVOST_TARGETS)}
    groups: dict[str, tuple[str, Sequence[str]]] = {
        level: (f"{level} ({len(codes)})", codes) for level, codes in LEVELS.items()
    }
    groups["all"] = (f"all ({len(INTO_ENGLISH)})", INTO_ENGLISH)
    return groups | {name: (group.title, group.languages) for name, group in published.groups.items()}


def _sources(systems: Iterable[PublishedSystem]) -> list[str]:
    by_source: dict[str, list[str]] = {}
    for system in systems:
        by_source.setdefault(system.source, []).append(system.name)
    return [f"{', '.join(names)}: {source}" for source, names in by_source.items()]


def _number(value: float | None) -> str:
    return NO_CELL if value is None else f"{value:.1f}"


# --------------------------------------------------------------------------------------------------------- Markdown


def _markdown_table(sheet: Sheet) -> str:
    """Words on the left, numbers on the right."""
    rule = tuple("---" if head in WORDS else "---:" for head in sheet.head)
    return "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in (sheet.head, rule, *sheet.lines))


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _markdown_list(notes: Iterable[str]) -> str:
    return "\n".join(f"- {note}" for note in notes)
