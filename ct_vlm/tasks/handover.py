"""Starting a stage from parts that an earlier stage has trained."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError
from ct_vlm.models import TransferReport, transfer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

_log = logging.getLogger(__name__)


def hand_over(task: nn.Module, sources: Mapping[str, str]) -> dict[str, TransferReport]:
    """Fill parts of a task from checkpoints of earlier stages.

    Args:
        task: Task to fill.
        sources: Part of the task to checkpoint (a trainer's ``.ckpt`` file or a directory written by
            ``save_pretrained``). ``"run1.ckpt#head"`` names another part of the checkpoint than
            the one to fill.

    Returns:
        What moved, by part; also logged.

    Raises:
        CheckpointError: If a checkpoint cannot be read, or a part does not fit.
        ConfigError: If a part does not exist.
    """
    reports = {}
    # a checkpoint that several parts come from is read once
    checkpoints: dict[str, Any] = {}
    for part, source in sources.items():
        path, _, name = str(source).partition("#")
        if path not in checkpoints:
            checkpoints[path] = _load(path)
        loaded = checkpoints[path]
        reports[part] = transfer(_part(loaded, name or part, path), _part(task, part, "the task"))
        _log.info("%s <- %s: %s", part, source, reports[part])
    return reports


def _load(path: str) -> Any:
    from ct_vlm.tasks.base import load_task

    return load_task(path) if Path(path).is_file() else Component.from_pretrained(path)


def _part(module: nn.Module, name: str, where: str) -> nn.Module:
    try:
        return module.get_submodule(name)
    except AttributeError as error:
        cause = f"{where} has no part {name!r}."
        parts = sorted(child for child, _ in module.named_children())
        raise ConfigError(cause, f"Its parts are: {parts}.") from error
