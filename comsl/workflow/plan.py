"""What a ``run.yaml`` says: the steps of a workflow, each a line of words for ``comsl``.

    needs:                            # files and folders that must be there: --set covost=PATH
      covost: folder of CoVoST 2's TSV files
    variables:                        # each with its default, which may refer to those above it
      out: runs/covost2
      data: ${out}/data
      languages: [fr, de]
    records: ${out}/run               # markers of finished steps, their logs, the lock
    steps:
      - name: prepare
        comsl: prepare covost2 --covost ${covost} --languages ${languages} --out ${data}
      - name: text
        comsl: train ${recipe}/1-text.yaml --output_dir ${out}/1-text
        processes: 8
      - name: ${arm}-${seed}
        each: {arm: [st, joint], seed: [1, 2, 3]}   # six steps
        comsl: train ${recipe}/3-${arm}.yaml --seed ${seed} --output_dir ${out}/${arm}-${seed}
    page: ${out}/table/report.html    # what the last line points at

No shell: a step is cut into words as a shell would cut it (or is a list of words), and then variables are filled in, so
a value with spaces stays one word. A variable that stands alone becomes as many words as its list has, and none if it
is null. ``each`` makes a step for every combination of values, the last name's values changing fastest; a list is
written there, or is a variable's. ``${recipe}`` is the folder of the file. Paths are relative to the current directory,
as everywhere.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from comsl.arguments import parse
from comsl.commands.train import overrides_of
from comsl.errors import UsageError, nearest
from comsl.training.recipe import check_keys, parse_yaml, read_yaml

FILE = "run.yaml"
RECIPE = "recipe"
VARIABLE = re.compile(r"\$\{(\w+)\}")


class PlanError(UsageError):
    """A ``run.yaml``, or a variable given to it, that makes no sense; the message names the file and the step."""


@dataclass(frozen=True)
class Step:
    """One command of ``comsl``."""

    name: str
    words: tuple[str, ...]
    """After ``comsl``, with all variables filled in."""
    processes: int = 1
    accelerate: str | None = None
    """Configuration file of ``accelerate launch``; None: torchrun, where there are several processes."""
    writes: tuple[str, ...] = ()
    """Outputs that the words do not show: what follows --out, --output_dir or --output is known to be one."""
    reads: tuple[str, ...] = ()
    """Inputs that the words do not show, or show from too far above; as globs."""


@dataclass(frozen=True)
class Plan:
    """A workflow with all variables filled in."""

    folder: Path
    steps: tuple[Step, ...]
    records: Path
    page: Path | None
    needs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Of each variable that is needed, its path and what it should be."""

    def missing(self, step: Step | None = None) -> list[str]:
        """A line for each file or folder that is needed, by ``step`` if one is named, and is not there."""
        return [
            f"--set {name}={path}: no such file or folder; wanted: {text}"
            for name, (path, text) in self.needs.items()
            if not Path(path).exists() and (step is None or any(_is_in(word, path) for word in step.words))
        ]


@dataclass
class _StepKeys:
    name: str = ""
    comsl: str | list[str] = ""
    processes: int | str = 1
    accelerate: str | None = None
    writes: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    each: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Keys:
    needs: dict[str, str] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    records: str = ""
    steps: list[Any] = field(default_factory=list)
    page: str | None = None


def load_plan(folder: Path, settings: Sequence[str] = ()) -> Plan:
    """Read ``folder/run.yaml`` and fill in its variables.

    Args:
        folder: with the file; or the file itself.
        settings: ``name=value``, the value read as YAML.

    Raises:
        PlanError: file, key, variable or step that is missing, unknown or malformed; a command line or a recipe that
            the step's command would not take; no such configuration of a launcher. Nothing has been run then.
    """
    path = folder if folder.suffix in (".yaml", ".yml") else folder / FILE
    if not path.exists():
        near = nearest(folder.name, [other.parent.name for other in folder.parent.glob(f"*/{FILE}")])
        raise PlanError(f"{path}: no such file" + (f"; did you mean {folder.parent / near}?" if near else ""))
    tree = read_yaml(path, PlanError)
    check_keys(tree, _Keys, str(path), PlanError)
    if not tree.get("records"):
        raise PlanError(f"{path}: records: missing; name a folder for markers and logs, such as ${{out}}/run")
    values = _values(path, tree, settings)
    steps = [step for entry in tree.get("steps") or [] for step in _steps(path, entry, values)]
    if not steps:
        raise PlanError(f"{path}: steps: there is none")
    names = [step.name for step in steps]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise PlanError(f"{path}: two steps are called {double!r}; a name is a step's log and marker, so give another")
    records = Path(_fill(tree["records"], values, f"{path}: records"))
    page = _fill(tree["page"], values, f"{path}: page") if tree.get("page") else None
    needs = {name: (str(values[name]), text) for name, text in (tree.get("needs") or {}).items()}
    return Plan(path.parent, tuple(steps), records, None if page is None else Path(page), needs)


def _is_in(word: str, path: str) -> bool:
    """Whether a word is the path or something below it."""
    return word == path or word.startswith(f"{path.rstrip('/')}/")


# -------------------------------------------------------------------------------------------------------- variables


