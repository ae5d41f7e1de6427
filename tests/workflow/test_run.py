"""Steps as processes: order, skipping, failing, interrupting, killing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from comsl import cli
from comsl.errors import ComSLError, UsageError
from comsl.workflow import run as module
from comsl.workflow.plan import Plan, Step
from comsl.workflow.run import StepFailed, chosen, command_of, run_plan
from tests.data.audio_files import tone, write_sound

PLAN = """
needs: {corpus: the folder of the corpus}
variables: {out: runs}
records: ${out}/run
steps:
  - name: first
    comsl: prepare mboshi --root ${corpus} --out ${out}/first
  - name: second
    comsl: prepare mboshi --root ${corpus} --out ${out}/second
page: ${out}/second/prepare.json
"""


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A workflow of two real commands over a corpus of 105 + 1 beeps."""
    for part, count in (("train", 105), ("dev", 1)):
        folder = tmp_path / "corpus" / "full_corpus_newsplit" / part
        folder.mkdir(parents=True)
        for number in range(count):
            write_sound(folder / f"anna_{number:03d}.wav", tone(0.1))
            (folder / f"anna_{number:03d}.mb").write_text("Bísí lémi\n")
            (folder / f"anna_{number:03d}.fr").write_text("Un mot\n")
    (tmp_path / "run.yaml").write_text(PLAN)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)
    return ["run", ".", "--set", "corpus=corpus"]


def test_commands_in_order_and_once(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 0
    assert capfd.readouterr().out == "2 of 2 steps run, 0 finished before; page: runs/second/prepare.json\n"
    assert "train: 105 usable utterances" in Path("runs/run/first.log").read_text()
    before = Path("runs/first/train.jsonl").stat().st_mtime_ns
    assert cli.main(words) == 0
    out, err = capfd.readouterr()
    assert out == "0 of 2 steps run, 2 finished before; page: runs/second/prepare.json\n"
    assert "[2/2] second: finished already" in err
    assert Path("runs/first/train.jsonl").stat().st_mtime_ns == before
    assert cli.main([*words, "--only", "first", "--again"]) == 0
    assert Path("runs/first/train.jsonl").stat().st_mtime_ns != before
    Path("runs/run/second.json").unlink()
    capfd.readouterr()
    assert cli.main([*words, "--list"]) == 0
    assert capfd.readouterr().out.splitlines() == [
        "first: finished",
        "    comsl prepare mboshi --root corpus --out runs/first",
        "second: to do, not done yet",
        "    comsl prepare mboshi --root corpus --out runs/second",
    ]
    assert cli.main([*words, "--list", "--only", "second"]) == 0
    assert [line.partition(":")[0] for line in capfd.readouterr().out.splitlines()][::2] == ["second"]


def test_the_first_failure_ends_the_run(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    Path("nothing").mkdir()
    assert cli.main([*words[:-1], "corpus=nothing"]) == 1
    complaint = capfd.readouterr().err.splitlines()[-1]
    assert complaint.startswith("comsl: step first failed (exit code 1): nothing: ")
    assert complaint.endswith("[log: runs/run/first.log]; the same command goes on from this step")
    assert not Path("runs/run/first.json").exists()
    assert not Path("runs/second").exists()


def test_what_a_step_will_need_is_looked_for_before_the_first_one(
    words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    plan = PLAN.replace("needs: {", "needs: {other: the other folder, ")
    head, second = plan.split("name: second")
    Path("run.yaml").write_text(f"{head}name: second{second.replace('${corpus}', '${other}')}")
    words = [*words, "--set", "other=elsewhere"]
    assert cli.main([*words, "--list"]) == 0
    missing = "--set other=elsewhere: no such file or folder; wanted: the other folder"
    assert capfd.readouterr().out.splitlines()[-1] == missing
    assert cli.main(words) == 2
    assert capfd.readouterr().err.splitlines() == [f"comsl: {missing}"]
    assert not Path("runs/first").exists()
    assert cli.main([*words, "--only", "first"]) == 0
    Path("corpus").rename("elsewhere")
    assert cli.main([*words, "--from", "second"]) == 0, "a step that is not asked for needs nothing"


# ------------------------------------------------------------------------------------------- steps that are scripts


def scripts(records: Path, *codes: str) -> Plan:
    """Steps whose only word is a line of Python."""
    steps = tuple(Step(f"step-{number}", (code,)) for number, code in enumerate(codes, 1))
    return Plan(records, steps, records, None)


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "command_of", lambda step: [sys.executable, "-c", step.words[0]])


@pytest.mark.usefixtures("python")
def test_what_a_failed_step_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = "print('comsl: x.jsonl: line 3 is malformed'); print('===== a launcher says what it thinks of it')"
    plan = scripts(tmp_path, f"{said}; raise SystemExit(3)", "print('never')")
    with pytest.raises(StepFailed, match=r"step-1 failed \(exit code 3\): x.jsonl: line 3 is malformed \[log: "):
        run_plan(plan, plan.steps)
    assert "a launcher says" in capfd.readouterr().err
    killed = scripts(tmp_path, "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(StepFailed, match="step-1 was ended by SIGKILL"):
        run_plan(killed, killed.steps)


@pytest.mark.usefixtures("python")
def test_a_missing_page_is_an_error(tmp_path: Path) -> None:
    plan = Plan(tmp_path, (Step("only", ("pass",)),), tmp_path, tmp_path / "page.html")
    with pytest.raises(ComSLError, match="page.html: all steps are done, but none has written this page"):
        run_plan(plan, plan.steps)


@pytest.mark.usefixtures("python")
def test_two_runs_at_once(tmp_path: Path) -> None:
    other = (
        "from pathlib import Path; from comsl.workflow import run; from comsl.workflow.plan import Plan, Step; "
        f"plan = Plan(Path('x'), (), Path({str(tmp_path)!r}), None); run.run_plan(plan, ())"
    )
    plan = scripts(tmp_path, f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {other!r}]))")
    with pytest.raises(StepFailed, match=rf"another run \(process {os.getpid()}\) is at work"):
        run_plan(plan, plan.steps)


def test_choosing_steps(tmp_path: Path) -> None:
    plan = scripts(tmp_path, "1", "2", "3")
    assert [step.words for step in chosen(plan, first="step-2")] == [("2",), ("3",)]
    assert [step.words for step in chosen(plan, only="step-2")] == [("2",)]
    with pytest.raises(UsageError, match="--from step-4: no such step; did you mean step-"):
        chosen(plan, first="step-4")


def test_launchers() -> None:
    words = ("train", "joint.yaml")
    comsl = ["-m", "comsl", *words]
    assert command_of(Step("x", words)) == [sys.executable, *comsl]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "8"]
    assert command_of(Step("x", words, 8)) == [*torchrun, *comsl]
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "fsdp.yaml"]
    assert command_of(Step("x", words, 8, "fsdp.yaml")) == [*accelerate, "--num_processes", "8", *comsl]


