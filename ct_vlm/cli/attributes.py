"""Measure organs and lesions of a scan from its masks; print the prompt text and a table.

Masks are a folder with one NIfTI file a structure (heart.nii.gz, lung_upper_lobe_left.nii.gz), or one label map with
--labels, a JSON file such as {"liver": 5, "right lung": [12, 13, 14]}. Files are only read.

With --radgenome every volume of a RadGenome-ChestCT download is measured on its anatomy masks; --out gets one JSON
file a volume, which the data module's `attributes` reads. A run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ct_vlm.cli.errors import UsageError
from ct_vlm.cli.output import complain, say, say_table
from ct_vlm.cli.types import positive

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from ct_vlm.attributes import LesionGroup, MaskKind, PatientAttributes

_ABSENT = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ct-vlm attributes``."""
    parser.add_argument("--volume", type=Path, metavar="FILE", help="the scan; masks must lie on its grid")
    parser.add_argument("--masks", type=Path, metavar="PATH", help="folder of mask files, or a label map")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="JSON: names of a label map's values")
    parser.add_argument("--reference", action="store_true", help="people drew the masks (default: a model did)")
    parser.add_argument("--max-listed", type=positive, default=10, metavar="N", help="lesions of a kind named (10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every value as JSON")
    many = parser.add_argument_group("a whole download")
    many.add_argument("--radgenome", type=Path, metavar="DIR", help="folder that holds RadGenome-ChestCT's dataset/")
    many.add_argument("--out", type=Path, metavar="DIR", help="where VOLUME.json goes")
    many.add_argument("--split", choices=("train", "valid"), help="only that split (default: both)")
    many.add_argument("--workers", type=int, metavar="N", help="processes; 0 for none (default: what fits)")
    many.add_argument("--no-progress", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Measure one scan, or every scan of a download."""
    if args.radgenome is not None:
        return _measure_all(args)
    if args.volume is None or args.masks is None:
        cause = "Nothing to measure: `--volume` and `--masks` are needed."
        raise UsageError(cause, "Or pass `--radgenome DIR --out DIR` for a whole download.")
    if args.out is not None or args.split is not None:
        cause = "`--out` and `--split` belong to `--radgenome`."
        raise UsageError(cause, "Write the values of one scan with `--json FILE`.")
    return _measure_one(args)


def _measure_all(args: argparse.Namespace) -> int:
    """Measure every volume of a download; 1 if some could not be."""
    from ct_vlm.datasets.radgenome import measure_radgenome

    if args.out is None or any(value is not None for value in (args.volume, args.masks, args.labels, args.json)):
        cause = "`--radgenome` needs `--out`, and takes no `--volume`, `--masks`, `--labels` or `--json`."
        raise UsageError(cause, "Pass `--radgenome DIR --out DIR`.")
    done = measure_radgenome(
        args.radgenome,
        args.out,
        split=args.split,
        kind="reference" if args.reference else "pseudo",
        workers=args.workers,
        progress=not args.no_progress,
    )
    for name, problem in sorted(done.failed.items()):
        complain(f"{name}: {problem}")
    say(f"{len(done.made)} measured, {len(done.present)} were there, {len(done.failed)} failed; in {args.out}")
    return 1 if done.failed else 0


def _measure_one(args: argparse.Namespace) -> int:
    """Measure one scan."""
    from ct_vlm.attributes import measure_attributes, read_masks, render_attributes
    from ct_vlm.attributes.grids import volume_grid

    if args.json is not None and (args.json.is_dir() or not args.json.resolve().parent.is_dir()):
        cause = f"Cannot write `{args.json}`: it is a folder, or its folder does not exist."
        raise UsageError(cause, "Make the folder first, and pass the name of a file.")
    kind: MaskKind = "reference" if args.reference else "pseudo"
    grid = volume_grid(args.volume)
    masks = read_masks(args.masks, args.labels, grid=grid, kind=kind, only_known=True)
    name = args.volume.name.removesuffix(".gz").removesuffix(".nii")
    attributes = measure_attributes(masks, volume_id=name)
    say(render_attributes(attributes, max_listed=args.max_listed))
    say("")
    say_table(
        "attributes", ("what", "volume mL", "diameter mm", "across mm", "where", "slice", "imaged"), _rows(attributes)
    )
    if args.json is not None:
        attributes.save(args.json)
    return 0


def _rows(attributes: PatientAttributes) -> Iterator[tuple[str, ...]]:
    """Yield a row for each organ and lesion."""
    for organ in attributes.organs:
        name = f"{organ.side} {organ.name}" if organ.side else organ.name
        yield name, f"{organ.volume_ml:.1f}", _ABSENT, _ABSENT, _ABSENT, _ABSENT, _imaged(organ.is_partial)
    yield from _lesion_rows("lung nodule", attributes.nodules)
    for fluid in attributes.effusions or ():
        thick = f"{fluid.thickness_mm:.1f} thick"
        where = fluid.side or "side unknown"
        yield "pleural effusion", f"{fluid.volume_ml:.1f}", thick, _ABSENT, where, _ABSENT, _imaged(fluid.is_partial)
    yield from _lesion_rows("kidney cyst", attributes.cysts)


def _lesion_rows(kind: str, group: LesionGroup | None) -> Iterator[tuple[str, ...]]:
    """Yield a row for each lesion of a kind."""
    for number, lesion in enumerate(group.lesions if group else (), start=1):
        where = ", ".join(part for part in (lesion.place, lesion.level and f"{lesion.level} third") if part)
        sizes = (lesion.volume_ml or 0, lesion.diameter_mm, lesion.short_mm or 0)
        texts = (f"{sizes[0]:.2f}", f"{sizes[1]:.1f}", f"{sizes[2]:.1f}")
        yield f"{kind} {number}", *texts, where or _ABSENT, str(lesion.slice_index), _imaged(lesion.is_partial)


def _imaged(is_partial: bool) -> str:
    """Say whether an organ or lesion is in the volume as a whole."""
    return "partially" if is_partial else "whole"
