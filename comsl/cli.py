"""``comsl <command>``: parses the command line and calls the library; nothing heavy is imported before that.

Results go to stdout, progress and errors to stderr. Exit code 0: all done; 1: the work failed in part or whole;
2: wrong usage; 130: interrupted.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from comsl import __version__
from comsl.errors import ComSLError, UsageError

TASKS = ("translate", "transcribe", "both")
FORMATS = ("text", "json", "srt", "vtt", "tsv")
SYSTEMS = ("direct", "cascade", "text")

Handler = Callable[[argparse.Namespace], int]

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a write to a file that is open already: Python does not say which one that is."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    # The libraries' own advice is not about this command; an explicit setting of the user's stands.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    arguments = argparse.Namespace()
    try:
        arguments = _parse(words)
        handler: Handler = arguments.handler
        code = handler(arguments)
        sys.stdout.flush()
        return code
    except ComSLError as error:
        if "--debug" in words:
            traceback.print_exc()
        _complain(str(error))
        return error.exit_code
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python would flush stdout once more at exit and complain.
        _silence_stdout()
        return 1
    except OSError as error:
        if "--debug" in words:
            traceback.print_exc()
        _complain(_file_trouble(error, arguments))
        return 1
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except Exception:
        traceback.print_exc()
        _complain("this is a bug, or an error of a library that nobody has put into words yet")
        return 1


def _parse(words: list[str]) -> argparse.Namespace:
    parser = build_parser()
    arguments, rest = parser.parse_known_args(words)
    if arguments.command == "train":
        arguments.overrides = rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return arguments


def _complain(message: str) -> None:
    print(f"comsl: {message}", file=sys.stderr)


def _silence_stdout() -> None:
    with suppress(OSError, ValueError):  # stdout may be no file at all
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _file_trouble(error: OSError, arguments: argparse.Namespace) -> str:
    """One line that names the file and the reason."""
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    if error.filename is not None:
        return f"{error.filename}: {reason}"
    if error.errno in NO_ROOM:
        try:
            sys.stdout.flush()
        except OSError:
            _silence_stdout()  # Python would try once more at exit, and complain
            return f"stdout: {reason}"
        named = (getattr(arguments, name, None) for name in ("output", "out", "output_dir"))
        return f"{next((path for path in named if path is not None), 'a file')}: {reason}"
    return reason


# ---------------------------------------------------------------------------------------------------------- parsers


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each command's namespace has its ``handler``."""
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of every error")
    parser = argparse.ArgumentParser(
        prog="comsl",
        description="Speech translation composed of a pretrained speech model and a pretrained text model.",
        epilog="comsl COMMAND --help explains a command and shows an example.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=16),
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"comsl {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, handler: Handler, text: str, *examples: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            parents=[common],
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog="example:\n  " + "\n  ".join(examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        added.set_defaults(handler=handler)
        return added

    _add_translate(command)
    _add_compose(command)
    _add_prepare(command)
    _add_train(command)
    _add_evaluate(command)
    _add_compare(command)
    _add_demo(command)
    return parser


Command = Callable[..., argparse.ArgumentParser]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


class _ListKeys(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from comsl.training.configuration import describe

        print(describe())
        parser.exit()


def _add_decoding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--beam", type=_positive, default=5, metavar="N", help="beam size; 1 is greedy (default 5)")
    parser.add_argument("--batch-size", type=_positive, default=8, metavar="N", help="utterances at once (default 8)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")


def _add_translate(command: Command) -> None:
    parser = command(
        "translate",
        _translate,
        "translate or transcribe audio files of any length",
        "comsl translate clip.mp3 --source de",
        "comsl translate talk.mp4 --source fr --format srt --output talk.srt",
        "comsl translate clips/ 'more/*.m4a' --source fr --format tsv > clips.tsv",
        "comsl translate films/ --source fr --format vtt --output subtitles/",
        "cat clip.wav | comsl translate - --source es --task both --format json",
    )
    parser.add_argument("inputs", nargs="+", metavar="FILE", help="files, directories, globs; - reads audio from stdin")
    parser.add_argument("--source", required=True, metavar="LANG", help="language spoken, e.g. de")
    parser.add_argument("--target", default="en", metavar="LANG", help="language to translate into (default en)")
    parser.add_argument("--task", choices=TASKS, default="translate", help="what to write (default translate)")
    parser.add_argument("--format", choices=FORMATS, default="text", help="of the output (default text)")
    parser.add_argument("--model", metavar="DIR", help="a ComSL model (default: the small one that ships)")
    parser.add_argument(
        "--output",
        metavar="PATH",
        help="file to write (default stdout); with srt and vtt also a directory (it exists, or ends with /) for one "
        "file an input, named after it",
    )
    _add_decoding(parser)


def _add_compose(command: Command) -> None:
    parser = command(
        "compose",
        _compose,
        "make one model out of a pretrained speech model and a pretrained text model",
        "comsl compose --speech openai/whisper-medium --text facebook/mbart-large-50-many-to-many-mmt \\",
        "      --new-language cy=en --new-language ca=es --out parts/medium",
    )
    part = "hub id or directory of a transformers model, or of a ComSL model to take that part of"
    parser.add_argument("--speech", required=True, metavar="MODEL", help=part)
    parser.add_argument("--text", required=True, metavar="MODEL", help=part)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where to save the composite")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what starts at random (default 0)")
    parser.add_argument(
        "--languages", nargs="+", metavar="LANG", help="keep to these (default: all the text model has)"
    )
    parser.add_argument(
        "--new-language",
        action="append",
        default=[],
        metavar="NEW[=RELATED]",
        help="add a language token that starts from a related language's; may be repeated",
    )
    parser.add_argument(
        "--ctc-characters",
        type=Path,
        metavar="FILE",
        help="give the speech encoder a CTC layer over the characters of this manifest or text file",
    )
    parser.add_argument(
        "--fixed-duration", type=float, metavar="SECONDS", help="pad every clip so far (Whisper's own regime: 30)"
    )
    parser.add_argument(
        "--adapter-strides", type=_positive, nargs="+", default=[2, 2], metavar="N", help="of the adapter (default 2 2)"
    )


def _add_prepare(command: Command) -> None:
    parser = command(
        "prepare",
        _prepare,
        "turn a corpus into manifests",
        "comsl prepare mboshi --root mboshi-french-parallel-corpus --out data/mboshi",
    )
    parser.add_argument("corpus", choices=("mboshi",), help="mboshi: Mboshi speech, French translations (4.4 hours)")
    parser.add_argument("--root", required=True, type=Path, metavar="DIR", help="where the corpus lies")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the manifests go")


def _add_train(command: Command) -> None:
    parser = command(
        "train",
        _train,
        "train as a recipe says; the same command again goes on where the last one stopped",
        "comsl train recipes/mboshi/comsl.yaml --output_dir runs/mboshi",
        "comsl train recipes/mboshi/comsl.yaml --output_dir runs/no-erm --objectives.erm null --seed 2",
        "torchrun --nproc_per_node 8 -m comsl train recipe.yaml --output_dir runs/eight",
    )
    parser.usage = "comsl train RECIPE --output_dir DIR [--any.key VALUE ...]"
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="YAML file")
    parser.add_argument("--output_dir", metavar="DIR", help="run directory (default: what the recipe says)")
    parser.add_argument("--keys", action=_ListKeys, nargs=0, help="list all keys of a recipe and exit")


def _add_evaluate(command: Command) -> None:
    parser = command(
        "evaluate",
        _evaluate,
        "translate manifests and score the hypotheses",
        "comsl evaluate --model runs/mboshi --manifest data/mboshi/test.jsonl --out runs/mboshi/test",
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="a ComSL model or a run directory")
    parser.add_argument("--manifest", required=True, nargs="+", type=Path, metavar="FILE", help="JSONL or Parquet")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where scores, hypotheses and page go")
    parser.add_argument(
        "--systems",
        nargs="+",
        choices=SYSTEMS,
        default=list(SYSTEMS),
        help="direct: speech to translation; cascade: transcript, then its translation; "
        "text: translation of the reference transcript, the upper bound (default: all)",
    )
    parser.add_argument("--cascade-asr", metavar="DIR", help="model that transcribes in the cascade (default: --model)")
    parser.add_argument("--cascade-mt", metavar="DIR", help="model that translates in the cascade (default: --model)")
    parser.add_argument(
        "--train-manifest", type=Path, nargs="+", metavar="FILE", help="training rows, for the look-up floor"
    )
    parser.add_argument("--task", choices=TASKS, default="both", help="what to score (default both)")
    parser.add_argument("--lowercase", action="store_true", help="score translations without case")
    parser.add_argument("--normaliser", default="basic", metavar="NAME", help="of transcripts (default basic)")
    _add_decoding(parser)


def _add_compare(command: Command) -> None:
    parser = command(
        "compare",
        _compare,
        "tell whether one system is better than another (paired bootstrap over the same rows)",
        "comsl compare runs/a/test runs/b/test",
        "comsl compare runs/a/test runs/a/test --system direct --system-b cascade --out runs/a/cascade.json",
    )
    parser.add_argument("first", type=Path, metavar="A", help="directory that comsl evaluate wrote")
    parser.add_argument("second", type=Path, metavar="B", help="another one, over the same manifest")
    parser.add_argument("--system", default="direct", metavar="NAME", help="system to compare (default direct)")
    parser.add_argument("--system-b", metavar="NAME", help="system of B, where it is another one")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the comparison as JSON too")


def _add_demo(command: Command) -> None:
    parser = command(
        "demo",
        _demo,
        "show the whole path on a small world: build, compose, train, compare, translate (12 minutes on 2 cores)",
        "comsl demo --out demo-out",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="(default demo-out; of --pretrain: the package)")
    parser.add_argument(
        "--pretrain",
        action="store_true",
        help="instead make anew the three models that ship with the package: DIR/speech and DIR/text, the pretrained "
        "parts, and DIR/composite, the model of comsl translate",
    )


# --------------------------------------------------------------------------------------------------------- handlers


def _prepare(arguments: argparse.Namespace) -> int:
    from comsl.data.corpora import mboshi

    summary = mboshi.prepare(arguments.root, arguments.out)
    dropped = sum(map(len, summary.dropped.values()))
    if dropped:
        _complain(f"{dropped} utterances were left out; {arguments.out / 'prepare.json'} says why, one by one")
    return 1 if dropped else 0


def _train(arguments: argparse.Namespace) -> int:
    from comsl.training.configuration import load_configuration
    from comsl.training.run import train

    train(load_configuration(arguments.recipe, overrides_of(arguments)))
    return 0


def overrides_of(arguments: argparse.Namespace) -> list[str]:
    """The words of ``comsl train`` that are for the recipe's keys."""
    named = [] if arguments.output_dir is None else ["--output_dir", arguments.output_dir]
    return [*arguments.overrides, *named]


def _compare(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from comsl.evaluation.significance import compare

    comparison = compare(arguments.first, arguments.second, arguments.system, arguments.system_b)
    Console().print(comparison.render())
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        comparison.write(arguments.out)
    return 0


def _translate(arguments: argparse.Namespace) -> int:
    from comsl.inference.inputs import FileError
    from comsl.inference.segment import MAX_JOINED
    from comsl.inference.subtitles import TRACKS, WRITERS, write_result
    from comsl.inference.translate import Translator

    writer = WRITERS[arguments.format]()
    tracks = _track_files(arguments, writer.suffix) if arguments.format in TRACKS else None
    translator = Translator.from_pretrained(arguments.model, _device(arguments))
    results = translator.translate(
        arguments.inputs,
        arguments.source,
        arguments.target,
        arguments.task,
        batch_size=arguments.batch_size,
        beam=arguments.beam,
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
                _complain(result.message)
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


def _compose(arguments: argparse.Namespace) -> int:
    from comsl.data.characters import character_vocabulary
    from comsl.model.compose import compose

    related = dict(_new_language(text) for text in arguments.new_language)
    symbols = character_vocabulary(arguments.ctc_characters) if arguments.ctc_characters else None
    _check_folder(arguments.out)
    _say(f"loading {arguments.speech} and {arguments.text}")
    _hide_library_bars()
    model, _ = compose(
        arguments.speech,
        arguments.text,
        related,
        arguments.out,
        languages=arguments.languages,
        ctc_vocabulary=symbols,
        adapter_strides=arguments.adapter_strides,
        fixed_duration=arguments.fixed_duration,
        seed=arguments.seed,
    )
    parts = {"speech encoder": model.speech_encoder, "adapter": model.adapter, "text model": model.text_model}
    print(f"{arguments.out}: {_size(model)} parameters, languages {' '.join(model.config.languages or ())}")
    for name, part in parts.items():
        print(f"  {name}: {_size(part)}")
    return 0


def _check_folder(folder: Path) -> None:
    """Make the folder and see that it takes files, before minutes of work go into what should lie there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ComSLError(f"--out {folder}: cannot be written: {error.strerror}") from error


def _say(message: str) -> None:
    """A line on stderr about what is being done."""
    from comsl.progress import console

    console.print(message, markup=False, soft_wrap=True)


def _hide_library_bars() -> None:
    """A bar for the one file that holds a model's weights tells nobody anything."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def _new_language(text: str) -> tuple[str, str | None]:
    code, _, related = text.partition("=")
    return code, related or None


def _size(module: Any) -> str:
    count = sum(parameter.numel() for parameter in module.parameters())
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.1f} k"


def _evaluate(arguments: argparse.Namespace) -> int:
    from comsl.evaluation.evaluate import evaluate

    _check_folder(arguments.out)
    _say(f"evaluating {arguments.model} on {', '.join(map(str, arguments.manifest))}")
    _hide_library_bars()
    result = evaluate(
        arguments.model,
        arguments.manifest,
        arguments.out,
        arguments.systems,
        cascade_asr=arguments.cascade_asr,
        cascade_mt=arguments.cascade_mt,
        train_manifest=arguments.train_manifest,
        task=arguments.task,
        beam=arguments.beam,
        batch_size=arguments.batch_size,
        lowercase=arguments.lowercase,
        normaliser=arguments.normaliser,
        device=_device(arguments),
    )
    for row in result.failed:
        _complain(f"{row['id']} ({row['system']}): {row['error']}")
    print(f"{result.out / 'report.html'}")
    return 0 if result.ok else 1


def _device(arguments: argparse.Namespace) -> str | None:
    """The device that was asked for, tried out: a model half way to a device that is not there helps nobody."""
    if arguments.device is not None:
        import torch

        try:
            torch.empty(0, device=arguments.device)
        except (RuntimeError, AssertionError) as error:
            raise UsageError(f"--device {arguments.device}: {str(error).splitlines()[0]}") from error
    device: str | None = arguments.device
    return device


def _demo(arguments: argparse.Namespace) -> int:
    if arguments.pretrain:
        from comsl.demo.pretrain import pretrain

        if arguments.out is None:
            pretrain()
        else:
            pretrain(arguments.out)
        return 0
    out = arguments.out or Path("demo-out")
    _check_folder(out)
    from comsl.demo.demo import run_demo

    run_demo(out)
    return 0
