"""What a film costs in HU: ``python -m benchmarks.film_errors [--volume CT.nii.gz] [--slices N]``.

Every way that a volume can go through 8 bits or a film is taken there and back, and compared with the HU it started
from, within the window of the paper (-1000 to 200). Without ``--volume`` it is the phantom of the other benchmarks,
whose noise is white: a codec keeps less of it than of a scanner's noise.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.transforms import film_error, hu_to_frames, load_on_grid, read_mp4, write_mp4

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FILMS = {
    "libx264 crf 0": {},
    "libx264 crf 0, limited range": {"color_range": "limited"},
    "libx264 crf 18": {"crf": 18},
    "libx264 crf 18, limited range": {"crf": 18, "color_range": "limited"},
    "libx264 crf 23": {"crf": 23},
    "libx265 crf 0": {"codec": "libx265"},
    "libx264rgb crf 0": {"codec": "libx264rgb"},
    "ffv1": {"codec": "ffv1"},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Print one line a way."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--volume", type=Path, help="a scan; brought to the grid of the preset absteering")
    parser.add_argument("--slices", type=int, default=240, help="slices from the middle (all 240)")
    args = parser.parse_args(argv)
    hu = _volume(args.volume, args.slices)
    frames = hu_to_frames(hu)
    print(f"{hu.shape[0]} slices of {hu.shape[1]} x {hu.shape[2]}; HU errors within [-1000, 200]")
    print(f"{'way':<30} {'mean':>6} {'99 %':>6} {'max':>7} {'rms':>6} {'MiB':>7} {'write s':>8} {'read s':>7}")
    _print_row("8 bits in memory", hu, frames, f"{frames.nbytes / 2**20:7.2f}")
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in FILMS.items():
            path, start = Path(folder, "film.mp4"), time.process_time()
            write_mp4(frames, path, **settings)
            middle = time.process_time()
            found = read_mp4(path)
            times = f"{middle - start:8.2f} {time.process_time() - middle:7.2f}"
            _print_row(name, hu, found, f"{path.stat().st_size / 2**20:7.2f} {times}")
    return 0


def _volume(path: Path | None, slices: int) -> NDArray[np.int16]:
    """Return the middle slices of a scan, or of the phantom, on the paper's grid."""
    if path is None:
        from benchmarks.ops._volumes import GRID, source_volume

        hu = source_volume(GRID)
    else:
        hu = load_on_grid(path, "absteering").array
    first = max(0, (len(hu) - slices) // 2)
    return np.ascontiguousarray(hu[first : first + slices])


def _print_row(name: str, hu: NDArray[np.int16], frames: NDArray[np.uint8], rest: str) -> None:
    error = film_error(hu, frames)
    print(f"{name:<30} {error.mean:6.2f} {error.p99:6.2f} {error.max:7.1f} {error.rms:6.2f} {rest}")


if __name__ == "__main__":
    raise SystemExit(main())
