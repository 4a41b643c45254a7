"""What the checks of one audit share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from ct_vlm.datasets.audit.collector import Collector
    from ct_vlm.datasets.audit.report import AuditReport
    from ct_vlm.datasets.audit.voxels import VoxelJob


@dataclass
class AuditContext:
    """One audit under way.

    Args:
        root: Folder of the data set.
        collector: Takes the findings.
        report: Takes the counts.
        workers: Threads and processes; ``None`` chooses by the number of cores.
        is_progress_shown: Whether a terminal shows progress bars.
        jobs: Files whose voxels a deep audit decodes.
        doubtful: Files that look truncated; decoding decides.
    """

    root: Path
    collector: Collector
    report: AuditReport
    workers: int | None = None
    is_progress_shown: bool = True
    jobs: list[VoxelJob] = field(default_factory=list)
    doubtful: set[str] = field(default_factory=set)
