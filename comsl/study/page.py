"""A study as one Markdown page, with a picture in a folder of the page's name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from comsl.errors import UsageError
from comsl.evaluation.bootstrap import SEED
from comsl.evaluation.forms import FORMS
from comsl.files import write_atomically
from comsl.provenance import git_commit, versions
from comsl.study.plan import Contrast, Plan
from comsl.study.plot import scores_png
from comsl.study.results import Result
from comsl.study.statistics import LEVEL, POWER, Study, run_study

PICTURE = "scores.png"


def write_page(plan: Plan, runs: Path, out: Path) -> Study:
    """Compute the study and write its page and the picture on it.

    Raises:
        UsageError: a page of another kind than ``.md``; and as of ``run_study``.
    """
    if out.suffix != ".md":
        raise UsageError(f"--out {out}: the page is Markdown, name a file that ends in .md")
    study = run_study(plan, runs)
    picture = out.with_suffix("") / PICTURE
    picture.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(picture, scores_png(study))
    write_atomically(out, render(study, f"{picture.parent.name}/{PICTURE}"))
    return study


def render(study: Study, picture: str) -> str:
    """The page's text; ``picture``: of the scores, as the page names it."""
    parts = [
        f"# {study.plan.title}",
        study.plan.intro.strip(),
        _scores(study),
        f"![scores]({picture})",
        _questions(study),
    ]
    parts += [part for part in (_forms(study), _transcripts(study), _confidence(study)) if part]
    if study.plan.notes:
        parts.append("## To be borne in mind\n\n" + "\n".join(f"- {note}" for note in study.plan.notes))
    parts += [_made(study), _provenance(study)]
    return "\n\n".join(parts) + "\n"


def _scores(study: Study) -> str:
    cells = list(study.results[0].cells["bleu"])
    header = ["arm", "seeds", *cells, "mean BLEU", "mean chrF++", "minutes"]
    rows = [
        [
            result.arm.label,
            str(len(result.seeds)),
            *(_spread(result.cells["bleu"][cell]) for cell in cells),
            f"{np.mean(result.overall('bleu')):.1f} ± {study.interval(result, 'bleu'):.1f}",
            f"{np.mean(result.overall('chrf')):.1f} ± {study.interval(result, 'chrf'):.1f}",
            f"{np.mean(result.seconds) / 60:.1f}" if result.seconds else "-",
        ]
        for result in study.results
    ]
    rows += [[arm.label, "0", *["not run"] * (len(header) - 2)] for arm in study.missing]
    return "\n\n".join(
        [
            "## Scores",
            _table(header, rows, left=1),
            "BLEU a test set and direction: mean over seeds (± standard deviation over them, where there are several). "
            f"The means over {_counted(study)} stand with their 95% intervals, of sentences and seeds together. "
            "Minutes of training of the models that were evaluated, a seed, not of those they started from.",
            _about_seeds(study),
        ]
    )


def _counted(study: Study) -> str:
    return f"the columns of {', '.join(study.plan.tests)}" if study.plan.beside else "these columns"


def _about_seeds(study: Study) -> str:
    seeds = study.seeds["bleu"]
    if seeds is None:
        return (
            "No arm has more than one seed: how much another seed would change is unknown, and the intervals and tests "
            "are about sentences alone."
        )
    return (
        f"Seeds vary by {math.sqrt(seeds.variance):.2f} BLEU (standard deviation of the mean, pooled over runs with "
        f"several seeds, {seeds.degrees} degrees of freedom), {math.sqrt(seeds.own):.2f} without what is chance in "
        "sentences. An arm with one seed is taken to vary as much."
    )


def _questions(study: Study) -> str:
    if not study.answers:
        return "## Questions\n\nNone could be answered: the arms that they compare have not been run."
    header = ["claim", "a", "b", "b - a", "standard error", "p", "p (Holm)", "resolves", "verdict"]
    rows = [
        [
            _claim(answer.contrast),
            answer.contrast.a,
            answer.contrast.b,
            f"{answer.difference:+.2f}",
            f"{answer.error:.2f}",
            _p(answer.p),
            _p(answer.p_holm),
            f"{answer.resolves:.1f}",
            verdict(answer.difference, answer.p_holm),
        ]
        for answer in study.answers
    ]
    return "\n\n".join(
        [
            "## Questions",
            _table(header, rows, left=3),
            "Of mean BLEU. *Standard error*: sentences are resampled, the same ones for both arms, and seeds vary as "
            "pooled; where both arms are systems of the same runs, as their differences do seed by seed (of a single "
            "run sentences alone count: the answer is about that run). *p*: of both sides, by Student's t. Holm "
            f"corrects for {len(rows)} questions asked together. "
            f"*resolves*: the smallest true difference that this design finds in {POWER:.0%} of cases at the strictest "
            f"of Holm's levels ({LEVEL} / {len(rows)}): where a difference is not significant, one up to that size may "
            "be there all the same.",
        ]
    )


