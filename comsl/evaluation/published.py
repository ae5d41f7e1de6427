"""Published figures of CoVoST 2, and whether the rows of an evaluation are the ones that they are about."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from comsl.data.corpora.covost2.published import published_size
from comsl.evaluation.metrics import INTO_ENGLISH
from comsl.languages import COVOST_TARGETS

FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class PublishedSystem:
    """BLEU of one system in one direction, with where it stands.

    Attributes:
        direction: "xx-en" or "en-xx".
        languages: by the code of the language that is not English.
        means: by name of the group: "high", "mid", "low", "all", or one of ``Published.groups``.
    """

    name: str
    direction: str
    source: str
    languages: dict[str, float] = field(default_factory=dict)
    means: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """A choice of languages that a source gives a mean over."""

    title: str
    languages: tuple[str, ...]


@dataclass(frozen=True)
class Published:
    """``published.yaml``."""

    groups: dict[str, Group]
    systems: tuple[PublishedSystem, ...]


@functools.cache
def load_published() -> Published:
    read: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    sources = read["sources"]
    systems = tuple(PublishedSystem(**{**entry, "source": sources[entry["source"]]}) for entry in read["systems"])
    groups = {name: Group(entry["title"], tuple(entry["languages"])) for name, entry in read["groups"].items()}
    return Published(groups, systems)


def covost_test_rows(pair: str) -> int | None:
    """Rows of CoVoST 2's test set of a direction ("de-en"); None where it has no such direction."""
    direction, code = side(pair)
    known = {"xx-en": INTO_ENGLISH, "en-xx": COVOST_TARGETS, "": ()}[direction]
    source, _, target = pair.partition("-")
    return published_size(source, target, "test").rows if code in known else None


def side(pair: str) -> tuple[str, str]:
    """ "de-en" -> ("xx-en", "de"); "en-de" -> ("en-xx", "de"); ("", "") for a pair without English."""
    source, _, target = pair.partition("-")
    if target == "en":
        return "xx-en", source
    return ("en-xx", target) if source == "en" else ("", "")
