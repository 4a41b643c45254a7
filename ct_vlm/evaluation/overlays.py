"""Pictures of grounded reports: the slice of each region with its mask, and what was written of it."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.batch import CANONICAL_AXCODES
from ct_vlm.errors import ShapeError
from ct_vlm.files import atomic_path
from ct_vlm.models.mask_inputs import oriented, union

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ct_vlm.attributes import MaskSet
    from ct_vlm.models import GroundedRegion, GroundedReport
    from ct_vlm.transforms import Volume

    Window = tuple[float, float]

SOFT_TISSUE: Window = (-160.0, 240.0)
LUNG: Window = (-1350.0, 150.0)
BONE: Window = (-450.0, 1050.0)
_WINDOWS = (("lung", LUNG), ("airway", LUNG), ("trachea", LUNG), ("pleura", LUNG), ("bone", BONE), ("osseous", BONE))
_COLOR = "#ffb000"  # told from grey by people with any colour vision
_COLUMNS = 64  # characters of a line of text below a picture
_MAX_LINES = 12


def write_overlays(
    report: GroundedReport, volume: Volume, masks: MaskSet, folder: str | Path, *, window: Window | None = None
) -> list[Path]:
    """Write one PNG a region: its axial slice, the outline of its mask, and its text.

    Args:
        report: What :func:`ct_vlm.models.generate_grounded` returned.
        volume: The scan, in any orientation.
        masks: The masks that the report was written with.
        folder: Where pictures go; made if absent. A picture of the same name is replaced.
        window: HU that are black and white; by default that of the lung, of bone or of soft tissue, by
            the region's name.

    Returns:
        The files, in the order of the regions.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, region in enumerate(report.regions, start=1):
        name = "_".join(part for part in (report.volume_id, f"{number:02d}", _file_name(region.name)) if part)
        figure = region_overlay(report, region, volume, masks, window=window)
        with atomic_path(target / f"{name}.png") as temporary:
            # without a date: the same picture has the same bytes
            figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
        paths.append(target / f"{name}.png")
    return paths


