"""The part of `ct-vlm generate` that reads masks and shows what a report rests on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.cli.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from ct_vlm.attributes import MaskSet
    from ct_vlm.models import GroundedReport, VisionLanguageModel
    from ct_vlm.text import RegionScheme
    from ct_vlm.transforms import Volume

_NEED_MASKS = ("mask_labels", "mask_kind", "regions", "attributes", "overlay")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options about masks."""
    group = parser.add_argument_group("masks of regions, for models that read them (files are only read)")
    group.add_argument(
        "--masks",
        type=Path,
        metavar="DIR",
        help="folder with the masks of this volume (<name>/ or seg_<name>/ of files, or <name>.nii.gz), those files "
        "themselves, or a label map; on the volume's grid",
    )
    group.add_argument("--mask-labels", type=Path, metavar="FILE", help="JSON: names of a label map's values")
    group.add_argument("--mask-kind", choices=("pseudo", "reference"), help="drawn by a model (default) or by people")
    group.add_argument(
        "--regions", metavar="NAME|FILE", help="six, ten, or JSON: region to its mask or masks (default: the model's)"
    )
    group.add_argument(
        "--attributes", type=Path, metavar="FILE", help="what `ct-vlm attributes --json` wrote (default: measured)"
    )
    group.add_argument("--overlay", type=Path, metavar="DIR", help="one picture a region: slice, mask, text")


def check_arguments(args: argparse.Namespace) -> None:
    """Raise if there are options about masks but no masks, or pictures cannot be written.

    Raises:
        UsageError: If so.
    """
    given = [name for name in _NEED_MASKS if getattr(args, name) is not None]
    if given and args.masks is None:
        cause = f"`--{given[0].replace('_', '-')}` is about masks, but there is no `--masks`."
        raise UsageError(cause, "Pass `--masks DIR`, or leave it out.")
    if args.overlay is not None and args.overlay.exists() and not args.overlay.is_dir():
        cause = f"`--overlay {args.overlay}` is a file."
        raise UsageError(cause, "Name a folder.")


def write(
    args: argparse.Namespace, model: VisionLanguageModel, volume: Volume, generation: dict[str, Any]
) -> GroundedReport:
    """Write the report of a scan from it and its masks, and the pictures that were asked for."""
    from ct_vlm.attributes import PatientAttributes
    from ct_vlm.models import generate_grounded
    from ct_vlm.models.grounding import check_reads_masks, model_regions

    check_reads_masks(model)
    scheme = model_regions(model, read_regions(args.regions))
    attributes = None if args.attributes is None else PatientAttributes.load(args.attributes)
    masks = read_scan_masks(args, model, volume, scheme)
    report = generate_grounded(model, volume, masks, regions=scheme, attributes=attributes, **generation)
    if args.overlay is not None:
        from ct_vlm.evaluation import write_overlays

        write_overlays(report, volume, masks, args.overlay)
    return report


def read_scan_masks(
    args: argparse.Namespace, model: VisionLanguageModel, volume: Volume, scheme: RegionScheme
) -> MaskSet:
    """Read the masks of a scan; files of a folder that the model does not use are left unread.

    Raises:
        DatasetError: If there are none, or they lie on another grid.
    """
    from ct_vlm.attributes import find_masks, read_masks
    from ct_vlm.batch import CANONICAL_AXCODES
    from ct_vlm.errors import DatasetError
    from ct_vlm.models.grounding import attribute_keys
    from ct_vlm.models.mask_inputs import oriented
    from ct_vlm.models.segmenters import volume_name

    try:
        place = find_masks(args.masks, volume_name(volume))
    except DatasetError:
        # the masks themselves: a label map, or the folder of this volume
        if not (args.masks.is_file() or any(args.masks.glob("*.nii*"))):
            raise
        place = args.masks
    scan = oriented(volume, CANONICAL_AXCODES)
    measured = bool(attribute_keys(model)) and args.attributes is None
    return read_masks(
        place,
        args.mask_labels,
        grid=(scan.shape, scan.affine),
        kind=args.mask_kind or "pseudo",
        only=scheme.all_members,
        only_known=measured,
    )


def read_regions(value: str | None) -> str | dict[str, str | list[str]] | None:
    """Return the regions that an option names: a known scheme, or those of a JSON file.

    Args:
        value: ``six``, ``ten``, or a file.

    Raises:
        UsageError: If the file does not hold a region to mask mapping.

    Example:
        >>> from ct_vlm.cli.grounding import read_regions
        >>> read_regions("six")
        'six'
    """
    if value is None or value in {"six", "ten"}:
        return value
    cure = 'Pass six, ten, or a JSON file such as {"lungs": ["left lung", "right lung"], "heart": "heart"}.'
    try:
        regions = json.loads(Path(value).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        cause = f"`--regions {value}` cannot be read: {error}."
        raise UsageError(cause, cure) from error
    parts = regions.values() if isinstance(regions, dict) else [None]
    if not all(isinstance(p, str) or (isinstance(p, list) and all(isinstance(n, str) for n in p)) for p in parts):
        cause = f"`--regions {value}` holds no mapping of regions to masks."
        raise UsageError(cause, cure)
    return regions
