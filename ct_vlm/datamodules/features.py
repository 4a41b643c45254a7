"""Features of a frozen encoder, computed once, for training what comes after it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import torch
from lightning import LightningDataModule
from torch.utils.data import Dataset

from ct_vlm.datamodules.collating import collate
from ct_vlm.datamodules.loader import ResumableDataLoader, make_loader
from ct_vlm.errors import DatasetError
from ct_vlm.features import Features

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from torch import Tensor, nn

    from ct_vlm.datamodules.base import VolumeDataModule
    from ct_vlm.datamodules.cached_features import CachedFeatureDataset

_OF_FEATURES = ("slice_position_mm", "padding_mask")
"""Keys of an item that belong into its features, beside the levels."""


class FeatureDataset(Dataset[dict[str, Any]]):
    """Items without voxels: the encoder's features beside everything else of a sample.

    Args:
        levels: Token maps of all samples, one tensor a level.
        grids: Grid of each level.
        items: Everything of each sample but its image; ``slice_position_mm`` and ``padding_mask``
            go into the batch's features.

    Shape:
        - levels: ``(num_samples, N_l, C_l)`` each.

    Raises:
        DatasetError: If levels and items differ in number.

    Example:
        >>> import torch
        >>> from ct_vlm.datamodules import FeatureDataset
        >>> dataset = FeatureDataset([torch.zeros(2, 8, 4)], [(2, 2, 2)], [{"report": "a"}, {"report": "b"}])
        >>> len(dataset), sorted(dataset[1])
        (2, ['levels', 'report'])
    """

    def __init__(
        self, levels: Sequence[Tensor], grids: Sequence[tuple[int, int, int]], items: Sequence[Mapping[str, Any]]
    ) -> None:
        if any(len(level) != len(items) for level in levels):
            cause = f"Expected features of {len(items)} samples, but got {[len(level) for level in levels]}."
            raise DatasetError(cause, "Encode the same data set that the items come from.")
        self.levels, self.grids, self.items = list(levels), list(grids), list(items)
        self._sources: dict[int, str] = {}

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one sample."""
        return {**self.items[index], "levels": [level[index] for level in self.levels]}

    def source(self, index: int) -> str:
        """Return a digest of a sample's features, computed once.

        Args:
            index: As in indexing.
        """
        place = int(index)
        if place not in self._sources:
            found = hashlib.sha256()
            for level in self.levels:
                found.update(level[place].detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
            self._sources[place] = found.hexdigest()
        return self._sources[place]

    def select(self, indices: Sequence[int], **values: Sequence[Any]) -> FeatureDataset:
        """Return some of the samples, with values of their own where given.

        Args:
            indices: Which samples, in their new order.
            values: Key of an item to one new value a chosen sample, e.g. ``report=[...]``.

        Example:
            >>> import torch
            >>> from ct_vlm.datamodules import FeatureDataset
            >>> items = [{"report": "a"}, {"report": "b"}]
            >>> dataset = FeatureDataset([torch.arange(2).view(2, 1, 1)], [(1, 1, 1)], items)
            >>> dataset.select([1], report=["B"])[0]
            {'report': 'B', 'levels': [tensor([[1]])]}
        """
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)] or [{}] * len(
            indices
        )
        items = [{**self.items[index], **row} for index, row in zip(indices, rows, strict=True)]
        return FeatureDataset([level[list(indices)] for level in self.levels], self.grids, items)


