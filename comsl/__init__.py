"""ComSL: speech translation composed of a pretrained speech model and a pretrained text model.

Importing this package loads nothing heavy: ``comsl.translate`` brings in torch when it is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from comsl.inference.inputs import FileError
    from comsl.inference.precision import Precision
    from comsl.inference.subtitles import FileResult

__version__ = "0.1.0"
__all__ = ["__version__", "translate"]


def translate(
    files: Iterable[str | Path],
    source: str,
    target: str = "en",
    *,
    model: str | Path | None = None,
    precision: Precision | None = None,
    **options: Any,
) -> Iterator[FileResult | FileError]:
    """Translate audio files: one result a file in the order of ``files``, a ``FileError`` for what cannot be used.

    Args:
        files: audio files of any length, rate and number of channels.
        source: language spoken ("de").
        target: language to translate into.
        model: hub id or directory of a ComSL model; None is the small one that ships with the package.
        precision: what to compute in, such as "int8"; None is float32 on the CPU.
        options: as of :meth:`comsl.inference.translate.Translator.translate`.
    """
    from comsl.inference.translate import Translator

    yield from Translator.from_pretrained(model, None, precision).translate(files, source, target, **options)
