"""Write a scan as a film: MP4 of gray frames, as general video models read it.

The scan is brought to the preset's grid (absteering: 240 slices of 480 x 480) and its HU window to 8 bits; a slice
becomes a frame, from head to foot. With the default settings the file keeps those 8 bits exactly; --crf 18 or 23 make
it smaller at the price of errors, which --check measures. Needs PyAV: pip install "ct_vlm[video]".
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from ct_vlm.cli.errors import UsageError
from ct_vlm.cli.output import say, say_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ct_vlm.transforms import CTPreset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ct-vlm video``."""
    from ct_vlm.transforms.mp4 import Codec, ColorRange

    parser.add_argument("--volume", type=Path, required=True, metavar="FILE", help="the scan (NIfTI)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the film to write (*.mp4)")
    parser.add_argument("--preset", default="absteering", metavar="NAME", help="grid and HU window (absteering)")
    parser.add_argument("--window", type=float, nargs=2, metavar=("LOW", "HIGH"), help="HU window (the preset's)")
    parser.add_argument("--fps", type=_rate, default=18.0, metavar="N", help="frames a second (18)")
    parser.add_argument("--codec", choices=get_args(Codec), default="libx264", help="video codec (libx264)")
    parser.add_argument("--crf", type=_crf, default=0, metavar="N", help="0 keeps every byte (default), 51 is worst")
    parser.add_argument("--range", choices=get_args(ColorRange), default="full", help="range of luma (full)")
    parser.add_argument("--overwrite", action="store_true", help="replace a film that exists")
    parser.add_argument("--check", action="store_true", help="read the film back and print its errors in HU")


def run(args: argparse.Namespace) -> int:
    """Write the film; compare it with the scan if asked to."""
    if args.out.suffix.lower() != ".mp4" or not args.out.resolve().parent.is_dir():
        cause = f"Cannot write a film to `{args.out}`."
        raise UsageError(cause, "Name a file `*.mp4` in a folder that exists.")
    if args.out.exists() and not args.overwrite:
        cause = f"`{args.out}` exists."
        raise UsageError(cause, "Choose another name, or pass `--overwrite`.")
    from ct_vlm.transforms import get_preset, hu_to_frames, load_on_grid, write_mp4

    preset = get_preset(args.preset)
    window = _window(args.window, preset)
    volume = load_on_grid(args.volume, preset)
    frames = hu_to_frames(volume.array, window)
    write_mp4(frames, args.out, args.fps, codec=args.codec, crf=args.crf, color_range=args.range)
    depth, height, width = frames.shape
    say(
        f"{args.out}: {depth} frames of {height} x {width}, {depth / args.fps:.1f} s at {args.fps:g} fps, "
        f"HU {window[0]:g} to {window[1]:g}, {args.out.stat().st_size / 2**20:.2f} MiB"
    )
    if args.check:
        _check(volume.array, frames, args.out, window)
    return 0


def _window(asked: list[float] | None, preset: CTPreset) -> tuple[float, float]:
    """Return the asked-for window, or the preset's only one."""
    if asked is not None:
        return asked[0], asked[1]
    if len(preset.windows) != 1:
        cause = f"The preset `{preset.name}` has {len(preset.windows)} windows, and a gray film shows one."
        raise UsageError(cause, "Choose it with `--window LOW HIGH`.")
    return preset.windows[0]


def _check(hu: NDArray[np.int16], frames: NDArray[np.uint8], film: Path, window: tuple[float, float]) -> None:
    """Print errors of the frames in memory and of the film."""
    from ct_vlm.transforms import film_error, read_mp4

    ways = {"8 bits in memory": film_error(hu, frames, window), "film": film_error(hu, read_mp4(film), window)}
    rows = [(name, *(f"{value:.2f}" for value in (e.mean, e.p99, e.max, e.rms))) for name, e in ways.items()]
    say_table("error in HU within the window", ("way", "mean", "99 %", "max", "rms"), rows)
    say(f"{ways['film'].clipped:.1%} of the voxels lie outside the window")


def _rate(text: str) -> float:
    """Parse a positive number."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        msg = f"expected a positive number, but got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return value


def _crf(text: str) -> int:
    """Parse a constant rate factor."""
    if not text.isdecimal() or int(text) > 51:
        msg = f"expected an integer from 0 to 51, but got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)
