from __future__ import annotations

import subprocess
from pathlib import Path

from comsl.provenance import git_commit, versions


def git(folder: Path, *words: str) -> str:
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(folder), *author, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_changed_code_is_not_the_commit(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    for file in (package / "here.py", package / "other.py", tmp_path / "README.md"):
        file.write_text("1\n")
    git(tmp_path, "init", "-q")
    assert git_commit(package / "here.py") is None, "not tracked yet"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "all")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_commit(package / "here.py") == commit
    (tmp_path / "README.md").write_text("2\n")
    (package / "output.txt").write_text("not code that git knows\n")
    assert git_commit(package / "here.py") == commit
    (package / "other.py").write_text("2\n")
    assert git_commit(package / "here.py") == commit + "+"
    git(tmp_path, "add", ".")
    assert git_commit(package / "here.py") == commit + "+"


def test_no_repository_no_commit(tmp_path: Path) -> None:
    (tmp_path / "here.py").write_text("")
    assert git_commit(tmp_path / "here.py") is None


def test_versions() -> None:
    assert {"python", "comsl", "torch", "transformers", "sacrebleu", "jiwer"} <= set(versions())
