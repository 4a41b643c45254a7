"""Running one phase: the same as `ct-vlm fit`, with checkpoints where the next start finds them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.cli.curriculum.plan import resolve
from ct_vlm.cli.curriculum.state import PhaseResult
from ct_vlm.cli.output import say
from ct_vlm.component import import_object
from ct_vlm.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ct_vlm.cli.curriculum.plan import Phase


def run_phase(phase: Phase, folder: Path, names: Mapping[str, str]) -> PhaseResult:
    """Run a phase to its end, from its last checkpoint if it has one.

    Args:
        phase: The phase.
        folder: Where it writes.
        names: Results of the phases before it, by name.

    Returns:
        What it made.
    """
    start = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    options = resolve(phase.options, {**names, "here": str(folder)})
    score = None
    result = str(folder)
    if phase.call is not None:
        result = _call(phase, options) or result
    else:
        score = _fit(phase, options, folder)
        result = str(_result_file(phase, folder))
    return PhaseResult(phase.digest(), result, score, round(time.perf_counter() - start, 1))


def _call(phase: Phase, options: Mapping[str, Any]) -> str | None:
    """Call a function; return the path that it returned, if any."""
    function = import_object(str(phase.call))
    if not callable(function):
        cause = f"Phase `{phase.name}` names `{phase.call}`, which cannot be called."
        raise ConfigError(cause, "Name a function as `package.module.function`.")
    returned = function(**options)
    return str(returned) if isinstance(returned, str | Path) else None


def _fit(phase: Phase, options: Mapping[str, Any], folder: Path) -> float | None:
    from ct_vlm.cli.trainer import run

    # a trainer refuses to overwrite the configuration that an earlier start left in its folder
    start = folder / f"start_{sum(1 for _ in folder.glob('start_*')) + 1}"
    arguments = ["fit", "--config", str(phase.config), "--trainer.default_root_dir", str(start)]
    for name, value in options.items():
        arguments += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
    arguments += _checkpoint_options(phase, folder)
    last = folder / "checkpoints" / "last.ckpt"
    if last.is_file():
        say(f"  goes on from {last}")
        arguments += ["--ckpt_path", str(last)]
    run(arguments)
    return None if phase.monitor is None else _best_score(_result_file(phase, folder), phase.monitor)


def _checkpoint_options(phase: Phase, folder: Path) -> list[str]:
    """Return the options that add one checkpoint to go on from and, with a metric, the best one."""
    # files are overwritten, never numbered: the next start looks for `last.ckpt`
    common = {"enable_version_counter": False, "auto_insert_metric_name": False, "save_top_k": 1}
    wanted: list[dict[str, Any]] = [
        {**common, "filename": "last", "every_n_epochs": 1, "save_on_train_epoch_end": True}
    ]
    if phase.save_every is not None:
        wanted.append({**common, "filename": "last", "every_n_train_steps": phase.save_every})
    if phase.monitor is not None:
        wanted.append({**common, "filename": "best", "monitor": phase.monitor, "mode": phase.mode})
    options = []
    for settings in wanted:
        settings["dirpath"] = str(folder / "checkpoints")
        callback = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": settings}
        options += ["--trainer.callbacks+", json.dumps(callback)]
    return options


def _result_file(phase: Phase, folder: Path) -> Path:
    file = folder / "checkpoints" / ("last.ckpt" if phase.monitor is None else "best.ckpt")
    if not file.is_file():
        cause = f"Phase `{phase.name}` ended without a checkpoint `{file}`."
        cure = "Train for at least one epoch (or `save_every` steps) and validate what `monitor` names."
        raise CheckpointError(cause, cure)
    return file


def _best_score(file: Path, monitor: str) -> float | None:
    """Return the score that a checkpoint was kept for."""
    from ct_vlm.tasks.base import read_checkpoint

    for name, state in read_checkpoint(file)["callbacks"].items():
        if name.startswith("ModelCheckpoint") and state.get("monitor") == monitor:
            score = state.get("best_model_score")
            return None if score is None else float(score)
    return None
