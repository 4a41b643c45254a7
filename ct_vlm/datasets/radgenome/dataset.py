"""RadGenome-ChestCT as a torch data set: volumes in HU, region masks, and a report a region."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import torch
from torch.utils.data import Dataset

from ct_vlm.attributes.provenance import MaskKind, MaskProvenance
from ct_vlm.cache import ArrayCache
from ct_vlm.datasets.by_patient import ByPatient
from ct_vlm.datasets.ct_rate import MissingText, check_choice
from ct_vlm.datasets.epoch_index import draw_seed, epoch_of
from ct_vlm.datasets.radgenome.attributes import AttributeFolder, MissingAttributes
from ct_vlm.datasets.radgenome.index import RadGenomeIndex, RadGenomeOptions
from ct_vlm.datasets.radgenome.layout import RadGenomeLayout
from ct_vlm.datasets.radgenome.mask_cache import MaskCache
from ct_vlm.datasets.radgenome.masks import MaskMethod, MaskMismatch
from ct_vlm.datasets.volumes import preprocessed
from ct_vlm.errors import ConfigError
from ct_vlm.text.labels import CT_RATE_LABELS
from ct_vlm.text.region_scheme import region_scheme
from ct_vlm.transforms import get_preset

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from ct_vlm.datasets.radgenome.index import RegionSample
    from ct_vlm.transforms import CTPreset

MissingMask = Literal["absent", "error"]
TextSource = Literal["regions", "whole"]


class RadGenomeDataset(ByPatient, Dataset[dict[str, Any]]):
    """Scans of RadGenome-ChestCT with masks and texts of regions, from the unpacked folders.

    The index is what the region reports and the disk have in common; what is left out or set right
    is listed in :attr:`report` and logged as a warning with counts. Archives and pickles are left
    alone.

    Images are int16 HU on the preset's grid; the data module windows them on the device. A region
    without a mask has a mask of zeros, and three flags tell why: ``region_mask_found`` (a file was
    there and could be used), ``region_present`` (and it holds a voxel on the grid; empty masks are
    normal) and ``region_text_present``. Nothing else ever stands in for a mask. Masks may overlap.

    Args:
        root: Folder that holds ``dataset/``, or that folder itself.
        split: ``train`` or ``valid`` (everyone's test set).
        regions: ``ten``, ``six`` (MedRegion-CT's, of which the breast is in none), or a mapping of
            names to what each is the union of, see
            :func:`ct_vlm.datasets.radgenome.region_scheme`.
        mask_level: ``region`` for the ten region masks, ``anatomy`` for those of lobes and organs
            (then ``regions`` is a mapping).
        preset: Preprocessing, by name, config or object.
        masks: Whether items hold masks.
        mask_mismatch: A mask on another grid than its volume (shape and affine) is an ``error``
            when it is read, or is ``resample``d by both affines, or is left out (``skip``).
        missing_mask: Regions without a file are ``absent``, or an ``error`` when the index is
            built; breast and thyroid, which most scans lack, are never one.
        mask_kind: ``pseudo`` for masks that a model drew, as those of the release; ``reference`` for
            those drawn by people. Kept with everything that rests on them.
        mask_method: How masks come to the preset's grid: the ``nearest`` voxel, or the ``majority``
            of a target voxel.
        text: ``regions`` merges the texts of the regions into the report in their order, ``whole``
            takes the row about the whole scan, ``None`` needs no table.
        region_template: How each region enters the merged report; fields ``{text}``,
            ``{region}``, ``{Region}``.
        missing_text: ``exclude`` scans without a text, or keep them with an ``empty`` report.
        labels: CT-RATE's label table, or several; RadGenome-ChestCT has none of its own.
        attributes: Folder of patient attributes, ``<volume>.json`` each, see
            :func:`ct_vlm.datasets.radgenome.measure_radgenome`; items hold what its ``to_dict`` gives.
        missing_attributes: A volume without such a file is an ``error``, or its attributes are
            ``absent`` (None).
        hu_source: As in :func:`ct_vlm.transforms.load_volume`; ``auto`` takes stored values for HU.
        patients: Keep these patients only.
        exclude: Volume names to leave out.
        augment: Called with item and seed, e.g. :class:`ct_vlm.transforms.FlipSafeAugmentation`.
        cache_dir: Where preprocessed volumes and masks are kept; ``None`` for no cache.
        cache_codec: How new ones are written, see :class:`ct_vlm.cache.ArrayCache`.
        check_files: Look volumes and masks up on disk; ``False`` trusts the tables (slow file
            systems) and finds missing masks when they are read.
        seed: Decides the augmentation.

    **Shape:**
        - image: ``(1, D, H, W)`` int16.
        - spacing: ``(3,)``.
        - region_masks: ``(R, D, H, W)`` uint8.
        - region_present, region_mask_found, region_text_present: ``(R,)`` bool.
        - slice_file_index, slice_position_mm: ``(D,)``, with masks and without augmentation.
        - labels: ``(18,)``.

    Raises:
        DatasetError: If folders, tables or masks are missing or malformed.
        ConfigError: If an argument has an unknown value.

    References:
        RadGenome-ChestCT, https://huggingface.co/datasets/RadGenome/RadGenome-ChestCT. Differs from
        the public code, which reads masks of ones or noise where files are missing or do not fit.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        regions: str | Mapping[str, str | Sequence[str]] = "ten",
        mask_level: str = "region",
        preset: str | CTPreset | Mapping[str, Any] = "phantom",
        masks: bool = True,
        mask_mismatch: str = "error",
        missing_mask: str = "absent",
        mask_kind: str = "pseudo",
        mask_method: str = "nearest",
        text: str | None = "regions",
        region_template: str = "{text}",
        missing_text: str = "exclude",
        labels: str | Path | Sequence[str | Path] | None = None,
        attributes: str | Path | None = None,
        missing_attributes: str = "error",
        hu_source: str = "auto",
        patients: Collection[str] | None = None,
        exclude: Collection[str] = (),
        augment: Callable[[dict[str, Any], int], dict[str, Any]] | None = None,
        cache_dir: str | Path | None = None,
        cache_codec: str = "zstd",
        check_files: bool = True,
        seed: int = 0,
    ) -> None:
        _check_choices(
            mask_kind=(mask_kind, MaskKind),
            mask_mismatch=(mask_mismatch, MaskMismatch),
            mask_method=(mask_method, MaskMethod),
            missing_attributes=(missing_attributes, MissingAttributes),
        )
        self.preset = get_preset(preset)
        self.scheme = region_scheme(regions, mask_level)
        self.mask_mismatch, self.missing_mask, self.mask_method = mask_mismatch, missing_mask, mask_method
        self.mask_kind, self.augment, self.seed, self.split = mask_kind, augment, seed, split
        self.cache = ArrayCache(cache_dir, cache_codec)
        self.hu_source = "fixed" if hu_source == "auto" else hu_source  # they are HU, wherever the tree lies
        options = RadGenomeOptions(
            scheme=self.scheme,
            masks=masks,
            text=text,
            region_template=region_template,
            missing_text=missing_text,
            missing_mask=missing_mask,
            labels=[labels] if isinstance(labels, str | Path) else list(labels or ()),
            patients=patients,
            exclude=exclude,
            check_files=check_files,
        )
        _check_options(options)
        index = RadGenomeIndex(RadGenomeLayout(root), split, options)
        self.layout, self.mask_folder = index.layout, index.mask_folder
        self.samples, self.report = index.build()
        self.has_text = text is not None
        self.attributes = None if attributes is None else AttributeFolder(Path(attributes), missing_attributes)
        if self.attributes is not None:
            self.attributes.check([sample.name.volume_id for sample in self.samples], augment)

    def __len__(self) -> int:
        """Return the number of scans."""
        return len(self.samples)

    @property
    def mask_cache(self) -> MaskCache | None:
        """Where masks are read, through the cache; ``None`` without masks."""
        if self.mask_folder is None:
            return None
        return MaskCache(
            self.mask_folder,
            self.scheme,
            self.preset,
            self.hu_source,
            self.mask_mismatch,
            self.mask_method,
            self.missing_mask,
            self.cache,
        )

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of the regions, in the order of the masks."""
        return self.scheme.names

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return an item.

        Args:
            index: Position; an :class:`ct_vlm.datasets.EpochIndex` also decides the augmentation.
        """
        sample = self.sample(index)
        arrays = preprocessed(sample, self.preset, self.hu_source, self.cache)
        item = {
            "image": torch.from_numpy(arrays["image"])[None],
            "spacing": torch.from_numpy(arrays["spacing"]).float(),
            **self.record(index),
        }
        mask_cache = self.mask_cache
        if mask_cache is not None:
            masks = mask_cache.read(sample)
            item["region_masks"] = torch.from_numpy(masks["masks"])
            item["region_mask_found"] = torch.from_numpy(masks["found"])
            if self.augment is None:  # which moves slices
                item["slice_file_index"] = torch.from_numpy(masks["stored"])
                item["slice_position_mm"] = torch.from_numpy(masks["position_mm"]).float()
        if self.augment is not None:
            item = self.augment(item, draw_seed(self.seed, "augment", epoch_of(index), int(index)))
        if "region_masks" in item:  # an augmentation may move a small region out of the volume
            item["region_present"] = item["region_masks"].flatten(1).any(1).bool()
        return item

    def record(self, index: int) -> dict[str, Any]:
        """Return an item without what is read from its volume and masks: no file is opened.

        Args:
            index: As in indexing.
        """
        sample = self.sample(index)
        item: dict[str, Any] = {
            "volume_id": sample.name.volume_id,
            "study_id": sample.name.study_id,
            "patient_id": sample.name.patient_id,
        }
        if self.mask_folder is not None:
            source = MaskProvenance(cast("MaskKind", self.mask_kind), str(self.mask_folder))
            item["region_names"], item["mask_provenance"] = list(self.regions), source.to_dict()
        if self.has_text:
            item["report"] = sample.report
            item["region_reports"] = dict(sample.region_reports)
            item["region_text_present"] = torch.tensor([name in sample.region_reports for name in self.regions])
        if self.attributes is not None:
            found = self.attributes.read(sample.name.volume_id)
            # a trainer that moves a batch does not take frozen dataclasses
            item["attributes"] = None if found is None else found.to_dict()
        if self.has_labels:
            item["labels"] = torch.tensor(sample.labels or [float("nan")] * len(CT_RATE_LABELS))
        return item

    @property
    def has_labels(self) -> bool:
        """Whether items hold labels."""
        return "labels" in self.report.tables

    def sample(self, index: int) -> RegionSample:
        """Return what the index knows of an item, without reading its volume."""
        return self.samples[index]


def _check_choices(**choices: tuple[str, Any]) -> None:
    """Raise unless every value is one of its choices."""
    for name, (value, kind) in choices.items():
        check_choice(name, value, get_args(kind))


def _check_options(options: RadGenomeOptions) -> None:
    """Raise unless every option is one of its choices, and the template can be filled in."""
    _check_choices(
        missing_mask=(options.missing_mask, MissingMask),
        missing_text=(options.missing_text, MissingText),
        text=("regions" if options.text is None else options.text, TextSource),
    )
    _check_template(options.region_template)


def _check_template(template: str) -> None:
    """Raise unless a template can be filled in and holds the text.

    Raises:
        ConfigError: If it cannot.
    """
    try:
        filled = template.format(text="\0", region="", Region="")
    except (KeyError, IndexError, ValueError) as error:
        cause = f"`region_template={template!r}` cannot be filled in: {error}."
        raise ConfigError(cause, "Its fields are {text}, {region} and {Region}.") from error
    if "\0" not in filled:
        cause = f"`region_template={template!r}` leaves the text out."
        raise ConfigError(cause, 'Pass e.g. "{Region}: {text}".')
