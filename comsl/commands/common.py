"""What commands share. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from comsl.errors import ComSLError

Command = Callable[..., argparse.ArgumentParser]
"""Adds a command: its name, what it does, examples."""


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def complain(message: str) -> None:
    print(f"comsl: {message}", file=sys.stderr)


def check_folder(folder: Path, option: str = "--out") -> None:
    """Make the folder and see that it takes files, before minutes of work go into what should lie there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ComSLError(f"{option} {folder}: cannot be written: {error.strerror}") from error


def say(message: str) -> None:
    """A line on stderr about what is being done."""
    from comsl.progress import console

    console.print(message, markup=False, soft_wrap=True)


def hide_library_bars() -> None:
    """A bar for the one file that holds a model's weights tells nobody anything."""
    from transformers.utils import logging

    logging.disable_progress_bar()
