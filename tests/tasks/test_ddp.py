"""Two processes give the metrics of one, in forks of a process in which nothing else ran."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def test_two_processes_equal_one(run_alone: Callable[..., str]) -> None:
    assert "3 passed" in run_alone(Path(__file__).with_name("ddp_of_two.py"))
