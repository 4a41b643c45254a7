"""Volumes with label maps, whole or as patches that really oversample foreground."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch.utils.data import Dataset

from ct_vlm.cache import ArrayCache
from ct_vlm.datasets.epoch_index import draw_seed, epoch_of
from ct_vlm.datasets.index import warn_of
from ct_vlm.datasets.nnunet import SegmentationCase, find_cases, find_root, read_description
from ct_vlm.datasets.patches import class_locations, cut_patch, draw_centre
from ct_vlm.datasets.volumes import cache_key, entry_name, identity
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.transforms import get_preset, load_label_map, load_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ct_vlm.cache.regions import BasicIndex
    from ct_vlm.datasets.volumes import Region
    from ct_vlm.transforms import CTPreset


class SegmentationDataset(Dataset[dict[str, Any]]):
    """Cases of an nnU-Net data set: ``labelsTr/{case}.nii.gz``, ``dataset.json`` and images.

    Images lie in ``imagesTr/{case}_0000.nii.gz`` or, found by name, in a CT-RATE tree. Items hold
    ``image`` (int16 HU), ``segmentation``, ``spacing`` and the ids.

    With a patch size, a share of the patches is centred on a voxel of a class drawn at random
    among those that the volume holds. The positions are measured on the preprocessed label map
    and kept with it in the cache.

    Args:
        root: Holds ``dataset.json``, or a folder ``segmentation`` that does.
        images: CT-RATE tree with the images; the folder above the labels unless given.
        split: ``train`` keeps patients of CT-RATE's validation split out, ``valid`` takes them
            alone, ``all`` takes everything.
        preset: Preprocessing, by name, config or object.
        patch_size: Size of patches; ``None`` for whole volumes.
        foreground_fraction: Share of patches centred on foreground (a third as in nnU-Net).
        samples_per_volume: Patches of each volume in an epoch.
        hu_source: As in :func:`ct_vlm.transforms.load_volume`.
        version: CT-RATE version of images found by name.
        patients: Keep these patients only.
        augment: Called with item and seed, e.g. :class:`ct_vlm.transforms.FlipSafeAugmentation`.
        cache_dir: Where preprocessed cases are kept; ``None`` for no cache.
        cache_codec: How new ones are written, see :class:`ct_vlm.cache.ArrayCache`.
        seed: Decides patches and augmentation, with epoch and index.

    **Shape:**
        - image: ``(1, D, H, W)`` int16.
        - segmentation: ``(D, H, W)`` uint8, int16 from 256 labels.
        - spacing: ``(3,)``.

    Raises:
        DatasetError: If the layout is incomplete or label maps do not fit.
        ConfigError: If an argument has an unknown value.

    References:
        Isensee et al., nnU-Net, Nature Methods 2021 (raw layout, foreground oversampling).
        Differs from the U-VLM code, whose class locations are always empty, so that it never
        oversamples.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        images: str | Path | None = None,
        split: str = "train",
        preset: str | CTPreset | Mapping[str, Any] = "phantom",
        patch_size: int | Sequence[int] | None = None,
        foreground_fraction: float = 1 / 3,
        samples_per_volume: int = 1,
        hu_source: str = "auto",
        version: str = "auto",
        patients: Collection[str] | None = None,
        augment: Callable[[dict[str, Any], int], dict[str, Any]] | None = None,
        cache_dir: str | Path | None = None,
        cache_codec: str = "zstd",
        seed: int = 0,
    ) -> None:
        self.preset = get_preset(preset)
        self.patch_size = _patch_size(patch_size)
        if not 0 <= foreground_fraction <= 1 or samples_per_volume < 1:
            cause = f"Expected a share and at least one sample, but got {foreground_fraction=}, {samples_per_volume=}."
            raise ConfigError(cause, "Pass e.g. foreground_fraction=0.33, samples_per_volume=1.")
        self.foreground_fraction = foreground_fraction
        self.samples_per_volume = samples_per_volume if self.patch_size is not None else 1
        self.augment = augment
        self.seed = seed
        self.cache = ArrayCache(cache_dir, cache_codec)
        folder = find_root(root)
        self.label_ids, ending = read_description(folder)
        self.cases, self.report = find_cases(
            folder, ending, split=split, images=images, hu_source=hu_source, version=version, patients=patients
        )
        warn_of(self.report)

    @property
    def num_classes(self) -> int:
        """Channels that a segmentation head needs: the largest id plus one."""
        return max(self.label_ids.values()) + 1

    def __len__(self) -> int:
        """Return the number of items in an epoch."""
        return len(self.cases) * self.samples_per_volume

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return an item.

        Args:
            index: Position; an :class:`ct_vlm.datasets.EpochIndex` also decides patch and
                augmentation.
        """
        if not 0 <= index < len(self):
            msg = f"index {index} is out of range for {len(self)} items"
            raise IndexError(msg)
        case = self.cases[index // self.samples_per_volume]
        arrays = self._arrays(case, index)
        item: dict[str, Any] = {
            "image": torch.from_numpy(arrays["image"])[None],
            "segmentation": torch.from_numpy(arrays["segmentation"]),
            "spacing": torch.from_numpy(arrays["spacing"]).float(),
            **self.record(index),
        }
        if self.augment is not None:
            item = self.augment(item, draw_seed(self.seed, "augment", epoch_of(index), int(index)))
        return item

    def part(self, index: int, region: BasicIndex | Region) -> dict[str, NDArray[Any]]:
        """Return ``image``, ``segmentation`` and ``spacing`` with a part of the volume alone.

        Args:
            index: Position.
            region: Part of the volume, or a function of its shape and spacing that returns it.
        """

        def take(arrays: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
            spacing = arrays["spacing"][...]
            wanted = region(arrays["image"].shape, spacing) if callable(region) else region
            parts = {name: np.array(arrays[name][wanted]) for name in ("image", "segmentation")}
            return {"spacing": spacing, **parts}

        return self._read(self.cases[index // self.samples_per_volume], take)

    def record(self, index: int) -> dict[str, Any]:
        """Return the ids of an item.

        Args:
            index: Position.
        """
        name = self.cases[index // self.samples_per_volume].sample.name
        return {"volume_id": name.volume_id, "study_id": name.study_id, "patient_id": name.patient_id}

    def patient_ids(self) -> list[str]:
        """Return the patients of the index, sorted."""
        return sorted({case.sample.name.patient_id for case in self.cases})

    def subset(self, patients: Collection[str], **changes: Any) -> Self:
        """Return the same data set with some of its patients; :attr:`report` stays the whole one's.

        Args:
            patients: Patients to keep.
            **changes: New values of ``patch_size`` (``None`` for whole volumes) or ``augment``.
        """
        part = copy.copy(self)
        for name, value in changes.items():
            setattr(part, name, value)
        wanted = set(patients)
        part.cases = [case for case in self.cases if case.sample.name.patient_id in wanted]
        part.samples_per_volume = self.samples_per_volume if part.patch_size is not None else 1
        return part

    def _arrays(self, case: SegmentationCase, index: int) -> dict[str, NDArray[Any]]:
        """Return an item's arrays; of a patch's case little more than the patch is read."""
        return self._read(case, lambda arrays: self._take(case, index, arrays))

    def _read(
        self, case: SegmentationCase, take: Callable[[Mapping[str, Any]], dict[str, NDArray[Any]]]
    ) -> dict[str, NDArray[Any]]:
        """Return what is taken of a case's arrays, from the cache where they are."""
        key = {**cache_key(case.sample, self.preset, case.hu_source), "labels": identity(case.labels)}
        name = f"{entry_name(self.preset, case.sample.name.volume_id)}-segmentation"
        return self.cache.read(name, key, lambda: self._make(case), take)

    def _take(self, case: SegmentationCase, index: int, arrays: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Take an item's part of a case."""
        unknown = np.setdiff1d(arrays["location_class"][...], list(self.label_ids.values()))
        if unknown.size:
            cause = f"`{case.labels}` holds the ids {unknown.tolist()}, which `dataset.json` does not name."
            raise DatasetError(cause, f"Known ids are {sorted(self.label_ids.values())}.")
        spacing = arrays["spacing"][...]
        if self.patch_size is None:
            return {"spacing": spacing, **{name: arrays[name][...] for name in ("image", "segmentation")}}
        generator = np.random.default_rng(draw_seed(self.seed, "patch", epoch_of(index), int(index)))
        centre = draw_centre(arrays["segmentation"].shape, arrays, self.foreground_fraction, generator)
        fillers = {"image": self.preset.pad_hu, "segmentation": 0}
        patches = {name: cut_patch(arrays[name], centre, self.patch_size, fill) for name, fill in fillers.items()}
        return {"spacing": spacing, **patches}

    def _make(self, case: SegmentationCase) -> dict[str, NDArray[Any]]:
        """Preprocess a case."""
        sample, axcodes = case.sample, self.preset.axcodes
        volume = load_volume(sample.path, case.hu_source, metadata=sample.metadata, axcodes=axcodes)
        labels, _ = load_label_map(case.labels, axcodes=axcodes)
        if labels.shape != volume.shape:
            cause = f"`{case.labels}` has the grid {labels.shape}, but its image `{sample.path}` {volume.shape}."
            raise DatasetError(cause, "Resample the labels to the image, or leave the case out.")
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high > 32767:
            cause = f"`{case.labels}` holds ids from {low} to {high}."
            raise DatasetError(cause, "Use ids from 0 to 32767.")
        small = labels.astype(np.uint8 if self.num_classes <= 256 and high <= 255 else np.int16)
        segmentation = np.ascontiguousarray(self.preset.resample_labels(small, volume))
        return {
            "image": self.preset.resample(volume),
            "segmentation": segmentation,
            "spacing": np.asarray(self.preset.resampled_spacing(volume)),
            **class_locations(segmentation),
        }


def _patch_size(value: int | Sequence[int] | None) -> tuple[int, int, int] | None:
    """Return a patch size as three positive numbers.

    Raises:
        ConfigError: If it is something else.
    """
    if value is None:
        return None
    sizes = (value,) * 3 if isinstance(value, int) else tuple(int(n) for n in value)
    if len(sizes) != 3 or min(sizes) < 1:
        cause = f"Expected `patch_size` as three positive numbers (D, H, W), but got {value}."
        raise ConfigError(cause, "Pass e.g. (96, 128, 128).")
    return sizes[0], sizes[1], sizes[2]
