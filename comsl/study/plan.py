"""What a ``study.yaml`` says.

title: what is studied
intro: a paragraph for the top of the page
tests: [test_2016, test_2017]
beside: [test_2017_novel]                 # shown, but in no mean and no question: rows of the others once more, say
arms:                                     # in the order of the table
  - {arm: 05-both-st, label: "(5) both parts, ST"}
  - {arm: 11-cascade, label: "(11) cascade", system: cascade}
contrasts:                                # asked together, so corrected together
  - {a: "(5) both parts, ST", b: "(9) the paper", claim: "cross-modal objectives help"}
  - {a: "(5) both parts, ST", b: "(9) the paper", claim: "on what is new too", tests: [test_2017_novel]}
forms: [lc, lc.rm]                        # BLEU of lower-cased texts and so on too, for published numbers' sake
notes: [a line below the tables]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from comsl.errors import UsageError, nearest
from comsl.evaluation.forms import FORMS
from comsl.training.recipe import check_keys, read_yaml


class StudyError(UsageError):
    """A ``study.yaml`` that makes no sense; the message names the file and the key."""


@dataclass(frozen=True)
class Arm:
    """A row of the table: a system of an arm's evaluations."""

    arm: str
    """Folder in ``RUNS``."""
    label: str
    system: str = "direct"


@dataclass(frozen=True)
class Contrast:
    """A question: is ``b`` another than ``a``? Both by their labels."""

    a: str
    b: str
    claim: str
    tests: Sequence[str] = ()
    """It is about these alone; none: about all that count."""


@dataclass(frozen=True)
class Plan:
    """What ``study.yaml`` says."""

    title: str
    intro: str
    tests: Sequence[str]
    arms: Sequence[Arm]
    contrasts: Sequence[Contrast] = ()
    beside: Sequence[str] = ()
    """Test sets that are shown and counted nowhere."""
    notes: Sequence[str] = ()
    forms: Sequence[str] = ()
    """Keys of ``comsl.evaluation.forms.FORMS``."""


def load_study(path: Path) -> Plan:
    """Read a ``study.yaml``.

    Raises:
        StudyError: a missing or unknown key, a value of another kind than it should be, two arms of one label, a test
            that is named twice, a contrast of arms or over tests that there are not, or an unknown form.
    """
    tree = read_yaml(path, StudyError)
    _check(tree, Plan, str(path))
    arms = [_made(Arm, entry, f"{path}: arms") for entry in tree["arms"]]
    contrasts = [_made(Contrast, entry, f"{path}: contrasts") for entry in tree.get("contrasts") or ()]
    labels = [arm.label for arm in arms]
    if double := next((label for label in labels if labels.count(label) > 1), None):
        raise StudyError(f"{path}: two arms are called {double!r}: a contrast could not tell them apart")
    for label in (label for contrast in contrasts for label in (contrast.a, contrast.b)):
        if label not in labels:
            raise StudyError(f"{path}: contrasts: no arm {label!r}; did you mean {nearest(label, labels, 0.0)!r}?")
    tests = [*tree["tests"], *(tree.get("beside") or ())]
    if double := next((test for test in tests if tests.count(test) > 1), None):
        raise StudyError(f"{path}: tests, beside: {double!r} stands there twice")
    for test in (test for contrast in contrasts for test in contrast.tests):
        if test not in tests:
            raise StudyError(f"{path}: contrasts: no test {test!r}; did you mean {nearest(test, tests, 0.0)!r}?")
    forms = tree.get("forms") or ()
    for form in forms:
        if form not in FORMS:
            raise StudyError(f"{path}: forms: no form {form!r}; there are {', '.join(FORMS)}")
    notes, beside = tree.get("notes") or (), tree.get("beside") or ()
    return Plan(tree["title"], tree["intro"], tree["tests"], arms, contrasts, beside, notes, forms)


def _made(kind: type, entry: Any, where: str) -> Any:
    if not isinstance(entry, dict):
        raise StudyError(f"{where}: expected {', '.join(item.name for item in fields(kind))}, got {entry!r}")
    _check(entry, kind, where)
    return kind(**entry)


def _check(tree: dict[str, Any], kind: type, where: str) -> None:
    check_keys(tree, kind, where, StudyError)
    for item in fields(kind):
        value = tree.get(item.name)
        if value is None and item.default is MISSING:
            raise StudyError(f"{where}: {item.name}: missing")
        if value is None:
            continue
        if not str(item.type).startswith("Sequence"):
            if not isinstance(value, str):
                raise StudyError(f"{where}: {item.name}: expected text, got {value!r}")
        elif not isinstance(value, list):
            raise StudyError(f"{where}: {item.name}: expected a list, got {value!r}")
        elif item.type == "Sequence[str]" and not all(isinstance(each, str) for each in value):
            raise StudyError(f"{where}: {item.name}: expected a list of texts, got {value!r}")
