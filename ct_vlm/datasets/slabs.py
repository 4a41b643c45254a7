"""Slabs of a few slices as views, over any data set of volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Dataset

from ct_vlm.datasets.epoch_index import EpochIndex, draw_seed, epoch_of
from ct_vlm.errors import ConfigError
from ct_vlm.transforms import SlabViews

if TYPE_CHECKING:
    from numpy.typing import NDArray

_IDS = ("volume_id", "study_id", "patient_id")


class SlabDataset(Dataset[dict[str, Any]]):
    """Views of slabs, drawn anew in every epoch from the volumes of a data set.

    Of data sets with a method ``part`` (:class:`~ct_vlm.datasets.CTRateDataset`,
    :class:`~ct_vlm.datasets.SegmentationDataset`) no more than the slab is read from the cache; of
    others, or a plain list of items, the whole volume. A label map in the items guides local crops.

    Args:
        source: Data set of items with ``image (1, D, H, W)`` int16 HU, ``spacing (3,)`` in mm and, for guidance,
            ``segmentation (D, H, W)``.
        views: How views are made.
        slabs_per_volume: Slabs of each volume in an epoch.
        num_labels: Largest label id K; above 0 items hold the labels of each view.
        fixed: Give the same slabs and views in every epoch (validation).
        seed: Decides slabs and views, with epoch and index.

    **Shape:**
        - global_views: ``(1, V, h, w)`` int16; local_views likewise.
        - global_labels, local_labels: ``(V, K)``.

    Raises:
        ConfigError: If there is no slab a volume, or labels are asked for and items have none.

    Example:
        >>> import torch
        >>> from ct_vlm.datasets import SlabDataset
        >>> from ct_vlm.transforms import SlabViews
        >>> volume = {"image": torch.zeros(1, 10, 32, 32).short(), "spacing": torch.tensor([4.0, 1.0, 1.0])}
        >>> slabs = SlabDataset([volume], SlabViews(16, 8), slabs_per_volume=3)
        >>> len(slabs), tuple(slabs[2]["global_views"].shape)
        (3, (1, 2, 16, 16))
    """

    def __init__(
        self,
        source: Any,
        views: SlabViews | None = None,
        *,
        slabs_per_volume: int = 1,
        num_labels: int = 0,
        fixed: bool = False,
        seed: int = 0,
    ) -> None:
        if slabs_per_volume < 1:
            cause = f"Expected a positive `slabs_per_volume`, but got {slabs_per_volume}."
            raise ConfigError(cause, "Pass e.g. 8.")
        self.source = source
        self.views = SlabViews() if views is None else views
        self.slabs_per_volume, self.num_labels = slabs_per_volume, num_labels
        self.fixed, self.seed = fixed, seed

    def __len__(self) -> int:
        """Return the number of slabs in an epoch."""
        return len(self.source) * self.slabs_per_volume

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the views of a slab.

        Args:
            index: Position; an :class:`ct_vlm.datasets.EpochIndex` gives other slabs in other epochs.
        """
        if not 0 <= index < len(self):
            msg = f"index {index} is out of range for {len(self)} slabs"
            raise IndexError(msg)
        epoch = 0 if self.fixed else epoch_of(index)
        volume = EpochIndex(int(index) // self.slabs_per_volume, epoch)
        seed = draw_seed(self.seed, "slab", epoch, int(index))

        def region(shape: tuple[int, ...], spacing: NDArray[Any]) -> slice:
            return self.views.span(shape[0], float(spacing[0]), seed)

        arrays, ids = self._read(volume, region)
        labels = arrays.get("segmentation")
        if labels is None and self.num_labels:
            cause = f"Labels of views were asked for (`num_labels={self.num_labels}`), but volumes have no label map."
            raise ConfigError(cause, "Use a data set with `segmentation`, or `num_labels=0`.")
        view_seed = draw_seed(self.seed, "views", epoch, int(index))
        return {**self.views(arrays["image"], view_seed, labels, self.num_labels), **ids}

    def _read(self, index: int, region: Any) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the slab's arrays and the volume's ids."""
        if hasattr(self.source, "part"):
            record = self.source.record(index)
            return self.source.part(index, region), {name: record[name] for name in _IDS if name in record}
        item = self.source[index]
        image, spacing = np.asarray(item["image"])[0], np.asarray(item["spacing"])
        span = region(image.shape, spacing)
        arrays = {"image": image[span], "spacing": spacing}
        if "segmentation" in item:
            arrays["segmentation"] = np.asarray(item["segmentation"])[span]
        return arrays, {name: item[name] for name in _IDS if name in item}
