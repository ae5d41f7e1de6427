"""Audio files of any length -> translations, transcripts or both."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from comsl.data.audio import MIN_DURATION, SAMPLE_RATE, load_recording
from comsl.errors import ComSLError, UsageError
from comsl.inference import MODES, TASKS, Mode, Precision, Task
from comsl.inference.clips import Clip, join_texts, longest_clip, prepare_clip
from comsl.inference.confidence import COMPARED, EVIDENCE, Calibration, evidence, load_calibration
from comsl.inference.decode import Decoded, DecodingOptions, check_memory, check_options, decode_modes
from comsl.inference.encoding import DecodingError, batch_by_length
from comsl.inference.inputs import AudioInput, FileError, expand_inputs
from comsl.inference.memory import TranslationMemory
from comsl.inference.precision import load_for_inference
from comsl.inference.segment import MAX_JOINED, THRESHOLD, Segment, segment
from comsl.inference.subtitles import FileResult, SegmentResult
from comsl.languages import get_language
from comsl.progress import track

logger = logging.getLogger(__name__)

WINDOW_BATCHES = 8
"""Batches' worth of segments that are collected, over files, before they are sorted by length and decoded."""


class ShippedModelMissing(ComSLError):
    """The package lies here without the small model that belongs to it."""


@dataclass
class _Recording:
    """A file on its way: its segments, and what became of them as it comes."""

    file: str
    duration: float
    segments: list[Segment]
    decoded: list[Decoded | None]
    failed: FileError | None = None

    @property
    def done(self) -> bool:
        return self.failed is not None or None not in self.decoded


@dataclass(frozen=True)
class _Row:
    """One segment to decode."""

    recording: _Recording
    place: int
    clip: Clip


