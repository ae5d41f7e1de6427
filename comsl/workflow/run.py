"""Runs the steps of a workflow, one after the other, each as a process of its own.

A step that is finished is skipped; the first one that fails ends the run, and the same command goes on there. What a
step prints goes to the console and to its log. Nothing outlives the run: an interrupt is passed on to the step (once;
a second one kills it), and so is the end of this process, however it comes about.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import IO, Any

from comsl.errors import ComSLError, UsageError, nearest
from comsl.progress import console, format_duration
from comsl.workflow.markers import Markers, facts_of
from comsl.workflow.plan import Plan, Step

LOCK = "lock"
COMPLAINT = "comsl: "
"""How a command's line about what went wrong begins, whatever a launcher says after it."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: the same as an interrupt, but passed on as what it is. A process in the background ignores SIGINT."""


class StepFailed(ComSLError):
    """A step ended with an error; the message names it and its log."""


def run_plan(plan: Plan, steps: Sequence[Step], again: bool = False) -> int:
    """Run ``steps`` of a plan in order, those that are finished left out.

    Args:
        again: run them even if they are finished.

    Returns:
        How many were run.

    Raises:
        UsageError: what a step needs is not there; none has been started.
        StepFailed: at the first one that fails; its successors have not been started.
        ComSLError: another run is at work in this folder of records, which cannot be written, or there is no page.
    """
    markers = Markers(plan.records)
    ran = 0
    with _lock(plan.records), _sigterm_raises():
        for step in steps:  # now, and not after hours
            if missing := plan.missing(step):
                raise UsageError("\n".join(missing))
        for number, step in enumerate(steps, 1):
            reason = markers.why_not_finished(step)
            if reason is None and not again:
                _say(f"[{number}/{len(steps)}] {step.name}: finished already")
                continue
            _say(f"[{number}/{len(steps)}] {step.name}: comsl {shlex.join(step.words)}")
            markers.clear(step)
            facts, started = facts_of(step), time.monotonic()
            _run(step, markers.log(step))
            seconds = time.monotonic() - started
            markers.set(step, facts, seconds)
            _say(f"[{number}/{len(steps)}] {step.name}: done in {format_duration(seconds)}")
            ran += 1
    if plan.page is not None and steps[-1] is plan.steps[-1] and not plan.page.exists():
        raise ComSLError(f"{plan.page}: all steps are done, but none has written this page")
    return ran


def chosen(plan: Plan, first: str | None = None, only: str | None = None) -> tuple[Step, ...]:
    """The steps from ``first`` on, or the one called ``only``. Raises UsageError for a name that there is not."""
    names = [step.name for step in plan.steps]
    for option, name in (("--from", first), ("--only", only)):
        if name is not None and name not in names:
            near = nearest(name, names)
            hint = f"did you mean {near}?" if near else f"there are {', '.join(names)}"
            raise UsageError(f"{option} {name}: no such step; {hint}")
    if only is not None:
        return (plan.steps[names.index(only)],)
    return plan.steps[names.index(first) if first is not None else 0 :]


def overview(plan: Plan, steps: Sequence[Step]) -> list[str]:
    """Two lines for each of ``steps``: its name, whether it is finished and why not; its words."""
    markers = Markers(plan.records)
    lines = []
    for step in steps:
        reason = markers.why_not_finished(step)
        processes = f" ({step.processes} processes)" if step.processes > 1 else ""
        lines += [
            f"{step.name}: {'finished' if reason is None else 'to do, ' + reason}",
            f"    comsl {shlex.join(step.words)}{processes}",
        ]
    return lines


def command_of(step: Step) -> list[str]:
    """The process that runs a step: this interpreter, or a launcher of several."""
    comsl = ["-m", "comsl", *step.words]
    if step.accelerate is not None:
        launcher = ["accelerate.commands.launch", "--config_file", step.accelerate]
        return [sys.executable, "-m", *launcher, "--num_processes", str(step.processes), *comsl]
    if step.processes > 1:
        launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(step.processes)]
        return [sys.executable, "-m", *launcher, *comsl]
    return [sys.executable, *comsl]


def _run(step: Step, log_path: Path) -> None:
    with log_path.open("ab") as log:
        log.write(f"--- {datetime.now().isoformat(timespec='seconds')} comsl {shlex.join(step.words)}\n".encode())
        process = subprocess.Popen(
            command_of(step),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # the terminal's Ctrl-C would reach it twice otherwise
            preexec_fn=_die_with_the_parent if sys.platform == "linux" else None,
        )
        try:
            last = _copy(process.stdout, log)
            code = process.wait()
        except BaseException as error:
            _stop(process, signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
            raise
    if code == -signal.SIGINT or code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if code:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed (exit code {code})"
        said = f": {last}" if last else ""
        raise StepFailed(f"step {step.name} {how}{said} [log: {log_path}]; the same command goes on from this step")


def _copy(output: IO[bytes] | None, log: IO[bytes]) -> str:
    """A step's output to its log and to stderr as it comes; its last complaint, or else its last line."""
    assert output is not None
    last = complaint = ""
    for line in output:
        log.write(line)
        log.flush()
        text = line.decode("utf-8", "replace")
        sys.stderr.write(text)
        sys.stderr.flush()
        last = text.strip() or last
        if last.startswith(COMPLAINT):
            complaint = last.removeprefix(COMPLAINT)
    return complaint or last


def _stop(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Pass a signal on to a step and wait for it, as long as it takes to tidy up; kill it if another one comes."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    try:
        process.communicate()
    except KeyboardInterrupt:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _die_with_the_parent() -> None:
    """Linux's prctl(PR_SET_PDEATHSIG, SIGTERM): a step must not go on beside the one that the next run starts."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before: Callable[..., Any] | int | None = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _lock(records: Path) -> Iterator[None]:
    """Two runs at once would write the same files. The lock ends with its process, however that ends."""
    if os.name == "nt":  # which has no such locks
        yield
        return
    import fcntl

    try:
        records.mkdir(parents=True, exist_ok=True)
        file = (records / LOCK).open("a+")
    except OSError as error:
        raise ComSLError(f"{records}: cannot be written: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            other = file.read().strip()
            raise ComSLError(f"{records}: another run (process {other}) is at work; wait for it, or end it") from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _say(line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)
