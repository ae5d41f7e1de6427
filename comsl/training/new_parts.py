"""Random parts that a recipe asks for with ``speech: new`` or ``text: new``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from comsl.data.manifest import load_manifest
from comsl.model.loading import quiet
from comsl.model.parts import PartSize, new_conformer_part, new_speech_part, new_text_part
from comsl.training.configuration import ComposeConfiguration, NewPartConfiguration

NEW = "new"


def named_or_new(
    parts: ComposeConfiguration, train: str | Sequence[str] | None, seed: int, scratch: Path
) -> tuple[str, str]:
    """Speech and text part as ``compose`` takes them; new ones are written to ``scratch``.

    A new text part learns its vocabulary from the transcripts and translations of the training manifests. The same
    recipe and seed give the same parts, so a resumed run finds what it began with.
    """
    speech, text = str(parts.speech), str(parts.text)
    with quiet():
        if speech == NEW:
            speech = str(scratch / "speech")
            size = _size(parts.new_speech)
            if parts.new_speech.kind == "conformer":
                new_conformer_part(speech, size, parts.new_speech.stack, seed)
            else:
                new_speech_part(speech, size, seed=seed)
        if text == NEW:
            text = str(scratch / "text")
            rows = load_manifest(train)  # type: ignore[arg-type]
            texts = [line for column in ("transcript", "translation") for line in rows[column] if line]
            new_text_part(text, texts, _size(parts.new_text), parts.new_text.vocabulary, seed)
    return speech, text


def _size(settings: NewPartConfiguration) -> PartSize:
    return PartSize(
        settings.width,
        settings.encoder_layers,
        settings.decoder_layers,
        settings.heads,
        settings.dropout,
        settings.init_std,
    )
