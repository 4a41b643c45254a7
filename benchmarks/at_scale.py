"""Hours and terabytes for all of CT-RATE, from a few measured volumes: ``python -m benchmarks.at_scale``.

``--measure`` preprocesses one synthetic file of 512 x 512 x 300 voxels with every preset, stage by stage, and as many
files with one and with two processes. CPU seconds, bytes and the speed-up are kept in
``benchmarks/results/at_scale.json``, the one place where the numbers below come from. Without it, the table in
``docs/data_path.md`` is made again from that file. Everything beyond one volume and two processes is extrapolated.
"""

from __future__ import annotations

import argparse
import os
import sys

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"

import json  # noqa: E402
import statistics  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

from benchmarks.environment import ROOT  # noqa: E402
from benchmarks.ops._volumes import GRID, SOURCE, source_file  # noqa: E402
from benchmarks.tables import environment_columns, progress_bar  # noqa: E402
from benchmarks.workers import measure as measure_workers  # noqa: E402
from benchmarks.workers import write_files  # noqa: E402
from ct_vlm.cli.types import positive  # noqa: E402
from ct_vlm.datasets.preprocessing import Estimate, time_workers  # noqa: E402
from ct_vlm.files import atomic_path, write_json  # noqa: E402
from ct_vlm.transforms import CTPreset, load_on_grid  # noqa: E402
from ct_vlm.transforms.nifti import open_nifti  # noqa: E402
from ct_vlm.transforms.preset_data import PRESET_SETTINGS  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VOLUMES = 50_188
"""Of CT-RATE, both splits."""
MACHINES = (1, 8, 64)
WORKERS = 16
"""Processes of a machine, each with a core of its own."""
COMPARED_WORKERS = 2
"""Processes whose speed-up over one is measured, and taken to hold for all of a machine."""
MEASURED = ROOT / "benchmarks/results/at_scale.json"
PAGE = ROOT / "docs/data_path.md"
BEGIN, END = "<!-- at scale: begin -->", "<!-- at scale: end -->"


def measure(
    presets: Sequence[str], source: tuple[int, int, int], repeats: int, files: int, *, progress: bool
) -> dict[str, Any]:
    """Return seconds and bytes of one volume for every preset, the speed-up, and where they were measured."""
    environment = environment_columns()
    file = source_file(source)
    rows = {}
    time_workers([file], 0, presets[0], hu_source="fixed")  # the first call imports what it needs
    with progress_bar(shown=progress) as bar:
        task = bar.add_task("decoding", total=len(presets) + 2)
        decode = _cpu_seconds(lambda: _decode(file), repeats)
        for name in presets:
            bar.update(task, description=name, advance=1, refresh=True)
            timings = [time_workers([file], 0, name, hu_source="fixed") for _ in range(repeats)]
            rows[name] = {
                "cpu_seconds": round(statistics.median(timing.cpu_seconds for timing in timings), 4),
                "grid_seconds": round(_cpu_seconds(lambda name=name: load_on_grid(file, name, "fixed"), repeats), 4),
                "source_bytes": timings[0].source_bytes,
                "entry_bytes": timings[0].entry_bytes,
            }
        bar.update(task, description="processes", advance=1, refresh=True)
        scaling = _scaling(source, files, repeats)
    where = {"environment": environment, "source": list(source), "repeats": repeats}
    return {**where, "decode_seconds": round(decode, 4), "scaling": scaling, "presets": rows}


