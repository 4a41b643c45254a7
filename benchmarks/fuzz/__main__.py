"""Read damaged and hostile volumes and count how that ends.

Every file must end in a clear error, or in what nibabel and the standard library find in the same
bytes. A crash or a hang of the reading process, a wrong volume and a file that was changed are
failures; so is memory far beyond what the file can hold.
"""

from __future__ import annotations

import argparse
import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ct_vlm.cli.types import positive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OUTCOMES = ("refused", "read", "wrong", "crash", "hang", "memory")
FAILURES = frozenset(OUTCOMES[2:])
MOST_MIB = 64.0
"""Growth of the reading process that a file of a few kilobytes may cause; a bomb here holds 16 MiB."""


def fuzz(files: int, seed: int, patience_s: float, step: Callable[[], None] = lambda: None) -> list[dict[str, Any]]:
    """Judge damaged files in a process of their own, started again whenever it crashes or hangs.

    Args:
        files: How many.
        seed: Seed of the run.
        patience_s: Seconds after which a file counts as a hang (imports included).
        step: Called after each file.

    Returns:
        One record a file.
    """
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        while len(found) < files:
            command = [sys.executable, "-m", "benchmarks.fuzz.worker", folder, str(len(found)), str(files), str(seed)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 (fixed)
                end = _collect(process, found, patience_s, step)
            if len(found) < files:
                found.append({"number": len(found), "kind": "?", **end, "grown_mib": 0.0})
                step()
    return found


def _collect(
    process: subprocess.Popen[str], found: list[dict[str, Any]], patience_s: float, step: Callable[[], None]
) -> dict[str, str]:
    """Take records until the process ends or is silent for too long; return how it ended."""
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=patience_s)
        except queue.Empty:
            process.kill()
            return {"outcome": "hang", "detail": f"no answer in {patience_s:g} s"}
        if line is None:
            return {"outcome": "crash", "detail": f"the process ended with code {process.wait()}"}
        record = json.loads(line)
        if record["outcome"] not in FAILURES and record["grown_mib"] > MOST_MIB:
            record |= {"outcome": "memory", "detail": f"grew by {record['grown_mib']} MiB"}
        found.append(record)
        step()


def _pump(source: IO[str] | None, lines: queue.Queue[str | None]) -> None:
    """Hand lines on, and None at the end."""
    for line in source or ():
        lines.put(line)
    lines.put(None)


def main(argv: Sequence[str] | None = None) -> int:
    """Print counts by kind and the failures; 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--files", type=positive, default=10_000, metavar="N", help="default 10000")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--patience", type=float, default=120.0, metavar="S", help="seconds that count as a hang (120)")
    args = parser.parse_args(argv)
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("Fuzzing", total=args.files)
        found = fuzz(args.files, args.seed, args.patience, lambda: bar.advance(task))
    table = Table("damage", *OUTCOMES)
    for kind in sorted({record["kind"] for record in found}):
        counts = Counter(record["outcome"] for record in found if record["kind"] == kind)
        table.add_row(kind, *(str(counts[outcome]) for outcome in OUTCOMES))
    Console().print(table)
    failures = [record for record in found if record["outcome"] in FAILURES]
    for record in failures[:50]:
        print(json.dumps(record))
    print(f"{len(found)} files, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
