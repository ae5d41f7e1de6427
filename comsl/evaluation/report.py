"""What a person reads of an evaluation: a table in the terminal and a self-contained HTML page.

Both are made from ``scores.json`` and ``hypotheses.jsonl`` alone (and ``attention.png`` where there is one), so they
can be made again at any time.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from comsl.evaluation import calibration
from comsl.evaluation.metrics import sentence_chrf
from comsl.evaluation.notes import coverage, footnotes, summary
from comsl.evaluation.records import (
    ATTENTION,
    REPORT,
    SCORES,
    Record,
    grouped_failures,
    read_records,
    read_scores,
)
from comsl.evaluation.scoring import scorable
from comsl.evaluation.table import sheets
from comsl.files import write_atomically

EXAMPLES = 10
MOST_RANKED = 3000
"""Rows that examples are chosen of; to rank all of a large test set would take longer than to score it."""
FILE_WIDTH = 1000
"""Characters a line, wider than any table."""
UNSEEN = "reference not in training"

Line = tuple[str, ...]
"""Cells of one line of a table."""


def translation_lines(scores: dict[str, Any]) -> list[Line]:
    """(system, direction or mean, rows, BLEU, chrF++, empty, truncated, failed), one line each."""
    lines: list[Line] = []
    for system, result in scores["systems"].items():
        lines += _system_lines(system, result)
        if "unseen" in result:
            lines += _system_lines(f"{system}, {UNSEEN}", result["unseen"])
    return lines


def _system_lines(system: str, result: dict[str, Any]) -> list[Line]:
    lines: list[Line] = [
        (
            system,
            name,
            str(pair["rows"]),
            _interval(pair["bleu"]),
            _interval(pair["chrf"]),
            *_counts(pair),
        )
        for name, pair in result["pairs"].items()
    ]
    if len(result["pairs"]) > 1:
        bleu, chrf = result["averages"]["bleu"], result["averages"]["chrf"]
        for level in bleu:
            title = f"mean, {coverage(level, bleu[level])}"
            values = f"{bleu[level]['value']:.1f}", f"{chrf[level]['value']:.1f}"
            lines.append((system, title, "", *values, *NO_COUNTS))
    return lines


def transcription_lines(scores: dict[str, Any]) -> list[Line]:
    """(system, language or mean, rows, WER, CER, empty, truncated, failed), one line each."""
    lines: list[Line] = []
    for system, result in scores["transcription"].items():
        for name, pair in result["pairs"].items():
            values = f"{pair['wer']:.1f}", f"{pair['cer']:.1f}"
            lines.append((system, name, str(pair["rows"]), *values, *_counts(pair)))
        if len(result["pairs"]) > 1:
            wer, cer = result["averages"]["wer"], result["averages"]["cer"]
            for level in wer:
                title = f"mean, {coverage(level, wer[level])}"
                values = f"{wer[level]['value']:.1f}", f"{cer[level]['value']:.1f}"
                lines.append((system, title, "", *values, *NO_COUNTS))
    return lines


COUNTS = ("empty", "truncated", "failed")
NO_COUNTS = ("",) * len(COUNTS)
TRANSLATION_HEAD = ("system", "direction", "rows", "BLEU", "chrF++", *COUNTS)
TRANSCRIPTION_HEAD = ("transcripts of", "language", "rows", "WER", "CER", *COUNTS)


def _counts(pair: dict[str, Any]) -> Line:
    return tuple(str(pair[name]) for name in COUNTS)


def render(scores: dict[str, Any]) -> Group:
    """Tables and signatures for the terminal."""
    parts: list[Table | Text] = []
    for head, lines in (
        (TRANSLATION_HEAD, translation_lines(scores)),
        (TRANSCRIPTION_HEAD, transcription_lines(scores)),
        (calibration.HEAD, calibration.reliability_lines(scores)),
    ):
        if lines:
            table = Table()
            for index, name in enumerate(head):
                table.add_column(name, justify="left" if index < 2 else "right", no_wrap=index > 0)
            for line in _without_repeats(lines):
                table.add_row(*line)
            parts.append(table)
    parts += [Text(note, style="dim") for note in footnotes(scores)]
    if scores["failed"]:
        rows = len({failure["id"] for failure in scores["failed"]})
        parts.append(Text(f"{rows} of {scores['rows']} rows failed; why is in {SCORES} and {REPORT}", style="red"))
    return Group(*parts)


def show(report: Group) -> None:
    """Print ``render``'s tables and notes, or those of a comparison, to stdout.

    Notes are not broken into lines (a terminal does that itself), so that a signature can be copied and searched for;
    in a file or pipe nothing is fitted to a width.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    for part in report.renderables:
        console.print(part, soft_wrap=isinstance(part, Text))


def _without_repeats(lines: Iterable[Line]) -> list[Line]:
    """A system's name only in its first line."""
    shown: list[Line] = []
    before = None
    for line in lines:
        shown.append(("", *line[1:]) if line[0] == before else line)
        before = line[0]
    return shown


def _interval(metric: dict[str, Any]) -> str:
    return f"{metric['score']:.1f}" + ("" if metric["ci"] is None else f" ± {metric['ci']:.1f}")


