"""One module a language: a meaning becomes a sentence."""

from __future__ import annotations

from collections.abc import Callable

from ..meaning import Clause
from . import english, french, german, spanish, welsh

REALIZERS: dict[str, Callable[[Clause], str]] = {
    "en": english.realize,
    "de": german.realize,
    "es": spanish.realize,
    "fr": french.realize,
    "cy": welsh.realize,
}
