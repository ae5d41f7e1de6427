"""What progress writes when nobody is at a terminal, with a clock of our own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from comsl import progress


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def work(clock: Clock, items: int, seconds: float, **options: object) -> list[int]:
    seen = []
    for item in progress.track(range(items), description="decoding", unit="clip", **options):  # type: ignore[arg-type]
        clock.now += seconds
        seen.append(item)
    return seen


def test_lines_carry_count_rate_and_time_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    assert work(clock, items=100, seconds=0.5) == list(range(100))
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines == [
        "decoding: 20/100 clip, 2.0 clip/s, 0:10 so far, 0:40 left",
        "decoding: 40/100 clip, 2.0 clip/s, 0:20 so far, 0:30 left",
        "decoding: 60/100 clip, 2.0 clip/s, 0:30 so far, 0:20 left",
        "decoding: 80/100 clip, 2.0 clip/s, 0:40 so far, 0:10 left",
        "decoding: 100/100 clip, 2.0 clip/s, done in 0:50",
    ]


def test_slow_items_are_given_in_seconds_each(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    work(clock, items=2, seconds=40.0)
    assert capsys.readouterr().err.splitlines()[0] == "decoding: 1/2 clip, 40.0 s/clip, 0:40 so far, 0:40 left"


def test_short_work_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    work(clock, items=50, seconds=0.1)
    assert capsys.readouterr().err == ""


def test_without_a_total_there_is_no_time_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    def stream() -> Iterator[int]:
        yield from range(3)

    for _ in progress.track(stream(), description="reading", unit="row"):
        clock.now += 10
    assert capsys.readouterr().err.splitlines()[0] == "reading: 1 row, 10.0 s/row, 0:10 so far"


def test_long_lines_are_not_wrapped(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in progress.track(range(2), description="d" * 200):
        clock.now += 10
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_only_the_first_process_reports(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert work(clock, items=3, seconds=20.0) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "console", progress.Console(stderr=True, force_terminal=True, width=120))
    assert list(progress.track(range(5), description="decoding", unit="clip")) == list(range(5))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "5/5" in captured.err
    assert "clip/s" in captured.err


def test_what_the_work_prints_stays_on_stdout(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "console", progress.Console(stderr=True, force_terminal=True, width=120))
    for item in progress.track(range(2), description="decoding"):
        print("result", item)
    assert capsys.readouterr().out == "result 0\nresult 1\n"


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0:00"), (59.7, "1:00"), (754, "12:34"), (3723, "1:02:03")])
def test_durations(seconds: float, text: str) -> None:
    assert progress.format_duration(seconds) == text
