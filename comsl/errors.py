"""Errors that a user can act on. Subclasses live beside their use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class ComSLError(Exception):
    """The work failed in part or whole. The message names the file or field and what to do about it."""

    exit_code: ClassVar[int] = 1


class UsageError(ComSLError):
    """What was asked for makes no sense as it stands: an unknown option, key or language."""

    exit_code: ClassVar[int] = 2


def nearest(name: str, known: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The known name that a wrong one was most likely meant to be; None if none is at least ``cutoff`` (0..1) like it.

    For the hint of an error message.
    """
    import difflib  # only errors need it

    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)
