"""Masks to patient attributes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ct_vlm.attributes.effusions import measure_effusions
from ct_vlm.attributes.lesions import measure_lesions
from ct_vlm.attributes.organs import SIDES, organ_masks, organ_volumes
from ct_vlm.attributes.result import PatientAttributes
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ct_vlm.attributes.masks import MaskSet
    from ct_vlm.attributes.organs import OrganMasks
    from ct_vlm.attributes.result import Side


@dataclass(frozen=True)
class AttributeConfig:
    """What counts as a lesion. All values are inferred: the paper gives none.

    Args:
        min_lesion_mm: Smaller nodules and cysts, by the sphere of the same volume, are noise.
        min_effusion_ml: Smaller parts of an effusion are noise.
        max_lesions: Lesions of a kind that are measured; further ones are counted.

    Raises:
        ConfigError: If a value is negative, or no lesion would be measured.
    """

    min_lesion_mm: float = 3.0
    min_effusion_ml: float = 1.0
    max_lesions: int = 100

    def __post_init__(self) -> None:
        """Check the values."""
        if not (self.min_lesion_mm >= 0 and self.min_effusion_ml >= 0 and self.max_lesions >= 1):
            cause = f"Expected sizes of at least 0 and `max_lesions` of at least 1, but got {self}."
            raise ConfigError(cause, "Leave the defaults, or pass millimetres and millilitres.")


def measure_attributes(
    masks: MaskSet, config: AttributeConfig | None = None, *, volume_id: str = ""
) -> PatientAttributes:
    """Measure organs and lesions on the grid of the masks, which should be the scan's own.

    Deterministic, and independent of the order and direction of the file's axes.

    Args:
        masks: Of the scan, see :class:`ct_vlm.attributes.MaskSet`; names are understood as
            :func:`ct_vlm.attributes.names.find_structure` says, others are left alone.
        config: What counts as a lesion.
        volume_id: Kept with the result.

    Returns:
        Volumes of lungs, heart, liver and kidneys; nodules, effusions and cysts. What has no mask
        is absent, not zero.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.attributes import MaskSet, measure_attributes, render_attributes
        >>> lung, nodule = np.zeros((2, 10, 10, 10), bool)
        >>> lung[1:9, 1:9, 1:9], nodule[4:6, 4:6, 4:7] = True, True
        >>> masks = MaskSet({"lung_upper_lobe_left": lung, "lung_nodules": nodule}, spacing=(2, 2, 2))
        >>> attributes = measure_attributes(masks)
        >>> attributes.nodules.lesions[0].place, round(attributes.nodules.lesions[0].diameter_mm, 1)
        ('left upper lobe', 6.3)

    References:
        MedRegion-CT, arXiv 2506.23102, section 3.4: volumes of lungs, heart, liver and kidney; count, diameter and
        location of nodules, effusion and cysts by a deterministic algorithm. Which algorithm is not
        said: every definition here is inferred.
    """
    settings = config or AttributeConfig()
    organs = organ_masks(masks)
    sizes = {"min_diameter_mm": settings.min_lesion_mm, "max_lesions": settings.max_lesions}
    kidneys = {_name("kidney", side): mask for side, mask in organs.kidneys.items()}
    return PatientAttributes(
        organs=organ_volumes(organs, masks.voxel_ml),
        nodules=measure_lesions(masks, "lung nodule", _lung_places(organs), common_level=True, **sizes),  # type: ignore[arg-type]
        effusions=measure_effusions(masks, organs.lungs, min_volume_ml=settings.min_effusion_ml),
        cysts=measure_lesions(masks, "kidney cyst", kidneys, common_level=False, **sizes),  # type: ignore[arg-type]
        provenance=masks.provenance,
        volume_id=volume_id,
    )


def _lung_places(organs: OrganMasks) -> dict[str, NDArray[np.bool_]]:
    """Return the lobes, and the lungs of sides that have none."""
    places = dict(organs.lobes)
    for side in (*SIDES, None):
        if side in organs.lungs and not any(name.startswith(f"{side} ") for name in organs.lobes):
            places[_name("lung", side)] = organs.lungs[side]
    return places


def _name(organ: str, side: Side | None) -> str:
    """Return an organ's name with its side."""
    return organ if side is None else f"{side} {organ}"
