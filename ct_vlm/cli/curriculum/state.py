"""How far a curriculum has come: one JSON file, written whole after every phase."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ct_vlm.cli.errors import UsageError
from ct_vlm.files import write_json

if TYPE_CHECKING:
    from pathlib import Path

    from ct_vlm.cli.curriculum.plan import Phase

STATE_NAME = "curriculum.json"


@dataclass
class PhaseResult:
    """A finished phase.

    Args:
        digest: Of the phase, as it was run.
        result: What later phases get: a checkpoint, or what a function returned.
        score: Best value of the monitored metric; None without one.
        seconds: Time of its last start; a run that was resumed took longer.
    """

    digest: str
    result: str
    score: float | None
    seconds: float


class CurriculumState:
    """Finished phases of a folder.

    Args:
        folder: Folder of the curriculum.

    Raises:
        UsageError: If its file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / STATE_NAME
        self.done: dict[str, PhaseResult] = {}
        if not self.file.is_file():
            return
        try:
            values = json.loads(self.file.read_text(encoding="utf-8"))
            self.done = {name: PhaseResult(**row) for name, row in values["phases"].items()}
        except (ValueError, KeyError, TypeError) as error:
            cause = f"`{self.file}` is no state of a curriculum: {error}."
            raise UsageError(cause, "Name another folder with --out.") from error

    def finished(self, phase: Phase) -> PhaseResult | None:
        """Return a phase's result if it has finished.

        Raises:
            UsageError: If it finished under other settings.
        """
        found = self.done.get(phase.name)
        if found is not None and found.digest != phase.digest():
            cause = f"Phase `{phase.name}` of `{self.file.parent}` was run with other settings than it has now."
            raise UsageError(cause, "Name another folder with --out, or put the settings back.")
        return found

    def record(self, phase: Phase, result: PhaseResult) -> None:
        """Write a phase down as finished."""
        self.done[phase.name] = result
        rows = {name: asdict(row) for name, row in self.done.items()}
        write_json(self.file, {"phases": rows})