WORKFLOW = """
import sys
from pathlib import Path
from comsl.workflow import run
from comsl.workflow.plan import Plan, Step
run.command_of = lambda step: [sys.executable, "-c", step.words[0]]
steps = (Step("long", (Path("step.py").read_text(),)),)
try:
    run.run_plan(Plan(Path("."), steps, Path("records"), None), steps)
except KeyboardInterrupt:
    sys.exit(130)
"""
LONG = """
import os, time
from pathlib import Path
if Path("pid").exists():
    raise SystemExit(0)  # the second time
Path("pid").write_text(str(os.getpid()))
try:
    time.sleep(60)
except KeyboardInterrupt:
    Path("interrupted").touch()
    raise
"""


def start(folder: Path, in_the_background: bool = False) -> subprocess.Popen[bytes]:
    """In the background, as a shell starts it with ``&``, interrupts are ignored; here they are, or are not, however
    the tests themselves were started."""
    interrupt = signal.SIG_IGN if in_the_background else signal.SIG_DFL
    (folder / "step.py").write_text(LONG)
    return subprocess.Popen(
        [sys.executable, "-c", WORKFLOW],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, interrupt),
    )


def wait_for(condition: object, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="/proc and the death of a parent are Linux's")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_step_does_not_outlive_its_run(tmp_path: Path, number: signal.Signals) -> None:
    """A signal is passed on as it is; killed, the run takes the step along; and the next run goes on."""
    running = start(tmp_path, in_the_background=number == signal.SIGTERM)
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    running.send_signal(number)
    assert running.wait(20) == (-9 if number == signal.SIGKILL else 130)
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not alive(pid))
    assert (tmp_path / "interrupted").exists() == (number == signal.SIGINT)
    assert not (tmp_path / "records" / "long.json").exists()
    assert start(tmp_path).wait(20) == 0
    assert (tmp_path / "records" / "long.json").exists()
