"""Train in phases, each started from what the ones before it learned.

The configuration lists phases: a YAML file of `ct-vlm fit` each, with options of its own. `{NAME}` in an
option stands for the checkpoint of that phase, `{out}` for the folder of the run. A run that was
stopped goes on where it was when the same command is given again: finished phases are skipped, and a
phase that was cut off resumes from its last checkpoint. Functions run in one process; training starts further
ones for each phase, which end with it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.cli.errors import UsageError
from ct_vlm.cli.output import say, say_table
from ct_vlm.cli.suggest import did_you_mean

if TYPE_CHECKING:
    import argparse

    from ct_vlm.cli.curriculum.plan import Phase
    from ct_vlm.cli.curriculum.state import CurriculumState


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ct-vlm curriculum``."""
    parser.add_argument("--config", type=Path, required=True, help="YAML file with the phases")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--until", metavar="PHASE", help="stop after this phase")
    parser.add_argument("--list", action="store_true", help="show the phases and how far the run is; train nothing")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="[PHASE.]OPTION=VALUE",
        help="replace an option of one phase (phase1.trainer.max_epochs=1) or, without a phase, of every "
        "training phase, also of those with `common: false`; repeatable",
    )


def run(args: argparse.Namespace) -> int:
    """Run the phases that are left."""
    from ct_vlm.cli.curriculum.plan import read_plan
    from ct_vlm.cli.curriculum.processes import check_calls, is_first, joins_a_phase
    from ct_vlm.cli.curriculum.state import CurriculumState

    phases = read_plan(args.config, dict(map(_option, args.set)))
    wanted = _until(phases, args.until)
    state = CurriculumState(args.out)
    # all phases are compared first: a changed one must not be found after hours of training
    left = [phase for phase in wanted if state.finished(phase) is None]
    if args.list:
        _show(phases, state)
        return 0
    if joins_a_phase():
        # the process that started this one goes on to the next phase alone
        _run_phases([phase for phase in wanted if phase not in left[1:]], state, args.out, writes=False)
        return 0
    check_calls([phase.name for phase in left if phase.call])
    writes = is_first()
    _run_phases(wanted, state, args.out, writes=writes)
    if writes:
        _show(phases, state)
    return 0


def _run_phases(phases: list[Phase], state: CurriculumState, out: Path, *, writes: bool) -> None:
    """Run what is left; of several processes, one writes down how far they are."""
    from ct_vlm.cli.curriculum.processes import processes_of
    from ct_vlm.cli.curriculum.running import run_phase

    out.mkdir(parents=True, exist_ok=True)
    names = {"out": str(out)}
    for number, phase in enumerate(phases, start=1):
        result = state.finished(phase)
        if result is None:
            if writes:
                say(f"phase {number} of {len(phases)}: {phase.name}")
            with processes_of(phase.name):
                result = run_phase(phase, out / phase.name, names)
            if writes:
                state.record(phase, result)
        names[phase.name] = result.result


def _option(text: str) -> tuple[str, Any]:
    """Split ``name=value``; values are JSON where they can be read so."""
    name, sign, value = text.partition("=")
    if not sign or not name:
        cause = f"Expected OPTION=VALUE, but got `{text}`."
        raise UsageError(cause, "E.g. --set trainer.max_epochs=1, or --set phase1.trainer.max_epochs=1.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _until(phases: list[Phase], name: str | None) -> list[Phase]:
    names = [phase.name for phase in phases]
    if name is None:
        return phases
    if name not in names:
        cause = f"There is no phase `{name}`."
        raise UsageError(cause, did_you_mean(name, names) or f"Phases are: {', '.join(names)}.")
    return phases[: names.index(name) + 1]


def _show(phases: list[Phase], state: CurriculumState) -> None:
    rows = []
    for phase in phases:
        result = state.done.get(phase.name)
        if result is None:
            rows.append([phase.name, "to do", "", "", ""])
            continue
        score = "" if result.score is None else f"{phase.monitor} {result.score:.4f}"
        rows.append([phase.name, "done", score, f"{result.seconds:.0f}", result.result])
    say_table("Phases", ["phase", "state", "best", "seconds", "result"], rows)
