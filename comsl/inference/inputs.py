"""What a user names on the command line -> audio files."""

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from comsl.errors import ComSLError, UsageError

AUDIO_EXTENSIONS = frozenset(
    ".3gp .aac .aif .aiff .amr .au .caf .flac .m4a .m4b .mka .mkv .mov .mp2 .mp3 .mp4 .oga .ogg .ogv .opus .wav .webm"
    " .wma .w64".split()
)
"""Looked for in directories. A file that is named itself may end in anything."""
STDIN = "-"


class StdinError(ComSLError):
    """Audio was to come from stdin, and stdin is a terminal."""


@dataclass(frozen=True)
class FileError:
    """An input that could not be used; ``message`` is one line that names it and says what to do."""

    file: str
    message: str


@dataclass(frozen=True)
class AudioInput:
    """One recording to read: a file, or stdin ("-")."""

    file: str

    def read(self) -> str | bytes:
        """What ``load_audio`` takes: the path, or the bytes from stdin."""
        if self.file != STDIN:
            return self.file
        if sys.stdin is None or sys.stdin.isatty():
            raise StdinError("-: reads audio from stdin, but nothing is piped in: cat clip.mp3 | comsl translate - ...")
        return sys.stdin.buffer.read()


def expand_inputs(inputs: str | Path | Iterable[str | Path]) -> list[AudioInput | FileError]:
    """Files, directories, globs and "-" (audio bytes from stdin) -> the recordings, in the order named.

    Directories are searched recursively for audio extensions, hidden names left out, sorted by path. A glob may hold
    ``**``; it is only one if there is no such file, and what it finds is taken as if it had been named. A directory
    without audio and a glob without match are errors in their place in the list; whether a file can be read shows
    later.
    """
    named = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    found: list[AudioInput | FileError] = []
    for name in map(str, named):
        if name == STDIN:
            found.append(AudioInput(name))
        elif os.path.isdir(name):
            found += _directory(name)
        elif not os.path.lexists(name) and glob.has_magic(name):
            matches = sorted(glob.glob(name, recursive=True))
            if not matches:
                found.append(FileError(name, f"{name}: no file matches; check the pattern"))
            found += _matches(name, matches)
        else:
            found.append(AudioInput(name))
    return found


def output_names(inputs: Iterable[AudioInput | FileError], suffix: str) -> list[str]:
    """Name of the file that holds the result of each input: the input's own with ``suffix`` for its ending.

    Raises:
        UsageError: two inputs would be written to the same file.
    """
    names: dict[str, str] = {}
    for entry in inputs:
        name = ("stdin" if entry.file == STDIN else Path(entry.file).stem) + suffix
        if name in names:
            raise UsageError(f"{names[name]} and {entry.file} would both be written to {name}: translate them apart")
        names[name] = entry.file
    return list(names)


def _matches(pattern: str, matches: list[str]) -> Iterator[AudioInput | FileError]:
    if "**" in pattern:  # it goes into the directories itself, which would make every file come twice
        matches = [match for match in matches if not os.path.isdir(match)]
    for match in matches:
        if os.path.isdir(match):
            yield from _directory(match)
        else:
            yield AudioInput(match)


def _directory(name: str) -> list[AudioInput | FileError]:
    files: list[str] = []
    problems: list[AudioInput | FileError] = []

    def report(error: OSError) -> None:
        problems.append(FileError(str(error.filename), f"{error.filename}: cannot be read ({error.strerror})"))

    for folder, subfolders, names in os.walk(name, onerror=report):
        subfolders[:] = sorted(subfolder for subfolder in subfolders if not subfolder.startswith("."))
        audio = (file for file in names if os.path.splitext(file)[1].lower() in AUDIO_EXTENSIONS)
        files += [os.path.join(folder, file) for file in audio if not file.startswith(".")]
    if not files and not problems:
        extensions = ", ".join(sorted(AUDIO_EXTENSIONS))
        return [FileError(name, f"{name}: the directory holds no audio file ({extensions})")]
    return [*(AudioInput(file) for file in sorted(files)), *problems]
