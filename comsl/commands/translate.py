"""``comsl translate``: audio files into texts and subtitles."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from comsl.allocator import keep_freed_memory, limit_kernel_caches
from comsl.commands.common import Command, complain
from comsl.commands.decoding import add_decoding, add_modes, decoding_options, device, memory
from comsl.errors import ComSLError, UsageError
from comsl.inference import MODES, TASKS
from comsl.inference.subtitles import WRITERS


def add_translate(command: Command) -> None:
    parser = command(
        "translate",
        "translate or transcribe audio files of any length",
        "comsl translate clip.mp3 --source de",
        "comsl translate talk.mp4 --source fr --format srt --output talk.srt",
        "comsl translate clips/ 'more/*.m4a' --source fr --format tsv > clips.tsv",
        "comsl translate films/ --source fr --format vtt --output subtitles/",
        "comsl translate talk.mp3 --source fr --mode mixed --confidence --format json",
        "cat clip.wav | comsl translate - --source es --task both --format json",
    )
    parser.add_argument("inputs", nargs="+", metavar="FILE", help="files, directories, globs; - reads audio from stdin")
    parser.add_argument("--source", required=True, metavar="LANG", help="language spoken, e.g. de")
    parser.add_argument("--target", default="en", metavar="LANG", help="language to translate into (default en)")
    parser.add_argument("--task", choices=TASKS, default="translate", help="what to write (default translate)")
    parser.add_argument("--format", choices=tuple(WRITERS), default="text", help="of the output (default text)")
    parser.add_argument("--model", metavar="DIR", help="a ComSL model (default: the small one that ships)")
    parser.add_argument(
        "--output",
        metavar="PATH",
        help="file to write (default stdout); with srt and vtt also a directory (it exists, or ends with /) for one "
        "file an input, named after it",
    )
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="direct",
        help="direct: from the speech; cascade: from its transcript; mixed: from [transcript ; speech]; pooled: the "
        "best of the three, told by how they agree; memory: the safest of the sentences of --memory that may have been "
        "said (default direct)",
    )
    parser.add_argument(
        "--confidence",
        action="store_true",
        help="compare the modes direct and cascade; in the json format, their agreement and, of a model that comsl "
        "calibrate has calibrated, the chrF that a translation is expected to have",
    )
    add_decoding(parser, "half precision")
    add_modes(parser)


def translate(arguments: argparse.Namespace) -> int:
    from comsl.inference.inputs import FileError
    from comsl.inference.segment import MAX_JOINED
    from comsl.inference.subtitles import TRACKS, WRITERS, write_result
    from comsl.inference.translate import Translator

    keep_freed_memory()
    limit_kernel_caches()
    writer = WRITERS[arguments.format]()
    tracks = _track_files(arguments, writer.suffix) if arguments.format in TRACKS else None
    translator = Translator.from_pretrained(arguments.model, device(arguments), arguments.precision)
    if arguments.confidence and translator.calibration is None:
        complain("the model is not calibrated: agreement without confidence (comsl calibrate --help)")
    results = translator.translate(
        arguments.inputs,
        arguments.source,
        arguments.target,
        arguments.task,
        batch_size=arguments.batch_size,
        beam=arguments.beam,
        mode=arguments.mode,
        confidence=arguments.confidence,
        decoding=decoding_options(arguments),
        memory=memory(arguments),
        max_joined=0.0 if arguments.format in TRACKS else MAX_JOINED,  # subtitles follow the pauses
        progress=True,
    )
    code = 0
    with ExitStack() as stack:
        write = stack.enter_context(_output(arguments.output)) if tracks is None else None
        if write is not None:
            write(writer.begin())
        for place, result in enumerate(results):
            if isinstance(result, FileError):
                code = 1
                complain(result.message)
            elif result.truncated:
                cut, segments = sum(part.truncated for part in result.segments), len(result.segments)
                complain(f"{result.file}: the text was cut at its token limit in {cut} of {segments} segments")
            if write is not None:
                write(write_result(writer, result))
            elif tracks is not None and not isinstance(result, FileError):
                with _output(tracks[place]) as write_track:
                    write_track(writer.begin() + writer.file(result) + writer.end())
        if write is not None:
            write(writer.end())
    return code


def _track_files(arguments: argparse.Namespace, suffix: str) -> list[str] | None:
    """Of a format that holds one recording: the file of each input where --output is a directory, None where there is
    one input and one output."""
    from comsl.inference.inputs import expand_inputs, output_names

    inputs = expand_inputs(arguments.inputs)
    output = arguments.output
    if output is not None and (os.path.isdir(output) or output.endswith(("/", os.sep))):
        return [os.path.join(output, name) for name in output_names(inputs, suffix)]
    if len(inputs) > 1:
        raise UsageError(
            f"{len(inputs)} inputs and --format {arguments.format}, which holds one recording: name a directory for one"
            " file each, for example --output subtitles/"
        )
    return None


@contextmanager
def _output(path: str | None) -> Iterator[Callable[[str], None]]:
    """Where results are written as they come: a file, or whatever stdout is at that moment (a bar may stand in it)."""
    if path is None:
        yield lambda text: print(text, end="", flush=True)
        return
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "w", encoding="utf-8")  # noqa: SIM115 - closed below; Path would lose a slash at the end
    except OSError as error:
        raise ComSLError(f"--output {path}: cannot be written: {error.strerror}") from error
    with file:

        def write(text: str) -> None:
            file.write(text)
            file.flush()

        yield write
