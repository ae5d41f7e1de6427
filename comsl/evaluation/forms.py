"""Texts in the forms that others have scored: to set a number beside a published one, never in place of the raw one.

A form is applied to hypotheses and references alike.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

APOSTROPHES = "'\u2019"


def without_punctuation(text: str) -> str:
    """Lower case; punctuation is gone but for apostrophes, which become straight. ESPnet's ``lc.rm``."""
    kept = (
        "'" if letter in APOSTROPHES else letter
        for letter in text.lower()
        if letter in APOSTROPHES or not unicodedata.category(letter).startswith("P")
    )
    return " ".join("".join(kept).split())


@dataclass(frozen=True)
class Form:
    change: Callable[[str], str]
    about: str
    """For the foot of a table."""


FORMS = {
    "lc": Form(str.lower, "lower-cased"),
    "lc.rm": Form(without_punctuation, "lower-cased, without punctuation but for apostrophes"),
}
