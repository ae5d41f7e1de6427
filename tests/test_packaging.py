"""What is installed: the shipped models are there and small, and the wheel works away from the checkout."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import sysconfig
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from comsl.demo.speech import Voice, synthesize

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "comsl" / "demo" / "models"
LIMIT = 12_000_000


def size_of(*names: str) -> int:
    """Bytes of all files of some shipped models."""
    return sum(path.stat().st_size for name in names for path in (MODELS / name).rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["speech", "text", "composite"])
def test_models_ship(name: str) -> None:
    assert (MODELS / name / "config.json").is_file()
    assert list((MODELS / name).glob("*.safetensors"))


@pytest.mark.parametrize("names", [("composite",), ("speech", "text")])
def test_shipped_models_are_small(names: tuple[str, ...]) -> None:
    assert 0 < size_of(*names) < LIMIT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves folders behind that would find their way into the next wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "comsl", source / "comsl", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(source)], check=True, timeout=300)
    (built,) = folder.glob("comsl-*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_the_package(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "comsl").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == files
    for name in ("speech", "text", "composite"):
        assert f"comsl/demo/models/{name}/model.safetensors" in packed


@pytest.mark.slow
def test_the_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True, timeout=120)
    python = tmp_path / "env" / "bin" / "python"
    paths = {"base": str(tmp_path / "env"), "platbase": str(tmp_path / "env")}
    own = Path(sysconfig.get_path("purelib", "venv", paths))
    # The dependencies come from where the tests run. Such a file adds a folder but does not read the ones that lie in
    # it, so a checkout that is installed there does not count.
    (own / "dependencies.pth").write_text("\n".join({sysconfig.get_path("purelib"), *site.getsitepackages()}) + "\n")
    install = ["-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, *install], check=True, timeout=120)
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*words: str | Path) -> str:
        done = subprocess.run(
            [tmp_path / "env" / "bin" / words[0], *words[1:]],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run("python", "-c", "import comsl; print(comsl.__file__)")
    assert Path(where.strip()).is_relative_to(tmp_path / "env")
    assert "translate" in run("comsl", "--help")
    soundfile.write(tmp_path / "clip.wav", synthesize("Am Montag fährt der Zug nach Berlin.", Voice("de")), 16_000)
    assert run("comsl", "translate", "clip.wav", "--source", "de").strip()


@pytest.mark.slow
def test_a_clip_of_five_seconds_is_translated_within_eight_seconds(tmp_path: Path) -> None:
    """Start-up included; the better of two runs, because the first also reads a few hundred megabytes from disk."""
    text = "Am Montag kauft die gute Mutter zwei Äpfel, weil sie glücklich ist."
    samples = synthesize(text, Voice("de", rate=120))
    samples = np.concatenate([samples, np.zeros(max(0, 5 * 16_000 - len(samples)), np.float32)])[: 5 * 16_000]
    soundfile.write(tmp_path / "clip.wav", samples, 16_000)
    command = [sys.executable, "-m", "comsl", "translate", str(tmp_path / "clip.wav"), "--source", "de"]
    seconds = []
    for _ in range(2):
        started = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        seconds.append(time.monotonic() - started)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
    assert min(seconds) < 8, seconds
