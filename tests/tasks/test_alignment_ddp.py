"""Two processes train on losses that do not read every head, in forks of a process in which nothing else ran."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def test_two_processes_train(run_alone: Callable[..., str]) -> None:
    assert "2 passed" in run_alone(Path(__file__).with_name("alignment_of_two.py"))
