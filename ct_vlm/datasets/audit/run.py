"""Audit a download: one call, one report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from ct_vlm.datasets.audit.collector import Collector
from ct_vlm.datasets.audit.context import AuditContext
from ct_vlm.datasets.audit.ct_rate import audit_ct_rate
from ct_vlm.datasets.audit.layouts import detect_layouts
from ct_vlm.datasets.audit.pool import in_processes, progress_bar
from ct_vlm.datasets.audit.radgenome import audit_radgenome
from ct_vlm.datasets.audit.report import AuditReport
from ct_vlm.datasets.audit.voxels import check_voxels, worker_died
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

_AUDITS: dict[str, Callable[[AuditContext], None]] = {"ct_rate": audit_ct_rate, "radgenome": audit_radgenome}


def audit(
    root: str | Path,
    layout: str = "auto",
    *,
    deep: bool = False,
    expect: str = "subset",
    workers: int | None = None,
    progress: bool = True,
) -> AuditReport:
    """Check a CT-RATE or RadGenome-ChestCT tree; nothing in it is ever written to.

    By default tables and the first two kilobytes of each volume are read; whether a file was
    truncated is told by the length that gzip notes at its end. With ``deep`` every voxel is decoded:
    checksums, Hounsfield units, constant volumes, values of masks.

    Whatever is wrong with a file, a table or a folder is a finding; only a root that is no such tree raises.

    Args:
        root: Folder that holds ``dataset/``, or that folder itself.
        layout: ``ct_rate``, ``radgenome``, or ``auto`` to look.
        deep: Decode volumes and masks.
        expect: ``full`` makes whatever is absent an error, ``subset`` does not.
        workers: Threads for headers and processes for voxels; 0 works in this one, ``None`` chooses by
            the number of cores.
        progress: Show progress bars (on a terminal only).

    Returns:
        Counts and findings.

    Raises:
        DatasetError: If the folder does not exist or holds neither data set.
        ConfigError: If an argument has an unknown value.

    Example:
        >>> import pathlib, tempfile
        >>> from ct_vlm.datasets.audit import audit
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     scan = pathlib.Path(folder, "dataset/valid_fixed/valid_1/valid_1_a/valid_1_a_1.nii.gz")
        ...     scan.parent.mkdir(parents=True)
        ...     scan.touch()
        ...     report = audit(folder, progress=False)
        >>> [finding.code for finding in report.findings if finding.severity == "error"]
        ['tree.empty_file']
    """
    if expect not in {"full", "subset"}:
        cause = f"Expected `expect` to be 'full' or 'subset', but got {expect!r}."
        raise ConfigError(cause, "Use 'full' if the whole data set should be there.")
    layouts = detect_layouts(root, layout)
    started = time.monotonic()
    report = AuditReport(str(root), "+".join(layouts), expect, deep)
    context = AuditContext(Path(root), Collector(Path(root), expect), report, workers, progress)
    for name in layouts:
        _AUDITS[name](context)
    if deep:
        _decode(context)
    context.collector.finish(report)
    report.seconds = round(time.monotonic() - started, 3)
    return report


def _decode(context: AuditContext) -> None:
    """Decode every file whose header is sound."""
    with progress_bar("voxels", len(context.jobs), show=context.is_progress_shown) as advance:
        for job, problems in in_processes(check_voxels, context.jobs, context.workers, advance, worker_died):
            context.report.voxels += 1
            for code, detail in problems:
                context.collector.add(code, job.path, detail)
            if job.path in context.doubtful and "voxels.damaged" not in {code for code, _ in problems}:
                context.collector.withdraw("header.truncated", job.path)
