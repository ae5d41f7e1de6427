"""Reading recipes: YAML with line numbers in its errors, overrides from the command line, unknown keys named."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from comsl.errors import nearest

Tree = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """YAML as people write it: ``2e-5`` is a number, ``no`` a word, and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str) -> Any:
    """One YAML value. Raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)


def read_yaml(path: str | Path, error: type[Exception]) -> Tree:
    """The mapping in a YAML file; anything else raises ``error``, with the line where there is one."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as reason:
        raise error(f"{path}: cannot read this recipe: {reason.strerror}") from reason
    except UnicodeDecodeError as reason:
        raise error(f"{path}: not a text file in UTF-8, so not a recipe") from reason
    try:
        tree = parse_yaml(text)
    except yaml.YAMLError as reason:
        mark = getattr(reason, "problem_mark", None)
        place = f"{path}, line {mark.line + 1}" if mark is not None else str(path)
        raise error(f"{place}: malformed YAML: {getattr(reason, 'problem', None) or reason}") from reason
    if not isinstance(tree, dict):
        raise error(f"{path}: a recipe is a mapping of keys to values, this file holds {type(tree).__name__}")
    return tree


def parse_overrides(words: Sequence[str], error: type[Exception]) -> Iterator[tuple[str, str, Any]]:
    """``--a.b value`` and ``--a.b=value`` as (the words, "a.b", value read as YAML)."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or len(word) == 2:
            raise error(f"{word!r}: expected an override such as --optimizer.learning_rate 3e-4")
        key, equals, text = word[2:].partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise error(f"--{key}: a value is missing, as in --{key} VALUE")
            text = rest.pop(0)
        try:
            value = parse_yaml(text)
        except yaml.YAMLError as reason:
            raise error(f"--{key}: {text!r} is not a YAML value") from reason
        yield f"--{key}", key, value


def merge(tree: Tree, key: str, value: Any) -> Tree:
    """A copy of ``tree`` with the dotted ``key`` set to ``value``; groups that are missing or null are made."""
    head, _, tail = key.partition(".")
    if not tail:
        return {**tree, head: value}
    inner = tree.get(head)
    return {**tree, head: merge(inner if isinstance(inner, dict) else {}, tail, value)}


def flatten(tree: Tree, prefix: str = "") -> Tree:
    """Nested mappings as dotted keys; an empty mapping stays a value."""
    flat: Tree = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def check_keys(tree: Tree, kind: type, origin: str, error: type[Exception], prefix: str = "") -> None:
    """Raises ``error`` for a key that ``kind`` (a dataclass, with dataclasses inside) does not have.

    Mappings that are values (such as ``objectives``) are left to those who understand them.
    """
    hints = typing.get_type_hints(kind)
    known = [item.name for item in fields(kind)]
    for key, value in tree.items():
        if key not in known:
            raise error(f"{origin}: unknown key `{prefix}{key}`{_suggestion(str(key), kind, known, prefix)}")
        inner = dataclass_in(hints[key])
        if inner is not None and isinstance(value, dict):
            check_keys(value, inner, origin, error, f"{prefix}{key}.")
        elif inner is not None and value is not None:
            raise error(f"{origin}: {prefix}{key}: a group of settings is expected, got {value!r}")
        elif inner is not None and not _optional(hints[key]):
            raise error(f"{origin}: {prefix}{key}: a group of settings is expected, it is empty")


def _suggestion(key: str, kind: type, known: list[str], prefix: str) -> str:
    if near := nearest(key, known):
        return f"; did you mean `{prefix}{near}`?"
    # A key of some inner group, written one level too high, is the other common slip.
    hints = typing.get_type_hints(kind)
    for name in known:
        inner = dataclass_in(hints[name])
        if inner is not None and (near := nearest(key, [item.name for item in fields(inner)], cutoff=0.8)):
            return f"; did you mean `{prefix}{name}.{near}`?"
    return f"; known here: {', '.join(known)}"


def dataclass_in(hint: Any) -> type | None:
    """The dataclass that a type hint is, or may be."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return next((option for option in options if isinstance(option, type) and is_dataclass(option)), None)


def _optional(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) and type(None) in typing.get_args(hint)
