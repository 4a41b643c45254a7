"""The documentation's page of measurements, generated from the rows that are kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.aims import AIMS, OURS, reached
from benchmarks.environment import ROOT
from benchmarks.rows import latest, read_rows
from benchmarks.summary import HEAD, by_case, cells, lines, number
from ct_vlm.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.aims import Aim
    from benchmarks.rows import Row

RESULTS = ROOT / "benchmarks" / "results"
DOCS = ROOT / "docs"
DEVICES = {"cpu": "CPU", "cuda": "GPU"}

INTRODUCTION = """\
# Benchmarks

Every op beside what else computes it, at CT-RATE's sizes. To repeat it (`pip install -e ".[test,bench]"`):

```sh
python -m benchmarks run --csv benchmarks/results/cpu.csv   # all ops, or name some
python -m benchmarks run --device cuda --csv benchmarks/results/cuda.csv
python -m benchmarks list                                   # ops, cases, providers
python -m benchmarks page                                   # this page from the files
```

An op is timed only if its tests pass. Its providers take turns in one process of one thread, so that
what slows the machine slows them all; compare within a table, not between tables.

- **forward** runs without gradients, **fwd + bwd** with them: medians in ms of the process's own CPU
  time, or of CUDA events on a GPU. **ratio** is the baseline's time over this one: above 1 is faster.
- **extra MiB** (forward / fwd + bwd): peak memory beside the inputs, results included; on a CPU the
  growth of the resident set in a call after the first.
- **off by** (results / gradients): largest difference to the reference in float64, relative to its
  largest value; float32 rounds at 6e-8.
- **of floor**: the least work of a forward pass (operations or bytes, whichever takes longer) at the
  speeds that a matrix product and a read of memory reached in the same run, over the time taken.

bfloat16 is not timed on CPUs, and Triton's interpreter not at all.
"""
NO_ROWS = {
    "cpu": "No run on a CPU is recorded.",
    "cuda": "No run on a GPU is recorded: speed there is unmeasured. The second command above measures it.",
}


def write_page(results: str | Path = RESULTS, docs: str | Path = DOCS) -> Path:
    """Write ``benchmarks.md`` and its plots.

    Args:
        results: Folder of CSV files.
        docs: Folder of the documentation.

    Returns:
        The page.
    """
    from benchmarks.plots import draw

    rows = latest(row for file in sorted(Path(results).glob("*.csv")) for row in read_rows(file))
    folder = Path(docs) / "benchmarks"
    for device in DEVICES:
        for op, of_op in _by_op(row for row in rows if row.device == device).items():
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(folder / picture_name(device, op)) as temporary:
                draw(of_op, temporary)
    page = Path(docs) / "benchmarks.md"
    with atomic_path(page) as temporary:
        temporary.write_text(render(rows), encoding="utf-8")
    return page


def render(rows: Sequence[Row]) -> str:
    """Return the page's text; rows are the latest of every case."""
    parts = [INTRODUCTION]
    for device, name in DEVICES.items():
        of_device = [row for row in rows if row.device == device]
        parts.append(f"## {name}\n")
        if not of_device:
            parts.append(f"{NO_ROWS[device]}\n")
            continue
        parts.append(_circumstances(of_device))
        if device == "cpu":
            parts.append(_aims(of_device))
        parts.extend(_section(device, op, of_op) for op, of_op in _by_op(of_device).items())
    return "\n".join(parts)


def picture_name(device: str, op: str) -> str:
    """Return the file name of an op's plot."""
    return f"{device}_{op}.png"


def _by_op(rows: Iterable[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.op, []).append(row)
    return dict(sorted(groups.items()))


def _circumstances(rows: Sequence[Row]) -> str:
    """Say where and when; several lines if the rows are of several runs."""
    heads = ("date (UTC)", "code", "processor", "torch", "triton", "threads", "load", "GFLOP/s", "GB/s")
    runs: dict[tuple[str, str, str, str, str, str], list[Row]] = {}
    for row in rows:
        key = (row.date, row.revision, row.processor, row.torch, row.triton, str(row.threads))
        runs.setdefault(key, []).append(row)
    table = []
    for key, of_run in runs.items():
        load = max(row.load for row in of_run)
        best = [max(getattr(row, name) or 0.0 for row in of_run) for name in ("gflops", "gbs")]
        table.append((*key, f"at most {load:.1f}", *map(number, best)))
    text = _table(heads, table)
    if any(row.tests != "passed" for row in rows):
        skipped = sorted({row.op for row in rows if row.tests != "passed"})
        text += f"\nTimed without their tests: {', '.join(skipped)}.\n"
    return text


def _aims(rows: Sequence[Row]) -> str:
    heads = ("what over `ct_vlm`'s", "ratio aimed at", "ratio reached", "")
    body = []
    for aim in AIMS:
        ratio = reached(aim, rows)
        verdict = "not measured" if ratio is None else "met" if ratio >= aim.at_least else "missed"
        body.append((_say(aim), number(aim.at_least), number(ratio), verdict))
    return _table(heads, body)


def _say(aim: Aim) -> str:
    mode = {"forward": "forward", "full": "forward + backward"}[aim.mode]
    by = "" if aim.ours == OURS else f", by {aim.ours}"
    return f"{aim.op} {aim.case}: {mode} {aim.quantity} of {aim.against}{by}"


def _section(device: str, op: str, rows: Sequence[Row]) -> str:
    parts = [f"### {op}\n", f"![{op}](benchmarks/{picture_name(device, op)})\n"]
    for case, of_case in by_case(rows).items():
        parts += [f"**{case}**, {', '.join(sorted({row.dtype for row in of_case}))}\n"]
        parts.append(_table(HEAD, [cells(line) for line in lines(of_case)]))
    return "\n".join(parts)


def _table(heads: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    rule = ["---"] + ["---:" if head not in {"why not", ""} else "---" for head in heads[1:]]
    rows = [heads, rule, *body]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows) + "\n"
