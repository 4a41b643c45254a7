"""Which of several processes this is, and how a phase that starts others leaves none behind."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ct_vlm.cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_RANKS = ("RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK", "OMPI_COMM_WORLD_RANK")
_COUNTS = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "JSM_NAMESPACE_SIZE", "OMPI_COMM_WORLD_SIZE")
_LAUNCHED = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What Lightning sets when it starts processes; a next trainer that finds them starts none."""
_PHASE = "CT_VLM_CURRICULUM_PHASE"


def is_first() -> bool:
    """Tell whether this is the process that writes down how far a run is."""
    for name in _RANKS:
        if name in os.environ:
            return _number(name) == 0
    return _number("LOCAL_RANK") == 0 and _number("NODE_RANK") == 0


def joins_a_phase() -> bool:
    """Tell whether a trainer of this curriculum started this process, which repeats the whole command."""
    return _PHASE in os.environ and _number("LOCAL_RANK") > 0


def check_calls(names: Sequence[str]) -> None:
    """Refuse functions in a process that a launcher started with others: each would run them at once.

    Args:
        names: Phases that call functions and have not finished.

    Raises:
        UsageError: If there are any, and this process is one of several.
    """
    if not names or (is_first() and all(_number(name) <= 1 for name in _COUNTS)):
        return
    cause = f"Phases that call functions run in one process, and this is one of several: {', '.join(names)}."
    cure = "Start the command once, without a launcher: phases that train start processes themselves "
    cure += "(`trainer.devices`). Or run these phases so, with `--until`, before the launcher starts what follows."
    raise UsageError(cause, cure)


@contextmanager
def processes_of(phase: str) -> Iterator[None]:
    """Let a trainer start processes for one phase: they take part in it alone, and the next one starts its own.

    Args:
        phase: Name of the phase.
    """
    before = {name: os.environ.get(name) for name in (*_LAUNCHED, _PHASE)}
    os.environ[_PHASE] = phase
    try:
        yield
    finally:
        if before["LOCAL_RANK"] is None and "LOCAL_RANK" in os.environ:
            _leave_group()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _leave_group() -> None:
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else 0