class Translator:
    """A model with its processor, ready to translate files.

    >>> translator = Translator.from_pretrained()
    >>> for result in translator.translate(["clip.mp3"], source="de"):
    ...     print(result.message if isinstance(result, FileError) else f"{result.file}: {result.text}")
    """

    def __init__(self, model: Any, processor: Any, calibration: Calibration | None = None) -> None:
        self.model = model
        self.processor = processor
        self.calibration = calibration

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path | None = None,
        device: str | torch.device | None = None,
        precision: Precision | None = None,
    ) -> "Translator":
        """Load a ComSL model.

        Args:
            path: hub id, model or run directory; None: the small model that ships with the package.
            device: None: a CUDA GPU if there is one, else the CPU.
            precision: "float32", "bfloat16", "float16" or "int8" (``comsl.inference.precision``); None: float32 on
                the CPU, bfloat16 (or float16 where the GPU lacks it) elsewhere.

        Raises:
            ComSLError: nothing there, not a ComSL model, or a precision that the device does not compute in.
        """
        path = path if path is not None else shipped_model()
        calibration = load_calibration(path)
        return cls(*load_for_inference(path, device, precision), calibration)

    def translate(
        self,
        files: str | Path | Iterable[str | Path],
        source: str,
        target: str = "en",
        task: Task = "translate",
        *,
        batch_size: int = 8,
        beam: int = 5,
        mode: Mode = "direct",
        confidence: bool = False,
        decoding: DecodingOptions | None = None,
        memory: TranslationMemory | None = None,
        max_duration: float | None = None,
        min_pause: float = 0.6,
        threshold: float = THRESHOLD,
        max_joined: float = MAX_JOINED,
        progress: bool = False,
    ) -> Iterator[FileResult | FileError]:
        """Translate or transcribe recordings.

        Long recordings are cut into segments at pauses; segments of all files are decoded together, a window of some
        batches at a time, so that memory grows neither with the number of files nor with their length (long ones lie
        in the folder of temporary files while they are worked on). What a file gives does not depend on ``batch_size``
        or on the other files.

        Args:
            files: files, directories, globs, "-"; see ``expand_inputs``.
            source: language spoken.
            target: language to translate into; plays no part in ``task="transcribe"``.
            task: "translate", "transcribe" or "both".
            decoding: further settings of the search; its ``beam`` and ``batch_size`` give way to the arguments.
            mode: how to translate, each segment by itself: "direct", "cascade", "mixed", "pooled" or "memory" (see
                ``comsl.inference.decode``).
            memory: what the mode "memory" answers from, and "pooled" listens to.
            confidence: translate in the modes direct and cascade as well and give their agreement, and of a model that
                ``comsl calibrate`` has calibrated the confidence.
            max_duration: longest segment in seconds; None: 28, or what the model takes if that is less.
            min_pause, threshold, max_joined: see ``segment``; ``max_joined=0`` gives the short segments that subtitles
                want, each decoded without its neighbours.
            progress: show the files done on stderr.

        Returns:
            One result an input, in input order; a file that cannot be used gives a ``FileError`` and the rest goes on.
            Without speech the texts are empty.

        Raises:
            UsageError: unknown task or mode, unknown language or one that the model lacks, settings that the model has
                no head or no calibration for; before any file is opened.

        A target that training did not teach the model is a warning in the log: what comes out may be another language.
        """
        for kind, name, known in (("task", task, TASKS), ("mode", mode, MODES)):
            if name not in known:
                raise UsageError(f"unknown {kind} {name!r}: use one of {', '.join(known)}")
        if task == "transcribe" and (mode != "direct" or confidence):
            raise UsageError("modes and confidence are of translations: leave them out, or ask for the task both")
        source = self._language(source)
        target = source if task == "transcribe" else self._target(target)
        limit = longest_clip(self.model, self.processor)
        limit = limit if max_duration is None else min(limit, max_duration)
        options = replace(decoding or DecodingOptions(), beam=beam, batch_size=batch_size)
        inputs = expand_inputs(files)
        check_options(self.model, options)
        check_memory(self.model, (mode,), memory)
        if confidence and self.calibration is not None:
            self.calibration.check(options, mode, None if memory is None else memory.settings)
        cutting = limit, min_pause, threshold, max_joined
        job = _Job(self, source, target, task, options, cutting, mode, confidence, memory)
        results = job.run(inputs)
        if not progress:
            return results
        return track(results, total=len(inputs), description="translating", unit="file")

    def _target(self, code: str) -> str:
        target, taught = self._language(code), self.model.config.translation_targets
        if taught is not None and target not in taught:
            known = ", ".join(taught) or "no language that it has"
            logger.warning(f"the model was trained to translate into {known}; into {target} it may write anything")
        return target

    def _language(self, code: str) -> str:
        """The code that the model calls the language by."""
        self.processor.language_id(code)
        return code if code in self.processor.languages else get_language(code).code


