"""Training from slice embeddings on disk: volumes of any number of slices in one batch, no voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.datamodules.cached_data import CachedFeatureDataModule
from ct_vlm.datamodules.cached_features import CachedFeatureDataset
from ct_vlm.datamodules.collating import collate
from ct_vlm.encoders.slice_embedder import uniform_slices
from ct_vlm.errors import DatasetError
from ct_vlm.features import Features

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from ct_vlm.cache import FeatureCache
    from ct_vlm.datamodules.base import VolumeDataModule
    from ct_vlm.datamodules.cached_features import RecordedDataset

_OF_SLICES = ("slice_position_mm",)


class SliceEmbeddingDataset(CachedFeatureDataset):
    """A data set's items with one embedding a slice in place of the image; N differs between volumes.

    Args:
        dataset: The data set, e.g. :class:`ct_vlm.datasets.CTRateDataset` (``check_files=False``
            where the voxels are gone). Its augmentation is not applied.
        cache: Filled with the features of :class:`ct_vlm.encoders.SliceEmbedder`.
        max_slices: Volumes with more slices are thinned out evenly; None keeps all.

    Raises:
        DatasetError: If the first sample has no cached features, or features are no slice embeddings.

    Example:
        >>> import tempfile, torch
        >>> from ct_vlm.cache import FeatureCache
        >>> from ct_vlm.datamodules import SliceEmbeddingDataset
        >>> from ct_vlm.features import Features
        >>> class Scans:
        ...     def __len__(self):
        ...         return 2
        ...     def record(self, index):
        ...         return {"volume_id": "ab"[index]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache = FeatureCache(folder, "encoder", {})
        ...     for name, count in (("a", 3), ("b", 5)):
        ...         _ = cache.store(name, Features([torch.ones(1, count, 4)], [(count, 1, 1)]))
        ...     dataset = SliceEmbeddingDataset(Scans(), cache)
        ...     batch = dataset.collate([dataset[0], dataset[1]])
        >>> batch["features"].levels[0].shape, batch["features"].padding_mask.sum(1).tolist()
        (torch.Size([2, 5, 4]), [2, 0])
    """

    def __init__(self, dataset: RecordedDataset, cache: FeatureCache, *, max_slices: int | None = 600) -> None:
        super().__init__(dataset, cache)
        self.max_slices = max_slices
        # grids differ between volumes, so there is none to compare with
        self.grids = []

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return an item with ``levels`` ``[(N, C)]``, N without padding.

        Args:
            index: As for :class:`ct_vlm.datamodules.CachedFeatureDataset`.
        """
        item = super().__getitem__(index)
        slices = item["levels"][-1]
        padding = item.pop("padding_mask", None)
        if slices.ndim != 2 or (padding is not None and len(padding) != len(slices)):
            cause = f"`{item['volume_id']}` has features {tuple(slices.shape)}, which are no slice embeddings."
            raise DatasetError(cause, "Precompute them with `SliceEmbedder`: one embedding a slice.")
        kept = torch.arange(len(slices)) if padding is None else (~padding.bool()).nonzero().flatten()
        kept = kept[uniform_slices(len(kept), self.max_slices)]
        if not len(kept):
            cause = f"`{item['volume_id']}` has no slice: all of it is padding."
            raise DatasetError(cause, "Leave the volume out.")
        found = {key: item[key][kept] for key in _OF_SLICES if key in item}
        return {**item, **found, "levels": [slices[kept]]}

    def collate(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Make a batch: embeddings padded to the most slices, everything else as ever.

        Args:
            items: Of this data set.

        Returns:
            A batch with ``features``: levels ``[(B, N, C)]``, ``slice_position_mm`` and ``padding_mask``.
        """
        slices = [item["levels"][-1].float() for item in items]
        longest = max(len(part) for part in slices)
        lengths = torch.tensor([len(part) for part in slices])
        padding = torch.arange(longest) >= lengths.unsqueeze(1)
        rest = [{key: value for key, value in item.items() if key not in ("levels", *_OF_SLICES)} for item in items]
        position = None
        if all("slice_position_mm" in item for item in items):
            position = _padded([item["slice_position_mm"] for item in items])
        features = Features([_padded(slices)], [(longest, 1, 1)], position, padding)
        return {**collate(rest), "features": features}


class SliceEmbeddingDataModule(CachedFeatureDataModule):
    """Slice embeddings of a data module's volumes, read from a folder; voxels are never touched.

    The folder says itself by which encoder and preprocessing it was made (``ct-vlm embed`` writes both),
    and the data module's preset must be that one.

    Args:
        data: Says which samples there are, their texts and labels, e.g.
            :class:`ct_vlm.datamodules.CTRateDataModule` (``check_files=False`` where voxels are gone).
        folder: Written by ``ct-vlm embed``.
        batch_size: Samples a batch and process in training.
        eval_batch_size: The same in evaluation; ``batch_size`` unless given.
        seed: Decides the orders.
        num_workers: Reading processes of each loader.
        max_slices: Volumes with more slices are thinned out evenly; None keeps all.

    Raises:
        CheckpointError: If the folder has no manifest.
        ConfigError: If it was made with another preset.
        DatasetError: If a part's first volume has no embeddings.

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308: all four phases read embeddings that were computed once, of at
        most 600 slices.
    """

    def __init__(
        self,
        data: VolumeDataModule,
        folder: str | Path,
        *,
        batch_size: int = 8,
        eval_batch_size: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
        max_slices: int | None = 600,
    ) -> None:
        super().__init__(
            data,
            folder,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            num_workers=num_workers,
        )
        self.max_slices = max_slices

    def _cached(self, dataset: RecordedDataset, cache: FeatureCache) -> SliceEmbeddingDataset:
        """Return one part's samples with an embedding a slice."""
        return SliceEmbeddingDataset(dataset, cache, max_slices=self.max_slices)


def sample_slices(
    dataset: SliceEmbeddingDataset, count: int = 10_000, *, per_volume: int = 32, seed: int = 0
) -> Tensor:
    """Draw slice embeddings from random volumes, e.g. to initialise queries from.

    Args:
        dataset: Where to draw from.
        count: Slices in all.
        per_volume: Most slices of one volume.
        seed: Decides the draw.

    Shape:
        - Output: ``(M, C)``, float32; M is ``count``, or less where there are not so many.

    Raises:
        DatasetError: If the data set is empty.
    """
    generator = torch.Generator().manual_seed(seed)
    parts: list[Tensor] = []
    found = 0
    for index in torch.randperm(len(dataset), generator=generator).tolist():
        slices = dataset[index]["levels"][-1]
        chosen = torch.randperm(len(slices), generator=generator)[:per_volume]
        parts.append(slices[chosen].float())
        found += len(chosen)
        if found >= count:
            break
    if not parts:
        cause = "There is no volume to draw slices from."
        raise DatasetError(cause, "Set the data module up, and use a part that is not empty.")
    return torch.cat(parts)[:count]


def _padded(parts: Sequence[Tensor]) -> Tensor:
    """Stack tensors of different lengths, with zeros behind."""
    return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True)
