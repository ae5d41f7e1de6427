"""``comsl <command>``: parses the command line and calls the library; nothing heavy is imported before that.

Results go to stdout, progress and errors to stderr. Exit code 0: all done; 1: the work failed in part or whole;
2: wrong usage; 130: interrupted.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comsl.allocator import keep_freed_memory, limit_kernel_caches
from comsl.arguments import overrides_of, parse
from comsl.commands.calibrate import calibrate
from comsl.commands.common import check_folder as _check_folder
from comsl.commands.common import complain as _complain
from comsl.commands.decoding import decoding_options, device
from comsl.commands.prepare import prepare
from comsl.commands.study import heard, study
from comsl.commands.translate import translate
from comsl.errors import ComSLError, UsageError

if TYPE_CHECKING:
    from comsl.evaluation.outcome import Evaluation

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a write to a file that is open already: Python does not say which one that is."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    # The libraries' own advice is not about this command; an explicit setting of the user's stands.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    arguments = argparse.Namespace()
    try:
        arguments = parse(words)
        code = HANDLERS[arguments.command](arguments)
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


# --------------------------------------------------------------------------------------------------------- handlers


def _train(arguments: argparse.Namespace) -> int:
    limit_kernel_caches()
    from comsl.training.configuration import load_configuration
    from comsl.training.distributed import leave
    from comsl.training.run import train

    train(load_configuration(arguments.recipe, overrides_of(arguments)))
    leave()
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from comsl.evaluation.report import show
    from comsl.evaluation.significance import compare

    comparison = compare(arguments.first, arguments.second, arguments.system, arguments.system_b)
    show(comparison.render())
    if arguments.out is not None:
        comparison.write(arguments.out)
    return 0


def _compose(arguments: argparse.Namespace) -> int:
    from comsl.data.characters import character_vocabulary
    from comsl.model.compose import compose

    related = dict(map(_new_language, arguments.new_language))
    if len(related) < len(arguments.new_language):
        raise UsageError("--new-language: a language is named twice; name it once")
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


def _trim(arguments: argparse.Namespace) -> int:
    from comsl.evaluation.report import show
    from comsl.model.coverage import Texts
    from comsl.model.trim import Selection, trim

    _check_folder(arguments.out)
    _say(f"trimming {arguments.model}")
    _hide_library_bars()
    report = trim(
        arguments.model,
        arguments.out,
        Texts(arguments.manifest, arguments.text),
        Texts(arguments.check),
        languages=arguments.languages,
        select=Selection(arguments.min_count, arguments.keep, arguments.coverage),
        like=arguments.like,
    )
    show(report.render())
    print(arguments.out)
    return 0


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

    keep_freed_memory()
    limit_kernel_caches()
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
        lookup=arguments.lookup,
        task=arguments.task,
        options=decoding_options(arguments),
        lowercase=arguments.lowercase,
        normaliser=arguments.normaliser,
        device=device(arguments),
        precision=arguments.precision,
    )
    return _evaluated(result, arguments.allow_failed_rows)


def _score(arguments: argparse.Namespace) -> int:
    from comsl.evaluation.external import score_external

    _check_folder(arguments.out)
    result = score_external(
        arguments.manifest,
        arguments.hypotheses,
        arguments.system,
        arguments.out,
        transcripts=arguments.transcripts,
        train_manifest=arguments.train_manifest,
        lookup=arguments.lookup,
        lowercase=arguments.lowercase,
        normaliser=arguments.normaliser,
    )
    return _evaluated(result)


def _evaluated(result: Evaluation, allow_failed_rows: bool = False) -> int:
    for line in result.complaints:
        _complain(line)
    print(f"{result.out / 'report.html'}\n{result.out / 'table.md'}")
    return 0 if result.ok or allow_failed_rows else 1


def _demo(arguments: argparse.Namespace) -> int:
    if arguments.covost is not None:
        from comsl.demo.covost import build_covost

        _check_folder(arguments.covost, "--covost")
        print(build_covost(arguments.covost, arguments.languages, arguments.scale, archives=arguments.archives))
        return 0
    if arguments.pretrain is not None:
        from comsl.demo import PARTS
        from comsl.demo.pretrain import MODELS, pretrain

        pretrain(arguments.out or MODELS, arguments.pretrain or PARTS)
        return 0
    out = arguments.out or Path("demo-out")
    _check_folder(out)
    from comsl.demo.demo import run_demo

    run_demo(out)
    return 0


def _run(arguments: argparse.Namespace) -> int:
    from comsl.workflow.plan import load_plan
    from comsl.workflow.run import chosen, overview, run_plan

    plan = load_plan(arguments.folder, arguments.set)
    steps = chosen(plan, arguments.first, arguments.only)
    if arguments.list:
        print("\n".join(overview(plan)))
        return 0
    ran = run_plan(plan, steps, arguments.again)
    page = f"; page: {plan.page}" if plan.page is not None and plan.page.exists() else ""
    print(f"{ran} of {len(steps)} steps run, {len(steps) - ran} finished before{page}")
    return 0


def _pseudo_label(arguments: argparse.Namespace) -> int:
    from comsl.inference.decode import DecodingOptions
    from comsl.pseudo_labels.filters import Filters
    from comsl.pseudo_labels.label import Labelling, pseudo_label
    from comsl.pseudo_labels.sources import open_sources

    keep_freed_memory()
    limit_kernel_caches()
    bounds = ("max_length_ratio", "max_repeats", "min_score", "max_seconds", "identify_language")
    filters = Filters(**{name: getattr(arguments, name) for name in bounds})
    _check_folder(arguments.out)
    _hide_library_bars()
    wanted = ("common_voice", "manifest", "covost_manifests", "held_out", "languages", "target", "out")
    source, held_out, described = open_sources(**{name: getattr(arguments, name) for name in wanted})
    labelling = Labelling(
        arguments.model,
        held_out,
        described,
        target=arguments.target,
        options=DecodingOptions(beam=arguments.beam, batch_size=arguments.batch_size),
        filters=filters,
        device=device(arguments),
        precision=arguments.precision,
    )
    pseudo_label(source, labelling, arguments.out)
    return 0


HANDLERS: dict[str, Callable[[argparse.Namespace], int]] = {
    "translate": translate,
    "compose": _compose,
    "trim": _trim,
    "prepare": prepare,
    "train": _train,
    "evaluate": _evaluate,
    "score": _score,
    "compare": _compare,
    "demo": _demo,
    "run": _run,
    "pseudo-label": _pseudo_label,
    "heard": heard,
    "study": study,
    "calibrate": calibrate,
}
