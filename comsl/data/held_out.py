"""What must stay out of training: clips and sentences of dev and test; of pseudo-labels also what people translated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from comsl.data.corpora.audit import bare_text
from comsl.data.manifest import load_manifest

Row = Mapping[str, Any]
"""A manifest row."""


@dataclass
class HeldOut:
    """Clips by language and file name, which a clip of Common Voice keeps in every release, and sentences of dev and
    test by language as :func:`comsl.data.corpora.audit.bare_text` writes them.

    A sentence counts as held out on either side: what is the reference of a test row in one direction may be the
    transcript of a training row in another.
    """

    translated: set[tuple[str, str]] = field(default_factory=set)
    clips: set[tuple[str, str]] = field(default_factory=set)
    sentences: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def read(cls, held_out: Iterable[Path], translated: Iterable[Path] = ()) -> HeldOut:
        """Manifests of dev and test sets, and of training sets.

        Raises:
            ManifestError: a manifest that cannot be used.
        """
        found = cls()
        for path in translated:
            found.translated.update(clip for clip, _ in _contents(path) if clip is not None)
        for path in held_out:
            for clip, sentences in _contents(path):
                if clip is not None:
                    found.clips.add(clip)
                for language, sentence in sentences:
                    found.sentences[language].add(sentence)
        return found

    def reason(self, row: Row) -> str | None:
        """Why a row is not translated: "no_transcript", "translated", "leak_clip", "leak_source"; None: it is."""
        if not (row["transcript"] or "").strip():
            return "no_transcript"
        clip = clip_of(row)
        if row.get("translation") is not None or clip in self.translated:
            return "translated"
        if clip in self.clips:
            return "leak_clip"
        return "leak_source" if self.holds(row["transcript"], row["source_language"]) else None

    def holds(self, text: str, language: str) -> bool:
        """Whether dev or test has this sentence, whatever its case, punctuation and forms of letters."""
        return bare_text(text) in self.sentences.get(language, ())

    def counts(self) -> dict[str, Any]:
        return {
            "translated_clips": len(self.translated),
            "clips": len(self.clips),
            "sentences": {language: len(found) for language, found in sorted(self.sentences.items())},
        }


def clip_of(row: Row) -> tuple[str, str] | None:
    """Source language and file name without suffix; None for a row without audio."""
    audio = row.get("audio")
    return None if audio is None else (row["source_language"], PurePath(audio).stem)


def _contents(path: Path) -> Iterator[tuple[tuple[str, str] | None, list[tuple[str, str]]]]:
    """Of every row its clip, and its sentences with their languages."""
    table = load_manifest(path).data
    names = ("audio", "source_language", "target_language", "transcript", "translation")
    for audio, source, target, transcript, translation in zip(
        *(table.column(name).to_pylist() for name in names), strict=True
    ):
        clip = clip_of({"audio": audio if isinstance(audio, str) else None, "source_language": source})
        sides = ((source, transcript), (target, translation))
        sentences = [(code, bare_text(text)) for code, text in sides if code is not None and text is not None]
        # What is nothing but punctuation says nothing; everything of that kind would be equal to it.
        yield clip, [(code, text) for code, text in sentences if text]
