"""The curricula that the study runs: one that all seeds share, and the phases of each seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ct_vlm.cli.curriculum.plan import resolve
from ct_vlm.cli.main import main as ct_vlm
from ct_vlm.errors import CTVLMError
from ct_vlm.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIGS = Path(__file__).resolve().parents[3] / "examples" / "configs"
SHARED = ("phantoms", "ssl", "encoder", "embeddings", "language")
COLD, FULL = "phase3_cold", "phase3_full"
LONGEST = 256
"""Longest text in tokens: whole reports of phantoms have 78 to 168, positive findings 6 to 65 (5 % to 95 %)."""
_SEEDS = ("seed_everything", "data.init_args.seed", "data.init_args.data.init_args.seed")
Changes = dict[str, dict[str, Any]]


class StudyError(CTVLMError):
    """A curriculum of the study did not end."""


def shared_plan(changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the steps before phase 1: phantoms, slice encoder, embeddings and language model.

    Args:
        changes: Step to options that replace the shipped ones.
    """
    steps = [phase for phase in _shipped()["phases"] if phase["name"] in SHARED]
    return {"phases": [_changed(step, changes.get(step["name"], {})) for step in steps]}


def seed_plan(seed: int, made: Mapping[str, str], changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the phases of a seed: the shipped ones, and phase 3 on whole reports from the same start.

    Args:
        seed: Decides weights, orders and phrasings.
        made: Shared step to what it made.
        changes: Phase (or ``training`` for every phase) to options that replace the shipped ones.
    """
    plan = _shipped()
    phases = [phase for phase in plan["phases"] if phase["name"] not in SHARED]
    cold = next(phase for phase in phases if phase["name"] == COLD)
    # last: nothing else builds on it
    whole = {"data.init_args.text": "report", "model.init_args.generation": {"max_new_tokens": LONGEST}}
    phases.append({**cold, "name": FULL, "options": {**cold["options"], **whole}})
    seeds = dict.fromkeys(_SEEDS, seed)
    phases = [
        _changed(phase, seeds | dict(changes.get("training", {})) | dict(changes.get(phase["name"], {})))
        for phase in phases
    ]
    found: dict[str, Any] = resolve({"options": plan["options"], "phases": phases}, made)
    return found


def run_plan(plan: Mapping[str, Any], out: Path) -> dict[str, str]:
    """Run a curriculum, or what is left of it; return what each phase made.

    Args:
        plan: From :func:`shared_plan` or :func:`seed_plan`.
        out: Its folder.

    Raises:
        StudyError: If the command fails.
    """
    file = out.with_suffix(".yaml")
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as temporary:
        temporary.write_text(yaml.safe_dump(dict(plan), sort_keys=False), encoding="utf-8")
    if ct_vlm(["curriculum", "--config", str(file), "--out", str(out)]):
        cause = f"`ct-vlm curriculum --config {file} --out {out}` failed."
        raise StudyError(cause, "Its message is above; the study goes on from there when it is started again.")
    done = json.loads((out / "curriculum.json").read_text(encoding="utf-8"))["phases"]
    return {name: row["result"] for name, row in done.items()}


def _shipped() -> dict[str, Any]:
    plan: dict[str, Any] = yaml.safe_load((CONFIGS / "ker_vljepa_curriculum.yaml").read_text(encoding="utf-8"))
    return plan


def _changed(phase: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a phase with other options, its configuration named absolutely."""
    found = {**phase, "options": {**phase["options"], **options}}
    if "config" in found:
        found["config"] = str(CONFIGS / found["config"])
    return found
