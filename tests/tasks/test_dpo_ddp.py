"""Preference training in two processes, in forks of a process in which nothing else ran."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.slow
def test_two_processes_see_every_pair(run_alone: Callable[..., str]) -> None:
    assert "2 passed" in run_alone(Path(__file__).with_name("dpo_of_two.py"))