def region_overlay(
    report: GroundedReport, region: GroundedRegion, volume: Volume, masks: MaskSet, *, window: Window | None = None
) -> Figure:
    """Draw one region as radiologists look at it: the patient's right is on the left, the front on top.

    Args:
        report: Says who drew the masks, and the whole text where regions have none of their own.
        region: One of its regions.
        volume: The scan, in any orientation.
        masks: The masks that the report was written with.
        window: As for :func:`write_overlays`.

    Raises:
        ShapeError: If masks and scan are not of one shape.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.attributes import MaskSet
        >>> from ct_vlm.evaluation import region_overlay
        >>> from ct_vlm.models import GroundedRegion, GroundedReport
        >>> from ct_vlm.transforms import Volume
        >>> from ct_vlm.transforms.orientation import affine_from_spacing
        >>> affine = affine_from_spacing((5, 1, 1), "IPL")
        >>> volume = Volume(np.zeros((4, 8, 8), np.int16), (5, 1, 1), affine)
        >>> masks = MaskSet({"heart": np.ones((4, 8, 8), bool)}, affine=affine)
        >>> heart = GroundedRegion("heart", "Normal.", ("heart",), 1.3, True, 0, 2, -10.0, True)
        >>> report = GroundedReport("Heart: Normal.", (heart,), "scan", masks.provenance)
        >>> print(region_overlay(report, heart, volume, masks).get_suptitle())
        heart; 1 mL
        slice 2 of the file (-10.0 mm), 0 of the model
    """
    from matplotlib.figure import Figure

    scan = oriented(volume, CANONICAL_AXCODES)
    if scan.shape != masks.shape:
        cause = f"The masks have the shape {masks.shape}, but the scan {scan.shape}."
        raise ShapeError(cause, "Pass the masks that the report was written with.")
    lines = _below(report, region)
    high = scan.shape[1] * scan.spacing[1] / (scan.shape[2] * scan.spacing[2]) * 6.0
    figure = Figure(figsize=(6.4, high + 0.9 + 0.2 * len(lines)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    figure.suptitle(_title(region), fontsize=10)
    _draw(axes, scan, masks, region, window or _window_of(region.name))
    text = "\n".join(lines)
    axes.text(0.0, -0.02, text, transform=axes.transAxes, va="top", fontsize=9, family="monospace", parse_math=False)
    return figure


def region_slice(region: GroundedRegion, volume: Volume, masks: MaskSet) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Return the slice of a region on the scan's own grid, and its mask there.

    Args:
        region: A region whose slice lies in the file.
        volume: The scan, in any orientation.
        masks: On the same grid.

    **Shape:**
        - image and mask: ``(H, W)``.

    Raises:
        ShapeError: If the slice lies in the padding.
    """
    if region.file_slice is None:
        cause = f"The slice of {region.name!r} lies in the padding beside the scan."
        raise ShapeError(cause, "There is nothing to show.")
    index = masks.slice_number(region.file_slice)  # its own inverse
    return oriented(volume, CANONICAL_AXCODES).array[index], union(masks, region.masks)[index]


def _draw(axes: Axes, scan: Volume, masks: MaskSet, region: GroundedRegion, window: Window) -> None:
    """Draw a slice in millimetres, the outline of the mask, and the sides."""
    _, height, width = scan.shape
    if region.file_slice is None:
        axes.text(0.5, 0.5, "beside the scan", ha="center", transform=axes.transAxes)
        return
    image, mask = region_slice(region, scan, masks)
    extent = (0.0, width * scan.spacing[2], height * scan.spacing[1], 0.0)
    axes.imshow(image, cmap="gray", vmin=window[0], vmax=window[1], extent=extent, interpolation="nearest")
    if mask.any():
        x = (np.arange(-1, width + 1) + 0.5) * scan.spacing[2]
        y = (np.arange(-1, height + 1) + 0.5) * scan.spacing[1]
        # a frame of zeros closes outlines at the border
        axes.contour(x, y, np.pad(mask, 1).astype(float), levels=[0.5], colors=[_COLOR], linewidths=1.2)
    for side, place in (("R", 0.02), ("L", 0.98)):
        axes.text(
            place, 0.5, side, transform=axes.transAxes, color="white", ha="center", va="center", fontweight="bold"
        )


def _title(region: GroundedRegion) -> str:
    """Return what stands above a picture."""
    where = "no slice of the file" if region.file_slice is None else f"slice {region.file_slice} of the file"
    mask = "" if region.is_present else ("; mask is empty" if region.masks else "; no mask")
    size = f"; {region.volume_ml:.0f} mL" if region.is_present and region.volume_ml is not None else ""
    return f"{region.name}{size}{mask}\n{where} ({region.position_mm:.1f} mm), {region.slice_index} of the model"


def _below(report: GroundedReport, region: GroundedRegion) -> list[str]:
    """Return the lines below a picture: the text, then who drew the mask."""
    text = report.report if region.text is None else region.text
    lines = [line for part in text.splitlines() or [""] for line in textwrap.wrap(part, _COLUMNS) or [""]]
    if len(lines) > _MAX_LINES:
        lines = [*lines[: _MAX_LINES - 1], "(cut; the whole text is in the report)"]
    if region.text is None:
        lines = ["Whole report (no part for this region):", *lines]
    source = report.mask_provenance
    return [*lines, "", *textwrap.wrap(f"mask: {source.kind}, {Path(source.source).name} {source.identity}", _COLUMNS)]


def _window_of(name: str) -> Window:
    """Return the window that a region is looked at in."""
    return next((window for word, window in _WINDOWS if word in name.lower()), SOFT_TISSUE)


def _file_name(name: str) -> str:
    """Return a region's name as part of a file's name."""
    return re.sub(r"[^\w-]+", "_", name).strip("_") or "region"
