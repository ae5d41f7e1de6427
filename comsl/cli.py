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

from comsl.arguments import parse
from comsl.commands.calibrate import calibrate
from comsl.commands.common import complain
from comsl.commands.compare import compare
from comsl.commands.compose import compose
from comsl.commands.demo import demo
from comsl.commands.evaluate import evaluate
from comsl.commands.prepare import prepare
from comsl.commands.pseudo_label import pseudo_label
from comsl.commands.score import score
from comsl.commands.study import heard, study
from comsl.commands.train import train
from comsl.commands.translate import translate
from comsl.commands.trim import trim
from comsl.errors import ComSLError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a write to a file that is open already: Python does not say which one that is."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    # Explicit settings of the user's stand. The libraries' own advice is not about this command.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if "OMP_WAIT_POLICY" not in os.environ:
        # libgomp reads this when torch is loaded, which is later: threads that wait for one another spin some
        # microseconds and then sleep. With its own 300,000 turns a small model crawls where other work shares the
        # cores; with none, it is slower where nothing does (benchmarks/busy_cores.py).
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    arguments = argparse.Namespace()
    try:
        arguments = parse(words)
        code = HANDLERS[arguments.command](arguments)
        sys.stdout.flush()
        return code
    except ComSLError as error:
        if "--debug" in words:
            traceback.print_exc()
        complain(str(error))
        return error.exit_code
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python would flush stdout once more at exit and complain.
        _silence_stdout()
        return 1
    except OSError as error:
        if "--debug" in words:
            traceback.print_exc()
        complain(_file_trouble(error, arguments))
        return 1
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    except Exception:
        traceback.print_exc()
        complain("this is a bug, or an error of a library that nobody has put into words yet")
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


def run(arguments: argparse.Namespace) -> int:
    """Of ``comsl run``: the only one that stands here, since its steps are commands themselves."""
    from comsl.workflow.plan import load_plan
    from comsl.workflow.run import chosen, overview, run_plan

    plan = load_plan(arguments.folder, arguments.set)
    steps = chosen(plan, arguments.first, arguments.only)
    if arguments.list:
        print("\n".join([*overview(plan, steps), *plan.missing()]))
        return 0
    ran = run_plan(plan, steps, arguments.again)
    page = f"; page: {plan.page}" if plan.page is not None and plan.page.exists() else ""
    print(f"{ran} of {len(steps)} steps run, {len(steps) - ran} finished before{page}")
    return 0


HANDLERS: dict[str, Callable[[argparse.Namespace], int]] = {
    "translate": translate,
    "compose": compose,
    "trim": trim,
    "prepare": prepare,
    "train": train,
    "evaluate": evaluate,
    "score": score,
    "compare": compare,
    "demo": demo,
    "run": run,
    "pseudo-label": pseudo_label,
    "heard": heard,
    "study": study,
    "calibrate": calibrate,
}