class FeatureDataModule(LightningDataModule):
    """Batches of cached features, with loaders that shard and resume.

    Args:
        datasets: ``train``, ``val``, ``test`` or ``predict`` to cached features, in memory
            (:class:`FeatureDataset`) or on disk (:class:`ct_vlm.datamodules.CachedFeatureDataset`).
        batch_size: Samples a batch and process in training.
        eval_batch_size: The same in evaluation; ``batch_size`` unless given.
        seed: Decides the orders.
        num_workers: Reading processes of each loader, for features on disk.
    """

    def __init__(
        self,
        datasets: Mapping[str, FeatureDataset | CachedFeatureDataset],
        *,
        batch_size: int = 8,
        eval_batch_size: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.datasets = dict(datasets)
        self.num_workers = num_workers
        self.batch_size = batch_size
        self.eval_batch_size = batch_size if eval_batch_size is None else eval_batch_size
        self.seed = seed

    def train_dataloader(self) -> ResumableDataLoader:
        """Return the training batches of this process."""
        return self._loader("train", train=True)

    def val_dataloader(self) -> ResumableDataLoader | list[Any]:
        """Return the validation batches; none without a validation part."""
        return self._loader("val") if len(self.datasets.get("val", ())) else []

    def test_dataloader(self) -> ResumableDataLoader:
        """Return the test batches."""
        return self._loader("test")

    def predict_dataloader(self) -> ResumableDataLoader:
        """Return the batches to predict."""
        return self._loader("predict")

    def _loader(self, name: str, *, train: bool = False) -> ResumableDataLoader:
        dataset = self.datasets[name]
        shard = None if self.trainer is None else self.trainer.distributed_sampler_kwargs
        return make_loader(
            dataset,
            batch_size=self.batch_size if train else self.eval_batch_size,
            shuffle=train,
            seed=self.seed,
            num_replicas=int(shard["num_replicas"]) if shard else 1,
            rank=int(shard["rank"]) if shard else 0,
            num_workers=self.num_workers,
            collate_fn=getattr(dataset, "collate", None) or _Collate(dataset.grids),
        )


class _Collate:
    """Collate items and stack their levels into :class:`Features`."""

    def __init__(self, grids: Sequence[tuple[int, int, int]]) -> None:
        self.grids = list(grids)

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        extra: dict[str, Any] = {
            key: torch.stack([item[key] for item in items]) for key in _OF_FEATURES if key in items[0]
        }
        levels = [torch.stack(level).float() for level in zip(*(item["levels"] for item in items), strict=True)]
        batch = collate([{k: v for k, v in item.items() if k not in ("levels", *_OF_FEATURES)} for item in items])
        return {**batch, "features": Features(levels, self.grids, **extra)}


@torch.no_grad()
def encode_features(
    encoder: nn.Module,
    data: VolumeDataModule,
    name: str,
    *,
    levels: Collection[int] | None = None,
    dtype: torch.dtype = torch.float16,
    batch_size: int = 16,
    progress: bool = True,
) -> FeatureDataset:
    """Run an encoder over one part of a data module and keep the features in memory.

    Args:
        encoder: Frozen encoder; run in eval mode.
        data: Data module that was set up.
        name: ``train``, ``val``, ``test`` or ``predict``.
        levels: Levels to keep (all by default); the others become empty maps of zero channels.
        dtype: Storage type; half precision halves the memory at a relative error of 5e-4.
        batch_size: Volumes encoded at a time.
        progress: Whether to show a progress bar.

    Returns:
        Cached features with everything else of the items.

    Raises:
        DatasetError: If volumes differ in their grids.
    """
    from rich.progress import track

    device = next(encoder.parameters()).device
    loader = make_loader(data.datasets[name], batch_size=batch_size)
    kept: list[list[Tensor]] = []
    grids: list[tuple[int, int, int]] = []
    items: list[dict[str, Any]] = []
    was_training = encoder.training
    encoder.eval()
    for batch in track(loader, f"Encoding {name}", disable=not progress, transient=True):
        image = data.preset.window(batch["image"].to(device))
        features = encoder(image)
        wanted = {level % len(features.levels) for level in (levels or range(len(features.levels)))}
        if kept and features.grids != grids:
            cause = f"Volumes of `{name}` differ in the grids of their features: {grids} and {features.grids}."
            raise DatasetError(cause, "Use a preset with a fixed `size`.")
        grids = features.grids
        # a level that is not wanted keeps its place, with no channels
        maps = [x if i in wanted else x[..., :0] for i, x in enumerate(features.levels)]
        kept.append([x.to(dtype).cpu() for x in maps])
        extra = {key: getattr(features, key) for key in _OF_FEATURES if getattr(features, key) is not None}
        items.extend(_split({**batch, **{key: x.cpu() for key, x in extra.items()}}, len(image)))
    encoder.train(was_training)
    return FeatureDataset([torch.cat(level).clone() for level in zip(*kept, strict=True)], grids, items)


def _split(batch: Mapping[str, Any], size: int) -> list[dict[str, Any]]:
    """Undo collation of everything but the image."""
    return [
        {key: value[i] for key, value in batch.items() if key not in ("image", "segmentation")} for i in range(size)
    ]
