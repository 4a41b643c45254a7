"""A report with what each of its parts rests on: region, slice, mask."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct_vlm.attributes import MaskProvenance, PatientAttributes


@dataclass(frozen=True)
class GroundedRegion:
    """One region of a scan: what was written of it, and where the model looked.

    Args:
        name: The region.
        text: What the report says of it; None where the report has no part of its own for the region.
        masks: Names of the masks that it is the union of; empty if no mask of it was found.
        volume_ml: Size of the mask on the scan's own grid; None without a mask.
        is_present: Whether the mask holds a voxel on the model's grid.
        slice_index: Representative slice, from 0, on the model's grid: the one with most of the mask. For a region
            that is not present it is the fallback of :func:`ct_vlm.ops.region_pool.representative_slices`.
        file_slice: The same slice as the file numbers it, from 0; None where it lies in the padding.
        position_mm: Its coordinate along the body, as RAS+ counts (toward the head).
        in_detail: Whether R² pooling kept that slice's own tokens; False if the model has no such pooling, or it
            chose other slices.
    """

    name: str
    text: str | None
    masks: tuple[str, ...]
    volume_ml: float | None
    is_present: bool
    slice_index: int
    file_slice: int | None
    position_mm: float
    in_detail: bool

    @property
    def is_fallback(self) -> bool:
        """Whether the slice stands in for a region without a mask."""
        return not self.is_present


@dataclass(frozen=True)
class GroundedReport:
    """A report, its regions, and where the masks and attributes behind it come from.

    Args:
        report: The whole report.
        regions: Its regions, in the order of the masks that the model got.
        volume_id: Name of the scan.
        mask_provenance: Who drew the masks.
        attributes: What was measured on them and put into the prompt; None if the model reads none.

    Example:
        >>> from ct_vlm.attributes import MaskProvenance
        >>> from ct_vlm.models import GroundedRegion, GroundedReport
        >>> heart = GroundedRegion("heart", "Normal size.", ("heart",), 640.0, True, 11, 40, -92.5, True)
        >>> report = GroundedReport("Heart: Normal size.", (heart,), "a", MaskProvenance("pseudo", "net"))
        >>> report["heart"].file_slice, report.to_dict()["regions"][0]["mask_provenance"]["kind"]
        (40, 'pseudo')
    """

    report: str
    regions: tuple[GroundedRegion, ...]
    volume_id: str
    mask_provenance: MaskProvenance
    attributes: PatientAttributes | None = None

    def __getitem__(self, name: str) -> GroundedRegion:
        """Return a region by its name."""
        for region in self.regions:
            if region.name == name:
                return region
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values; each region names the source of its mask."""
        source = self.mask_provenance.to_dict()
        regions = [
            {
                **asdict(region),
                "masks": list(region.masks),
                "is_fallback": region.is_fallback,
                "mask_provenance": source,
            }
            for region in self.regions
        ]
        return {
            "report": self.report,
            "volume_id": self.volume_id,
            "regions": regions,
            "mask_provenance": source,
            "attributes": None if self.attributes is None else self.attributes.to_dict(),
        }