@dataclass(frozen=True)
class _Job:
    translator: Translator
    source: str
    target: str
    task: Task
    options: DecodingOptions
    cutting: tuple[float, float, float, float]
    mode: Mode
    confidence: bool
    memory: TranslationMemory | None

    @property
    def modes(self) -> tuple[Mode, ...]:
        """What is decoded."""
        if self.task == "transcribe":
            return ()
        return tuple(dict.fromkeys((self.mode, *(COMPARED if self.confidence else ()))))

    def run(self, inputs: list[AudioInput | FileError]) -> Iterator[FileResult | FileError]:
        """One result an input, in order, each as soon as it and those before it are ready."""
        waiting: deque[_Recording | FileError] = deque()
        rows: list[_Row] = []
        window = WINDOW_BATCHES * self.options.batch_size
        for entry in inputs:
            for row in self._rows(entry, waiting):
                rows.append(row)
                if len(rows) == window:
                    yield from self._decode(rows, waiting)
                    rows.clear()
            yield from self._ready(waiting)
        yield from self._decode(rows, waiting)

    def _rows(self, entry: AudioInput | FileError, waiting: deque[_Recording | FileError]) -> Iterator[_Row]:
        """Load and cut one file, which is added to ``waiting``; its segments, each when it is asked for."""
        if isinstance(entry, FileError):
            waiting.append(entry)
            return
        recording: _Recording | None = None
        try:
            with load_recording(entry.read(), MIN_DURATION) as waveform:
                segments = segment(waveform, *self.cutting)
                recording = _Recording(entry.file, len(waveform) / SAMPLE_RATE, segments, [None] * len(segments))
                waiting.append(recording)
                for place, part in enumerate(segments):
                    clip = prepare_clip(part.samples(waveform), self.translator.processor)
                    yield _Row(recording, place, clip)
        except ComSLError as error:
            failed = _file_error(entry.file, error)
            if recording is None:
                waiting.append(failed)
            else:
                recording.failed = failed

    def _decode(self, rows: list[_Row], waiting: deque[_Recording | FileError]) -> Iterator[FileResult | FileError]:
        lengths = [row.clip.padded_seconds for row in rows]
        for batch in batch_by_length(lengths, self.options.batch_size, self.options.batch_seconds):
            self._decode_batch([rows[index] for index in batch])
            yield from self._ready(waiting)

    def _decode_batch(self, rows: list[_Row]) -> None:
        """If one of the segments cannot be decoded, each by itself, so that only its own file fails."""
        model, processor = self.translator.model, self.translator.processor
        clips = [row.clip for row in rows]
        heard = self.task != "translate"
        try:
            found = decode_modes(
                model,
                processor,
                clips,
                self.source,
                self.target,
                self.modes,
                self.options,
                transcribe=heard,
                memory=self.memory,
            )
        except DecodingError as error:
            if len(rows) == 1:
                recording = rows[0].recording
                recording.failed = _file_error(recording.file, error)
            else:
                for row in rows:
                    self._decode_batch([row])
            return
        for row, decoded in zip(rows, found, strict=True):
            row.recording.decoded[row.place] = decoded

    def _ready(self, waiting: deque[_Recording | FileError]) -> list[FileResult | FileError]:
        """Take what is finished off the front, so that results keep the order of the input."""
        ready: list[FileResult | FileError] = []
        while waiting and (isinstance(waiting[0], FileError) or waiting[0].done):
            first = waiting.popleft()
            ready.append(first if isinstance(first, FileError) else first.failed or self._result(first))
        return ready

    def _result(self, recording: _Recording) -> FileResult:
        pairs = zip(recording.segments, recording.decoded, strict=True)
        segments = [self._segment(part, decoded) for part, decoded in pairs if decoded is not None]
        heard, translated = self.task != "translate", self.task != "transcribe"
        return FileResult(
            recording.file,
            self.source,
            self.target,
            recording.duration,
            join_texts([part.transcript for part in segments], self.source) if heard else None,
            join_texts([part.translation for part in segments], self.target) if translated else None,
            segments,
        )

    def _segment(self, part: Segment, decoded: Decoded) -> SegmentResult:
        transcript, translation = decoded.transcript, decoded.translations.get(self.mode)
        texts = [text for text in (translation, transcript) if text is not None]
        agreed = sure = None
        if self.confidence:
            seen = evidence(*(decoded.translations[mode] for mode in COMPARED))
            agreed = seen[EVIDENCE.index("agreement")]
            if self.translator.calibration is not None:
                sure = self.translator.calibration.confidence(self.mode, seen)
        return SegmentResult(
            part.start,
            part.end,
            transcript.text if transcript is not None and self.task != "translate" else None,
            translation.text if translation is not None else None,
            texts[0].score,
            any(text.truncated for text in texts),
            agreed,
            sure,
        )


def _file_error(file: str, error: ComSLError) -> FileError:
    message = " ".join(str(error).split())
    return FileError(file, message if file in message else f"{file}: {message}")


def shipped_model() -> Path:
    """Directory of the small model that comes with the package."""
    path = Path(str(resources.files("comsl"))) / "demo" / "models" / "composite"
    if not (path / "config.json").is_file():
        raise ShippedModelMissing(
            f"{path}: the model that ships with comsl is missing; install the package again, or name a model"
        )
    return path
