"""Where numbers come from: versions of what computed them, and the commit of this code."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from comsl import __version__

PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "tokenizers",
    "sentencepiece",
    "sacrebleu",
    "jiwer",
    "numpy",
)


def versions() -> dict[str, str]:
    """Of Python, this package and those of ``PACKAGES`` that are installed."""
    found = {"python": platform.python_version(), "comsl": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_commit(file: str | Path = __file__) -> str | None:
    """Commit of this code, with ``+`` behind it if code differs from it; None where it runs from no checkout.

    Args:
        file: a file at the top of the code's folder; one that git does not track (an installed package that lies in
            somebody else's repository) has no commit.
    """
    file = Path(file).resolve()

    def git(*words: str) -> str:
        command = ["git", "-C", str(file.parent), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
