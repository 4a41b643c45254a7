"""Rates, time left, and what is shown where."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ct_vlm.datasets.preprocessing import Outcome
from ct_vlm.datasets.preprocessing.progress import Display, Meter


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def made(size: int = 10**6) -> Outcome:
    return Outcome("a", "made", source_bytes=size)


def feed(meter: Meter, clock: Clock, count: int, seconds: float) -> None:
    for _ in range(count):
        clock.now += seconds
        meter.add(made())


def test_rates_follow_the_last_minute() -> None:
    clock = Clock()
    meter = Meter(1000, clock)
    feed(meter, clock, 100, 10.0)
    assert meter.volumes_per_second == pytest.approx(0.1)
    feed(meter, clock, 400, 0.5)
    assert meter.volumes_per_second == pytest.approx(2.0, rel=0.02)
    assert meter.megabytes_per_second == pytest.approx(2.0, rel=0.02)
    assert meter.seconds_left == pytest.approx(250, rel=0.02)


def test_volumes_that_take_minutes_still_have_a_rate() -> None:
    clock = Clock()
    meter = Meter(40, clock)
    feed(meter, clock, 30, 300.0)
    assert meter.volumes_per_second == pytest.approx(1 / 300)


def test_present_volumes_do_not_shorten_the_time_left() -> None:
    clock = Clock()
    meter = Meter(1000, clock)
    for _ in range(500):
        meter.add(Outcome("a", "present"))
    assert meter.seconds_left is None
    assert meter.line() == "500/1000 volumes"
    feed(meter, clock, 10, 2.0)
    assert meter.seconds_left == pytest.approx(490 * 2)


def test_nothing_divides_by_zero() -> None:
    meter = Meter(1, Clock())
    meter.add(made())
    assert meter.line().startswith("1/1 volumes")
    assert Meter(0, Clock()).line() == "0/0 volumes"


def test_failures_are_counted() -> None:
    meter = Meter(2, Clock())
    meter.add(Outcome("a", "failed"))
    assert meter.line().endswith(", 1 failed")


def test_lines_where_there_is_no_terminal() -> None:
    clock, stream = Clock(), io.StringIO()
    with Display(100, "Preprocessing", console=Console(file=stream, force_terminal=False), clock=clock) as display:
        display.skip(5)
        for _ in range(70):
            clock.now += 1.0
            display.add(made())
    lines = stream.getvalue().strip().splitlines()
    assert lines == [
        "Preprocessing: 35/100 volumes, 1/s, 1.0 MB/s, 0:01:05 left",
        "Preprocessing: 65/100 volumes, 1/s, 1.0 MB/s, 0:00:35 left",
    ]


def test_bar_on_a_terminal() -> None:
    clock, stream = Clock(), io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    with Display(2, "Preprocessing", console=console, clock=clock) as display:
        clock.now += 2.0
        display.add(made())
    assert "1/2" in stream.getvalue()
    assert "0.5/s, 0.5 MB/s, 0:00:02 left" in stream.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_silence_on_request(terminal: bool) -> None:
    clock, stream = Clock(), io.StringIO()
    console = Console(file=stream, force_terminal=terminal)
    with Display(2, "Preprocessing", enabled=False, console=console, clock=clock) as display:
        clock.now += 60.0
        display.add(made())
    assert stream.getvalue() == ""