def _claim(contrast: Contrast) -> str:
    return f"{contrast.claim} ({', '.join(contrast.tests)})" if contrast.tests else contrast.claim


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def verdict(difference: float, p: float) -> str:
    """What a corrected p says of the claim that b is better."""
    if p >= LEVEL:
        return "not shown"
    return "yes" if difference > 0 else "no: the other way round"


def _forms(study: Study) -> str:
    if not study.plan.forms:
        return ""
    cells = [(form, cell) for form in study.plan.forms for cell in study.results[0].forms[form]]
    header = ["arm", *(f"{cell}: {form}" for form, cell in cells)]
    rows = [
        [result.arm.label, *(_spread(result.forms[form][cell]) for form, cell in cells)] for result in study.results
    ]
    explained = "; ".join(f"*{form}*: {FORMS[form].about}" for form in study.plan.forms)
    return "\n\n".join(
        [
            "## In other forms of the texts",
            _table(header, rows, left=1),
            "BLEU of texts that were changed first, hypotheses and references alike, as others have scored theirs. "
            f"{explained}.",
        ]
    )


def _transcripts(study: Study) -> str:
    heard = [result for result in study.results if result.transcripts]
    if not heard:
        return ""
    columns = [(rate, cell) for cell in heard[0].transcripts["wer"] for rate in ("wer", "cer")]
    header = ["arm", *(f"{cell}, {rate.upper()}" for rate, cell in columns)]
    rows = [
        [result.arm.label, *(_spread(result.transcripts[rate][cell]) for rate, cell in columns)] for result in heard
    ]
    return "## Error rates of the transcripts\n\n" + _table(header, rows, left=1)


def _confidence(study: Study) -> str:
    rows = []
    for result in study.results:
        for test, seeds in result.confidence.items():
            related = [correlation for _, correlation in seeds if correlation is not None]
            shown = f"{np.mean(related):.2f}" if related else "-"
            rows.append([result.arm.label, test, f"{np.mean([error for error, _ in seeds]):.3f}", shown])
    if not rows:
        return ""
    return "\n\n".join(
        [
            "## How sure it is",
            _table(["arm", "test", "distance", "correlation"], rows, left=2),
            "Confidence (0 to 1, learnt by `comsl calibrate` on other rows) against the chrF that a translation turned "
            "out to have: mean distance over five parts of the rows, from the least confident on, and correlation over "
            "rows.",
        ]
    )


def _made(study: Study) -> str:
    """How each arm was trained and decoded, arms that were made alike in one row."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for result in study.results:
        made = result.made
        facts = (made.updates, made.precision, made.trained, made.evaluated, made.decoding)
        cells = tuple("; ".join(found) or "-" for found in facts)
        alike.setdefault(cells, []).append(result.arm.label)
    header = ["arms", "updates", "precision", "trained at", "evaluated at", "decoding"]
    rows = [["<br>".join(labels), *cells] for cells, labels in alike.items()]
    return "\n\n".join(
        [
            "## How each was made",
            _table(header, rows, left=len(header)),
            "As the runs and evaluations record it themselves: updates of the last stage, its precision, commits of "
            "training (of every start) and evaluation, the options of decoding.",
        ]
    )


def _provenance(study: Study) -> str:
    counted = ", ".join(f"{name} {version}" for name, version in versions().items())
    rows = "; ".join(f"{name}: {signature}" for name, signature in study.signatures.items())
    return (
        "## How it was computed\n\n"
        f"Raw references, case-sensitive; {rows}; rows: {_rows(study.results)}. "
        f"{study.n_samples:,} resamples, seed {SEED}. Written by `comsl study`, commit "
        f"{git_commit() or 'unknown'} ({counted})."
    )


def _rows(results: Sequence[Result]) -> str:
    return ", ".join(f"{cell} {count}" for cell, count in results[0].rows.items())


def _spread(scores: Sequence[float]) -> str:
    mean = f"{np.mean(scores):.1f}"
    return f"{mean} ± {np.std(scores, ddof=1):.1f}" if len(scores) > 1 else mean


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """Markdown; the first ``left`` columns to the left, numbers to the right."""
    ruler = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ruler, *rows))
