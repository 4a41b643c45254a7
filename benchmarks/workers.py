"""How preprocessing scales with processes: ``python -m benchmarks.workers``.

Files of 512 x 512 x 300 voxels are brought onto 240 x 480 x 480 and written to an empty cache, by one process and by
more, in turns. The start of processes is not counted. Efficiency is wall(1) / (N * wall(N)); the machine's own is that
of processes that share nothing (``benchmarks/side_by_side.py``), the most that any work can reach there.
"""

from __future__ import annotations

import argparse
import os
import sys

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"

import shutil  # noqa: E402
import statistics  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

from benchmarks.environment import cores, load  # noqa: E402
from benchmarks.ops._volumes import GRID, SOURCE, source_file  # noqa: E402
from benchmarks.side_by_side import spin  # noqa: E402
from benchmarks.tables import append_csv, environment_columns, print_table, progress_bar  # noqa: E402
from ct_vlm.cli.types import positive  # noqa: E402
from ct_vlm.datasets.preprocessing import WorkerTiming, time_workers  # noqa: E402
from ct_vlm.errors import CTVLMError  # noqa: E402
from ct_vlm.transforms import CTPreset  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Size = tuple[int, int, int]


def run(
    volumes: int, source: Size, target: Size, workers: Sequence[int], repeats: int, csv: str | None, *, progress: bool
) -> int:
    """Measure, print and keep."""
    environment = environment_columns()
    counts = sorted({1, *workers})
    preset = CTPreset("bench", size=target)
    with tempfile.TemporaryDirectory(prefix="ct_vlm_workers_") as folder, progress_bar(shown=progress) as bar:
        task = bar.add_task("writing files", total=repeats * len(counts))
        bar.refresh()
        files = write_files(Path(folder), volumes, source)

        def step(text: str) -> None:
            bar.update(task, description=text, advance=1, refresh=True)

        rows = measure(files, counts, preset, repeats, Path(folder), step)
    title = (
        f"{volumes} volumes of {'x'.join(map(str, source))} to {'x'.join(map(str, target))}; {cores()} cores; "
        f"load {environment['load']} before, {load():.2f} after"
    )
    print_table(title, [_cells(row) for row in rows])
    if csv is not None:
        shared = {**environment, "volumes": volumes, "source": "x".join(map(str, source)), "cores": cores()}
        append_csv(csv, [{**shared, "target": "x".join(map(str, target)), "repeats": repeats, **row} for row in rows])
    return 0


def write_files(folder: Path, volumes: int, source: Size) -> list[Path]:
    """Write copies of a volume, each a file of its own."""
    first = source_file(source)
    return [Path(shutil.copy(first, folder / f"volume_{number}.nii.gz")) for number in range(volumes)]


def measure(
    files: Sequence[Path],
    counts: Sequence[int],
    preset: CTPreset,
    repeats: int,
    folder: Path,
    step: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Return a row for each number of processes, the first of which is 1.

    Args:
        files: What to preprocess.
        counts: Numbers of processes.
        preset: Preprocessing.
        repeats: How often, in turns.
        folder: Where entries are written.
        step: Called after each measurement.
    """
    timings: dict[int, list[WorkerTiming]] = {count: [] for count in counts}
    spins: dict[int, list[float]] = {count: [] for count in counts}
    for number in range(repeats):
        for count in counts:
            timings[count].append(time_workers(files, count, preset, hu_source="fixed", cache_dir=folder))
            spins[count].append(spin(count))
            step(f"{count} processes: {number + 1} of {repeats}")
    alone = statistics.median(spins[1])
    return [_row(timings[count], timings[1], alone / statistics.median(spins[count])) for count in counts]


def _row(timings: list[WorkerTiming], single: list[WorkerTiming], machine: float) -> dict[str, Any]:
    volumes = timings[0].volumes
    wall = statistics.median(timing.wall_seconds for timing in timings)
    return {
        "workers": timings[0].workers,
        "volumes_a_second": volumes / wall,
        "wall_s": wall / volumes,
        "cpu_s": statistics.median(timing.cpu_seconds for timing in timings) / volumes,
        # of neighbours in time, so that what slows the machine slows both
        "efficiency": statistics.median(many.efficiency(one) for many, one in zip(timings, single, strict=True)),
        "machine": machine,
        "mb_read": timings[0].source_bytes / volumes / 1e6,
        "mb_written": timings[0].entry_bytes / volumes / 1e6,
    }


def _cells(row: dict[str, Any]) -> dict[str, str]:
    return {
        "processes": str(row["workers"]),
        "volumes/s": f"{row['volumes_a_second']:.3g}",
        "wall s a volume": f"{row['wall_s']:.3g}",
        "CPU s a volume": f"{row['cpu_s']:.3g}",
        "efficiency": f"{row['efficiency']:.3f}",
        "machine's own": f"{row['machine']:.3f}",
        "MB read": f"{row['mb_read']:.3g}",
        "MB written": f"{row['mb_written']:.3g}",
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 2 if it was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__.split("\n\n")[0])
    parser.add_argument("--volumes", type=positive, default=16, metavar="N", help="files (16)")
    parser.add_argument(
        "--source", type=positive, nargs=3, default=SOURCE, metavar=("D", "H", "W"), help="(300 512 512)"
    )
    parser.add_argument("--target", type=positive, nargs=3, default=GRID, metavar=("D", "H", "W"), help="(240 480 480)")
    parser.add_argument("--workers", type=positive, nargs="+", default=[2], metavar="N", help="processes beside 1 (2)")
    parser.add_argument("--repeats", type=positive, default=3, metavar="N", help="(3)")
    parser.add_argument("--csv", metavar="FILE", help="append the rows to this file")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    args = parser.parse_args(argv)
    try:
        return run(
            args.volumes,
            tuple(args.source),
            tuple(args.target),
            args.workers,
            args.repeats,
            args.csv,
            progress=not args.no_progress,
        )
    except CTVLMError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
