"""Imports run one way only: the contract in pyproject.toml, checked over the package as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_layers(tmp_path: Path) -> None:
    check = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    result = subprocess.run(
        [sys.executable, "-c", check, "--config", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 kept, 0 broken" in result.stdout


def test_contract_names_every_part() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    contract = text[text.index("layers = [") : text.index("ignore_imports")]
    parts = {path.stem if path.suffix else path.name for path in (ROOT / "comsl").iterdir()} - {"__pycache__"}
    missing = {part for part in parts - {"__init__", "py"} if part not in contract}
    assert not missing, f"no layer for {sorted(missing)}"


def test_the_wheel_holds_every_file_of_the_package() -> None:
    """What is neither Python nor matched by package-data would be missing after ``pip install``."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    patterns = re.findall(r'"([^"]+)"', re.search(r"package-data\]\s*comsl = \[(.*?)\]", text, re.DOTALL)[1])  # type: ignore[index]
    packed = {path for pattern in patterns for path in (ROOT / "comsl").glob(pattern)}
    files = [path for path in (ROOT / "comsl").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert [path for path in files if path not in packed] == []
    folders = {path.parent for path in (ROOT / "comsl").rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_importing_the_package_and_the_command_line_is_light() -> None:
    check = (
        "import sys, comsl, comsl.cli; "
        "print(*sorted({name.split('.')[0] for name in sys.modules} "
        "& {'torch', 'transformers', 'datasets', 'numpy', 'matplotlib', 'rich', 'accelerate'}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == ""
