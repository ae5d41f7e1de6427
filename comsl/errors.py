"""Errors that a user can act on. Subclasses live beside their use."""

from __future__ import annotations

from typing import ClassVar


class ComSLError(Exception):
    """The work failed in part or whole. The message names the file or field and what to do about it."""

    exit_code: ClassVar[int] = 1


class UsageError(ComSLError):
    """What was asked for makes no sense as it stands: an unknown option, key or language."""

    exit_code: ClassVar[int] = 2
