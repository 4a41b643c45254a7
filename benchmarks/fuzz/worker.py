"""The process that reads damaged files: it may crash or hang, and its parent counts that."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np

from benchmarks.fuzz.mutations import Seed, make_case
from benchmarks.fuzz.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Iterator

KIB = 1024
SHAPE = (13, 11, 7)


def healthy() -> Seed:
    """Return a small scan: air, lung, tissue and bone, x to the left, y to the back, z to the head."""
    rng = np.random.default_rng(0)
    values = rng.choice(np.array([-1000, -850, 40, 300], np.int16), SHAPE) + rng.integers(-9, 9, SHAPE)
    image = nib.Nifti1Image(values.astype(np.int16), np.diag([-0.7, -0.7, 1.5, 1.0]))
    raw = image.to_bytes()
    offset = int(image.header["vox_offset"]) or 352
    return Seed(raw[:offset], raw[offset:])


def results(folder: Path, start: int, stop: int, seed: int) -> Iterator[dict[str, object]]:
    """Damage, write, read and judge files, one after the other.

    Args:
        folder: Where each file is written; the one before is overwritten.
        start: First number.
        stop: Number after the last.
        seed: Seed of the run.
    """
    scan = healthy()
    for number in range(start, stop):
        case = make_case(number, seed, scan)
        path = folder / "scan.nii.gz"
        path.write_bytes(case.data)
        before = _peak_mib()
        outcome, detail = judge(path, case)
        if path.read_bytes() != case.data:
            outcome, detail = "wrong", "the file was changed"
        grown = round(_peak_mib() - before, 1)
        yield {"number": number, "kind": case.kind, "outcome": outcome, "detail": detail[:300], "grown_mib": grown}


def main() -> None:
    """Print one line of JSON a file: ``python -m benchmarks.fuzz.worker FOLDER START STOP SEED``."""
    folder, *numbers = sys.argv[1:]
    start, stop, seed = map(int, numbers)
    for result in results(Path(folder), start, stop, seed):
        print(json.dumps(result), flush=True)


def _peak_mib() -> float:
    """Return the largest resident set of this process so far; macOS counts bytes, Linux KiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / KIB if sys.platform != "darwin" else peak / KIB**2


if __name__ == "__main__":
    main()
