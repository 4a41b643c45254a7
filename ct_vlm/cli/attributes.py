"""Measure organs and lesions of a scan from its masks; print the prompt text and a table.

Masks are a folder with one NIfTI file a structure (heart.nii.gz, lung_upper_lobe_left.nii.gz), or one label map with
--labels, a JSON file such as {"liver": 5, "right lung": [12, 13, 14]}. Files are only read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ct_vlm.cli.errors import UsageError
from ct_vlm.cli.output import say, say_table
from ct_vlm.cli.types import positive

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from ct_vlm.attributes import LesionGroup, MaskKind, PatientAttributes

_ABSENT = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ct-vlm attributes``."""
    parser.add_argument(
        "--volume", type=Path, required=True, metavar="FILE", help="the scan; masks must lie on its grid"
    )
    parser.add_argument(
        "--masks", type=Path, required=True, metavar="PATH", help="folder of mask files, or a label map"
    )
    parser.add_argument("--labels", type=Path, metavar="FILE", help="JSON: names of a label map's values")
    parser.add_argument("--reference", action="store_true", help="people drew the masks (default: a model did)")
    parser.add_argument("--max-listed", type=positive, default=10, metavar="N", help="lesions of a kind named (10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every value as JSON")


def run(args: argparse.Namespace) -> int:
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