def _cpu_seconds(call: Callable[[], object], repeats: int) -> float:
    """Return the median CPU time of a call."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times)


def _decode(file: Path) -> None:
    """Read every slice."""
    with open_nifti(file) as stream:
        for _ in stream.slices():
            pass


def _scaling(source: tuple[int, int, int], files: int, repeats: int) -> dict[str, Any]:
    """Return the efficiency of some processes beside one, and what the machine allows."""
    size = tuple(length * target // full for length, target, full in zip(source, GRID, SOURCE, strict=True))
    with tempfile.TemporaryDirectory(prefix="ct_vlm_at_scale_") as folder:
        written = write_files(Path(folder), files, source)
        counts = (1, COMPARED_WORKERS)
        row = measure_workers(written, counts, CTPreset("bench", size=size), repeats, Path(folder))[-1]
    return {"workers": COMPARED_WORKERS, "efficiency": round(row["efficiency"], 3), "machine": round(row["machine"], 3)}


def table(measured: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table: hours by number of machines, terabytes, and what disks must deliver."""
    hours = " | ".join(f"hours, {count} {'machine' if count == 1 else 'machines'}" for count in MACHINES)
    lines = [
        "| preset | CPU s a volume | decoding | resampling | compressing, writing "
        f"| {hours} | TB to read | TB of entries | GB/s read by {MACHINES[-1]} machines |",
        "|" + "---|" * (len(MACHINES) + 8),
    ]
    decode, efficiency = measured["decode_seconds"], measured["scaling"]["efficiency"]
    for name, row in measured["presets"].items():
        whole = Estimate(name, 1, 0, 1, row["source_bytes"], row["cpu_seconds"], row["entry_bytes"]).scaled(VOLUMES)
        times = [whole.hours(WORKERS, count, efficiency) for count in MACHINES]
        stages = (decode, row["grid_seconds"] - decode, row["cpu_seconds"] - row["grid_seconds"])
        cells = [
            f"`{name}`",
            f"{row['cpu_seconds']:.2f}",
            *(f"{seconds:.2f}" for seconds in stages),
            *(f"{value:.2g}" for value in times),
            f"{whole.source_bytes / 1e12:.2f}",
            f"{whole.entry_bytes / 1e12:.2f}",
            f"{whole.source_bytes / times[-1] / 3600 / 1e9:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def note(measured: dict[str, Any]) -> str:
    """Return where the numbers come from, in a sentence."""
    where, scaling = measured["environment"], measured["scaling"]
    size = " x ".join(map(str, reversed(measured["source"])))
    return (
        f"Measured: CPU time and bytes of one synthetic volume of {size} (median of {measured['repeats']}; stages are "
        f"differences of runs that end after them; {where['processor']}, {where['date'][:10]}, load {where['load']}), "
        f"and {scaling['efficiency']:.0%} of the ideal speed-up by {scaling['workers']} processes, on a machine where "
        f"processes that share nothing reach {scaling['machine']:.0%}. "
        f"Extrapolated: {VOLUMES:,} volumes like it, {WORKERS} processes a machine at that speed-up, disks that keep "
        "up."
    )


def write_page(measured: dict[str, Any], page: Path) -> None:
    """Put the table between its marks in a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    block = "\n".join([BEGIN, *table(measured), "", note(measured), END])
    with atomic_path(page) as temporary:
        temporary.write_text(before + block + after, encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.at_scale", description=__doc__.split("\n\n")[0])
    parser.add_argument("--measure", action="store_true", help="measure anew before the table is made")
    parser.add_argument("--presets", nargs="+", metavar="NAME", help="to measure (all)")
    parser.add_argument(
        "--source", type=positive, nargs=3, default=SOURCE, metavar=("D", "H", "W"), help="(300 512 512)"
    )
    parser.add_argument("--repeats", type=positive, default=3, metavar="N", help="(3)")
    parser.add_argument("--files", type=positive, default=6, metavar="N", help="files for one and two processes (6)")
    parser.add_argument("--measured", type=Path, default=MEASURED, metavar="FILE", help="the measured numbers")
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE", help="the page with the table")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    args = parser.parse_args(argv)
    if args.measure:
        presets = args.presets or [settings["name"] for settings in PRESET_SETTINGS]
        found = measure(presets, tuple(args.source), args.repeats, args.files, progress=not args.no_progress)
        write_json(args.measured, found)
    measured = json.loads(args.measured.read_text(encoding="utf-8"))
    write_page(measured, args.page)
    sys.stdout.write("\n".join([*table(measured), "", note(measured)]) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