# ------------------------------------------------------------------------------------------------------------- HTML


def write_html(folder: str | Path) -> Path:
    """Write ``report.html`` of an evaluation folder and return its path; errors as of ``read_records``."""
    folder = Path(folder)
    picture = folder / ATTENTION
    page = html_page(read_scores(folder), read_records(folder), picture.read_bytes() if picture.is_file() else None)
    write_atomically(folder / REPORT, page)
    return folder / REPORT


def html_page(scores: dict[str, Any], records: Sequence[Record], attention: bytes | None = None) -> str:
    """The whole page as one string: style and pictures inside, no script, nothing fetched."""
    sections = [f"<p>{escape(summary(scores))}</p>"]
    for sheet in sheets(scores):
        notes = "<br>".join(escape(note) for note in sheet.notes)
        table = f'<div class="wide">{_html_table(sheet.head, sheet.lines)}</div>' if sheet.lines else ""
        sections.append(f'<h2>{escape(sheet.title)}</h2>{table}<p class="notes">{notes}</p>')
    for title, head, lines in (
        ("Translation, by system", TRANSLATION_HEAD, translation_lines(scores)),
        ("Transcription, by system", TRANSCRIPTION_HEAD, transcription_lines(scores)),
        ("Confidence", calibration.HEAD, calibration.reliability_lines(scores)),
    ):
        if lines:
            sections.append(f"<h2>{title}</h2>{_html_table(head, _without_repeats(lines))}")
    sections.append('<p class="notes">' + "<br>".join(escape(note) for note in footnotes(scores)) + "</p>")
    if scores["failed"]:
        table = _html_table(("row", "systems", "reason"), grouped_failures(scores["failed"]))
        sections.append(f"<h2>Failed rows</h2>{table}")
    sections += _curves_section(scores.get("curves") or {})
    sections += _examples_sections(records)
    if attention is not None:
        caption = escape(str(scores.get("attention") or ""))
        sections.append(f"<h2>Cross-attention</h2>{_image(attention, 'attention of the decoder')}<p>{caption}</p>")
    return _PAGE.replace("{title}", escape(f"Evaluation of {scores['model']}")).replace("{body}", "\n".join(sections))


def _curves_section(curves: dict[str, dict[str, list[tuple[float, float]]]]) -> list[str]:
    if not curves:
        return []
    from comsl.evaluation.plots import curves_png

    return [f"<h2>Learning curves</h2>{_image(curves_png(curves), 'learning curves')}"]


def _examples_sections(records: Sequence[Record]) -> list[str]:
    """Worst and best rows of the first system by chrF++, with what the other systems made of them."""
    scored = [record for record in records if scorable(record)]
    if not scored:
        return []
    system = scored[0]["system"]
    own = [record for record in scored if record["system"] == system]
    step = -(-len(own) // MOST_RANKED)
    ranked = sorted(
        ((sentence_chrf(record["hypothesis"], record["reference"]), record) for record in own[::step]),
        key=lambda item: item[0],
    )
    others: dict[str, list[Record]] = {}
    for record in scored:
        if record["system"] != system:
            others.setdefault(record["id"], []).append(record)
    half = max(1, min(EXAMPLES, len(ranked) // 2))
    worst, best = ranked[:half], [] if len(ranked) == 1 else ranked[: -half - 1 : -1]
    which = "" if step == 1 else f" Among {len(ranked)} rows, one in {step}."
    note = f"<p>Of the system “{escape(system)}”, by chrF++ of the row.{which}</p>"
    sections = []
    for title, examples in (("Worst examples", worst), ("Best examples", best)):
        if examples:
            body = "".join(_example(chrf, record, others.get(record["id"], [])) for chrf, record in examples)
            sections.append(f"<h2>{title}</h2>{note}{body}")
    return sections


def _example(chrf: float, record: Record, others: Iterable[Record]) -> str:
    lines = [
        ("transcript", record["source"]),
        ("heard", record["transcript_hypothesis"]),
        ("reference", record["reference"]),
        (record["system"], record["hypothesis"]),
        *((other["system"], other["hypothesis"]) for other in others),
    ]
    cells = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(text) or '<i>empty</i>'}</td></tr>"
        for name, text in lines
        if text is not None
    )
    pair = f"{record['source_language']}-{record['target_language']}"
    length = "" if record["duration"] is None else f" · {record['duration']:.1f} s"
    head = f"{record['id']} · {pair}{length} · chrF++ {chrf:.1f}"
    return f'<table class="example"><caption>{escape(head)}</caption>{cells}</table>'


def _html_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    header = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"


def _image(png: bytes, alternative: str) -> str:
    return f'<img alt="{escape(alternative)}" src="data:image/png;base64,{base64.b64encode(png).decode("ascii")}">'


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: .6rem 0; }
th, td { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #8884; }
td { font-variant-numeric: tabular-nums; }
caption { text-align: left; color: #777; font-size: .85rem; }
table.example { width: 100%; } table.example th { width: 7rem; font-weight: normal; color: #777; }
.notes { color: #777; font-size: .85rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; } .wide td, .wide th { white-space: nowrap; }
img { max-width: 100%; height: auto; background: #fff; }
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""