def _values(path: Path, tree: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    needed, defaults = tree.get("needs") or {}, tree.get("variables") or {}
    known = [*needed, *defaults]
    given: dict[str, Any] = {}
    for word in settings:
        name, equals, text = word.partition("=")
        if not equals:
            raise PlanError(f"--set {word}: expected name=value")
        if name not in known:
            near = nearest(name, known)
            hint = f"did you mean {near!r}?" if near else f"there are {', '.join(known) or 'none'}"
            raise PlanError(f"--set {word}: {path} has no variable {name!r}; {hint}")
        try:
            given[name] = parse_yaml(text)
        except yaml.YAMLError as error:
            raise PlanError(f"--set {name}: {text!r} is not a YAML value") from error
    missing = [f"{name} ({text})" for name, text in needed.items() if given.get(name) is None]
    if missing:
        words = " ".join(f"--set {name}=VALUE" for name in needed if given.get(name) is None)
        raise PlanError(f"{path} needs {', '.join(missing)}: add {words}")
    values = {RECIPE: str(path.parent), **{name: given[name] for name in needed}}
    for name, default in defaults.items():
        value, where = given.get(name, default), f"{path}: variables: {name}"
        if isinstance(value, list):
            values[name] = ["null" if item is None else _fill(str(item), values, where) for item in value]
        else:
            values[name] = _fill(value, values, where) if isinstance(value, str) else value
    return values


def _fill(text: str, values: Mapping[str, Any], where: str) -> str:
    """``text`` with its variables; a list in it is an error."""

    def value(match: re.Match[str]) -> str:
        found = _look_up(match[1], values, where)
        if isinstance(found, (list, dict)) or found is None:
            raise PlanError(f"{where}: ${{{match[1]}}} is {found!r}, which cannot be a part of {text!r}")
        return str(found)

    return VARIABLE.sub(value, text)


def _fill_words(words: Sequence[str], values: Mapping[str, Any], where: str) -> tuple[str, ...]:
    filled: list[str] = []
    for word in words:
        alone = VARIABLE.fullmatch(word)
        value = _look_up(alone[1], values, where) if alone else None
        if alone and value is None:
            continue
        filled += value if isinstance(value, list) else [_fill(word, values, where)]
    return tuple(filled)


def _look_up(name: str, values: Mapping[str, Any], where: str) -> Any:
    if name not in values:
        near = nearest(name, values)
        hint = f"; did you mean ${{{near}}}?" if near else f"; there are {', '.join(values)}"
        raise PlanError(f"{where}: no variable ${{{name}}} so far{hint}")
    return values[name]


# ------------------------------------------------------------------------------------------------------------ steps


def _steps(path: Path, entry: Any, values: Mapping[str, Any]) -> Iterator[Step]:
    """The step of an entry, or those that its ``each`` makes."""
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str):
        raise PlanError(f"{path}: a step is a name (letters, digits, . - _) and its words, got {entry!r}")
    where = f"{path}: step {name}"
    check_keys(entry, _StepKeys, where, PlanError)
    keys = _StepKeys(**entry)
    if not isinstance(keys.each, dict):
        raise PlanError(f"{where}: each: names and their lists are expected, got {keys.each!r}")
    lists = [_list(value, values, f"{where}: each: {name}") for name, value in keys.each.items()]
    for combination in itertools.product(*lists):
        yield _step(path, keys, {**values, **dict(zip(keys.each, combination, strict=True))})


def _list(value: Any, values: Mapping[str, Any], where: str) -> list[Any]:
    alone = VARIABLE.fullmatch(value) if isinstance(value, str) else None
    found = _look_up(alone[1], values, where) if alone else value
    if not isinstance(found, list):
        raise PlanError(f"{where}: a list is expected, or a variable that holds one, got {found!r}")
    return found


def _step(path: Path, keys: _StepKeys, values: Mapping[str, Any]) -> Step:
    name = _fill(keys.name, values, f"{path}: step {keys.name}")
    if not re.fullmatch(r"[\w.-]+", name):
        raise PlanError(f"{path}: step {name}: a step is a name (letters, digits, . - _) and its words")
    where = f"{path}: step {name}"
    try:
        words = shlex.split(keys.comsl) if isinstance(keys.comsl, str) else list(map(str, keys.comsl))
    except ValueError as error:
        raise PlanError(f"{where}: comsl: {error}") from error
    words = list(_fill_words(words, values, where))
    accelerate = next(iter(_fill_words([keys.accelerate or ""], values, where)), None) or None
    if accelerate is not None and not Path(accelerate).is_file():
        raise PlanError(f"{where}: accelerate: {accelerate}: no such file; name a configuration of accelerate launch")
    writes, reads = (_fill_words(paths, values, where) for paths in (keys.writes, keys.reads))
    step = Step(name, tuple(words), _processes(keys, values, where), accelerate, writes, reads)
    check_words(step, where)
    return step


def _processes(keys: _StepKeys, values: Mapping[str, Any], where: str) -> int:
    text = _fill(str(keys.processes), values, where)
    if not text.isdecimal() or int(text) < 1:
        raise PlanError(f"{where}: processes: expected a positive number, got {text!r}")
    return int(text)


def check_words(step: Step, where: str) -> None:
    """Whether ``comsl`` would take the words, before hours of other steps; of ``comsl train`` the recipe as well."""
    if not step.words:
        raise PlanError(f"{where}: comsl: missing; name a command and its words")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            arguments = parse(list(step.words))
    except SystemExit as error:
        raise PlanError(f"{where}: {said.getvalue().strip().splitlines()[-1]}") from error
    if arguments.command == "run":
        raise PlanError(f"{where}: comsl run inside comsl run; name that workflow's steps here instead")
    if arguments.command == "train":
        from comsl.objectives import ObjectiveSet
        from comsl.training.configuration import load_configuration

        try:
            ObjectiveSet(load_configuration(arguments.recipe, overrides_of(arguments)).objectives)
        except UsageError as error:
            raise PlanError(f"{where}: {error}") from error
