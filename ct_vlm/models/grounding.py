"""Reports from a scan and the masks of its regions, with the slice and the mask behind each part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.attributes import MaskSet, measure_attributes
from ct_vlm.batch import CANONICAL_AXCODES
from ct_vlm.errors import ConfigError
from ct_vlm.models.grounded_report import GroundedRegion, GroundedReport
from ct_vlm.models.mask_inputs import oriented, region_masks, with_own_grid
from ct_vlm.models.segmenters import volume_name
from ct_vlm.modules import AttributeText, MaskDrivenVisualExtractor, R2TokenPooling, ZoneConstrainedCrossAttention
from ct_vlm.modules.base import Connector
from ct_vlm.ops.region_pool import mask_slice_counts, representative_slices
from ct_vlm.text import MEDREGION_REGIONS, RADGENOME_REGIONS, parse_region_reports, region_scheme
from ct_vlm.text.region_scheme import RegionScheme
from ct_vlm.transforms import Volume, load_volume

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from ct_vlm.attributes import PatientAttributes
    from ct_vlm.features import Features
    from ct_vlm.models.mask_inputs import RegionMasks
    from ct_vlm.models.segmenters import Segmenter
    from ct_vlm.models.vlm import VisionLanguageModel

    Regions = str | Mapping[str, str | Sequence[str]] | RegionScheme

_MASKS = "region_masks"


def generate_grounded(
    model: VisionLanguageModel,
    volume: str | Path | Volume | Tensor,
    masks: MaskSet | Segmenter,
    *,
    regions: Regions | None = None,
    attributes: PatientAttributes | None = None,
    hu_source: str = "auto",
    mask_method: str = "nearest",
    **generation: Any,
) -> GroundedReport:
    """Write the report of one scan from it and the masks of its regions.

    Args:
        model: Its connectors read ``region_masks``, patient attributes, or both.
        volume: A NIfTI file or a loaded volume; a bare tensor has no grid for masks and is refused.
        masks: On the scan's own grid, or a segmenter that gives them.
        regions: ``ten``, ``six``, or a mapping of the model's regions to the masks that each is the union of
            (any names), see :func:`ct_vlm.text.region_scheme`. By default what the model was built for.
        attributes: Patient attributes, where the model reads them; by default measured on the masks.
        hu_source: Where HU come from, see :func:`ct_vlm.transforms.load_volume`.
        mask_method: ``nearest`` or ``majority``, as in :class:`ct_vlm.datasets.RadGenomeDataset`.
        generation: Options of the decoder's ``generate``.

    Raises:
        ConfigError: If the model reads no masks, has no preset, or was built for other regions.
        DatasetError: If masks and scan do not share a grid, or no mask is one of a region.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.decoders import small_report_decoder, train_bpe_tokenizer
        >>> from ct_vlm.encoders import SliceEncoder
        >>> from ct_vlm.models import CallableSegmenter, VisionLanguageModel, generate_grounded
        >>> from ct_vlm.modules import R2TokenPooling
        >>> from ct_vlm.transforms import CTPreset, Volume
        >>> from ct_vlm.transforms.orientation import affine_from_spacing
        >>> vit = {"model_type": "dinov2", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
        >>> encoder = SliceEncoder({**vit, "patch_size": 7, "image_size": 14}, (1,))
        >>> tokenizer = train_bpe_tokenizer(["clear lungs"], 270)
        >>> decoder = small_report_decoder(tokenizer, embed_dim=16, num_layers=1, num_heads=2)
        >>> preset = CTPreset("small", size=(4, 14, 14))
        >>> model = VisionLanguageModel(encoder, [R2TokenPooling((8,), 16)], decoder, preset=preset)
        >>> hu = np.full((8, 14, 14), 40, np.int16)
        >>> hu[4:6, 3:9, 3:9] = -800
        >>> scan = Volume(hu, (30, 20, 20), affine_from_spacing((30, 20, 20), "IPL"))
        >>> segmenter = CallableSegmenter(lambda volume: {"lung": volume.array < -500}, source="threshold")
        >>> lung = generate_grounded(model, scan, segmenter, max_new_tokens=1)["lung"]
        >>> lung.slice_index, lung.file_slice, lung.position_mm, round(lung.volume_ml)
        (2, 5, -135.0, 864)
    """
    source = with_own_grid(volume)
    check_reads_masks(model)
    if model.preset is None:
        msg = "The model has no preprocessing preset."
        raise ConfigError(msg, "Build it with `preset=...`.")
    scan = source if isinstance(source, Volume) else load_volume(source, hu_source)
    found = masks if isinstance(masks, MaskSet) else masks.segment(oriented(scan, CANONICAL_AXCODES))
    name = volume_name(scan) if scan.provenance.path else ""
    given = region_masks(scan, found, model_regions(model, regions), model.preset, method=mask_method)
    turned = oriented(scan, model.preset.axcodes)
    batch: dict[str, Any] = {"image": model.read_image(turned), "volume_id": [name]}
    device = batch["image"].device
    batch["spacing"] = torch.tensor([model.preset.resampled_spacing(turned)], device=device)
    batch[_MASKS] = torch.from_numpy(given.masks)[None].to(device)
    keys = attribute_keys(model)
    if keys:
        attributes = attributes or measure_attributes(found, volume_id=name)
        batch.update({key: [attributes] for key in keys})
    report, slices = _write(model, batch, generation)
    parts = _regions(report, given, slices)
    return GroundedReport(report, parts, name, found.provenance, attributes if keys else None)


@dataclass(frozen=True)
class RegionSlices:
    """The representative slice of each region of a batch.

    Args:
        index: Slice with most of the region's mask, on the model's grid; a fallback for empty masks.
        present: Whether the mask holds a voxel.
        in_detail: Whether the model's R² pooling kept that slice's own tokens.

    **Shape:**
        - index, present, in_detail: ``(B, R)``.
    """

    index: Tensor
    present: Tensor
    in_detail: Tensor


def region_slices(model: VisionLanguageModel, features: Features, batch: Mapping[str, Any]) -> RegionSlices:
    """Return the representative slice of each region.

    Args:
        model: Its R² pooling, if it has one, says which slices it kept.
        features: What the encoder made of the batch.
        batch: Holds ``region_masks``.

    Shape:
        - region_masks: ``(B, R, D, H, W)``.
    """
    masks = batch[_MASKS]
    padding = features.padding_mask
    real = None if padding is None else ~padding.bool().to(masks.device)
    index, present = representative_slices(mask_slice_counts(masks), real)
    pooling = next((part for part in model.connectors.modules() if isinstance(part, R2TokenPooling)), None)
    if pooling is None:
        return RegionSlices(index, present, torch.zeros_like(present))
    kept, _ = pooling.choose(features, batch)
    return RegionSlices(index, present, (index[..., None] == kept.to(index.device)[:, None]).any(-1))


def reads(model: VisionLanguageModel) -> set[str]:
    """Return the keys of a batch, besides the image, that a model's connectors look at.

    Args:
        model: Any model.
    """
    return {key for part in model.connectors.modules() if isinstance(part, Connector) for key in part.reads}


def needs(model: VisionLanguageModel) -> dict[str, str]:
    """Return the keys of a batch, besides the image, that a model cannot do without, and who needs each.

    Args:
        model: Any model.
    """
    parts = [part for part in model.connectors.modules() if isinstance(part, Connector)]
    return {key: type(part).__name__ for part in reversed(parts) for key in part.needs}


def attribute_keys(model: VisionLanguageModel) -> tuple[str, ...]:
    """Return the keys of a batch under which a model reads patient attributes.

    Args:
        model: Any model.
    """
    return tuple(dict.fromkeys(part.key for part in model.connectors.modules() if isinstance(part, AttributeText)))


def check_reads_masks(model: VisionLanguageModel) -> None:
    """Raise if a model would leave masks aside.

    Raises:
        ConfigError: If no connector reads masks or what is measured on them.
    """
    if not reads(model) & {_MASKS, *attribute_keys(model)}:
        parts = ", ".join(type(part).__name__ for part in model.connectors)
        cause = f"Masks were given, but the model reads none: its connectors are {parts}."
        raise ConfigError(cause, "Leave the masks out; the report does not depend on them.")


def check_needs_nothing(model: VisionLanguageModel) -> None:
    """Raise if a model cannot write a report from the scan alone.

    Raises:
        ConfigError: If a connector needs masks, attributes or chosen slices.
    """
    missing = needs(model)
    if missing:
        what = ", ".join(f"`{key}` ({part})" for key, part in missing.items())
        cause = f"The model needs more than the scan: {what}."
        raise ConfigError(cause, "Pass `masks` (`ct-vlm generate --masks DIR`), or call `generate_batch` with a batch.")


def model_regions(model: VisionLanguageModel, regions: Regions | None = None) -> RegionScheme:
    """Return the regions that a model reads masks of.

    Args:
        model: A model.
        regions: As for :func:`generate_grounded`.

    Raises:
        ConfigError: If they do not fit the model, or the model does not say and none are given.
    """
    count, asked = _num_regions(model), None if model.region_prompts is None else model.region_prompts.names
    if regions is None:
        named = {MEDREGION_REGIONS: "six", RADGENOME_REGIONS: "ten"}
        sized = {len(names): scheme for names, scheme in named.items()}
        known = sized.get(count or len(MEDREGION_REGIONS)) if asked is None else named.get(asked)
        if known is None:
            cause = f"The model reads masks of {count} regions, and it is not known which masks those are."
            raise ConfigError(cause, "Pass `regions`, a mapping of each region to its masks, in the model's order.")
        regions = known
    if isinstance(regions, RegionScheme):
        chosen = regions
    else:
        chosen = region_scheme(regions, "region" if isinstance(regions, str) else "anatomy")
    if count is not None and count != len(chosen.names):
        cause = f"The model reads masks of {count} regions, but `regions` names {len(chosen.names)}."
        raise ConfigError(cause, "Name the regions that it was trained with, in their order.")
    if asked is not None and asked != chosen.names:
        cause = f"The model writes of the regions {', '.join(asked)}, but `regions` names {', '.join(chosen.names)}."
        raise ConfigError(cause, "Use the model's names, in its order.")
    return chosen


def _num_regions(model: VisionLanguageModel) -> int | None:
    """Return the number of masks that a model's connectors are built for; None where any will do."""
    for part in model.connectors.modules():
        if isinstance(part, MaskDrivenVisualExtractor):
            return part.num_regions
        if isinstance(part, R2TokenPooling) and _MASKS in part.needs:
            return part.num_slow
        if isinstance(part, ZoneConstrainedCrossAttention) and _MASKS in part.needs:
            return part.num_zones
    return None


def _write(model: VisionLanguageModel, batch: dict[str, Any], generation: dict[str, Any]) -> tuple[str, RegionSlices]:
    """Return the report of a batch of one and the slices of its regions; the volume is encoded once."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            batch = {**batch, "features": model.encode_image(batch)}
            report = model.generate_batch(batch, **generation)[0]
            return report, region_slices(model, batch["features"], batch)
    finally:
        model.train(training)


def _regions(report: str, given: RegionMasks, slices: RegionSlices) -> tuple[GroundedRegion, ...]:
    """Join texts, masks and slices of the regions of one scan."""
    names = given.scheme.names
    texts = parse_region_reports(report, names)
    parts = []
    for number, name in enumerate(names):
        index = int(slices.index[0, number])
        stored = int(given.places.stored[index])
        parts.append(
            GroundedRegion(
                name=name,
                text=texts.get(name),
                masks=given.used[number],
                volume_ml=given.volume_ml[number],
                is_present=bool(slices.present[0, number]),
                slice_index=index,
                file_slice=stored if stored >= 0 else None,
                position_mm=float(given.places.position_mm[index]),
                in_detail=bool(slices.in_detail[0, number]),
            )
        )
    return tuple(parts)
