"""Training from features on disk: an encoder runs once over a data set, and voxels are no longer read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.utils.data import Dataset, Subset

from ct_vlm.cache import source_identity
from ct_vlm.datamodules.loader import make_loader
from ct_vlm.errors import CheckpointError, DatasetError
from ct_vlm.features import Features
from ct_vlm.models.inputs import floating_dtype, scan_geometry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn

    from ct_vlm.cache import FeatureCache
    from ct_vlm.transforms import CTPreset

_KEPT_BESIDE = ("spacing",)
"""Keys of an item that come with its voxels and are kept beside the features."""


class RecordedDataset(Protocol):
    """A map-style data set that can tell all of an item but what is in its volume's file."""

    def __len__(self) -> int:
        """Return the number of items."""
        ...

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return an item with its voxels."""
        ...

    def record(self, index: int) -> dict[str, Any]:
        """Return an item without what is read from its file; it holds ``volume_id``."""
        ...


class CachedFeatureDataset(Dataset[dict[str, Any]]):
    """A data set's items with cached features in place of the image; no voxel file is opened.

    Args:
        dataset: The data set, e.g. :class:`ct_vlm.datasets.CTRateDataset` (``check_files=False``
            where the voxels are gone). Its augmentation is not applied.
        cache: Filled by :func:`precompute`.

    Raises:
        DatasetError: If the first sample has no cached features.

    Example:
        >>> import tempfile, torch
        >>> from ct_vlm.cache import FeatureCache
        >>> from ct_vlm.datamodules import CachedFeatureDataset
        >>> from ct_vlm.features import Features
        >>> class Scans:
        ...     def __len__(self):
        ...         return 1
        ...     def record(self, index):
        ...         return {"volume_id": "a", "report": "No effusion."}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache = FeatureCache(folder, "encoder", {})
        ...     _ = cache.store("a", Features([torch.zeros(1, 8, 4)], [(2, 2, 2)]))
        ...     item = CachedFeatureDataset(Scans(), cache)[0]
        >>> sorted(item)
        ['levels', 'report', 'volume_id']
    """

    def __init__(self, dataset: RecordedDataset, cache: FeatureCache) -> None:
        self.dataset, self.cache = dataset, cache
        self.grids: list[tuple[int, int, int]] = []
        if len(dataset):
            self.grids = self._load(dataset.record(0)["volume_id"])[0].grids

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return an item.

        Args:
            index: Position; an :class:`ct_vlm.datasets.EpochIndex` also decides the reconstruction.
        """
        item = self.dataset.record(index)
        features, extra = self._load(item["volume_id"])
        if self.grids and features.grids != self.grids:
            cause = f"`{item['volume_id']}` has features of the grids {features.grids}, the first sample {self.grids}."
            raise DatasetError(cause, "Use a preset with a fixed `size`.")
        optional = {"slice_position_mm": features.slice_position_mm, "padding_mask": features.padding_mask}
        return {
            **item,
            **extra,
            **{name: value[0] for name, value in optional.items() if value is not None},
            "levels": [level[0] for level in features.levels],
        }

    def source(self, index: int) -> list[Any]:
        """Return what tells an item's features from later ones of the same volume: who made them, and when.

        Args:
            index: As in indexing.
        """
        name = self.dataset.record(index)["volume_id"]
        if not self.cache.path(name).is_file():
            self._load(name)
        entry = source_identity(self.cache.path(name))
        return [self.cache.spec["model"], entry["size"], entry["mtime_ns"]]

    def _load(self, name: str) -> tuple[Features, dict[str, Tensor]]:
        found = self.cache.load_all(name)
        if found is None:
            cause = f"There are no cached features of `{name}` by this encoder at `{self.cache.path(name)}`."
            raise DatasetError(cause, "Run `precompute` with the same encoder, preset and settings of the cache.")
        return found


@dataclass
class PrecomputeResult:
    """What :func:`precompute` did.

    Args:
        made: Samples that were encoded.
        present: Samples that were there already.
    """

    made: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)


@torch.no_grad()
def precompute(
    encoder: nn.Module,
    dataset: RecordedDataset,
    cache: FeatureCache,
    preset: CTPreset,
    *,
    batch_size: int = 1,
    num_workers: int = 0,
    progress: bool = True,
) -> PrecomputeResult:
    """Encode every volume of a data set that has no cached features yet.

    Every reconstruction is encoded, without augmentation. An interrupted run goes on where it
    stopped, and several processes may fill one cache.

    Args:
        encoder: Frozen encoder; run in eval mode, on its device.
        dataset: Volumes in HU.
        cache: Made for this encoder and preset.
        preset: Windows the volumes.
        batch_size: Volumes encoded at a time; floating-point sums may differ in their last bits
            between batch sizes.
        num_workers: Reading processes.
        progress: Show a bar (on a terminal only).

    Raises:
        CheckpointError: If the cache is another encoder's or another preset's.
        DatasetError: If features cannot be written.
    """
    _check_belongs(cache, encoder, preset)
    volumes = _every_volume(dataset)
    result = PrecomputeResult()
    names = [volumes.record(index)["volume_id"] for index in range(len(volumes))]
    missing = [index for index, name in enumerate(names) if not cache.contains(name)]
    result.present = sorted(set(names) - {names[index] for index in missing})
    loader = make_loader(Subset(_AsDataset(volumes), missing), batch_size=batch_size, num_workers=num_workers)
    device = next(iter(encoder.state_dict().values())).device
    was_training = encoder.training
    encoder.eval()
    try:
        done = iter(missing)
        for batch in _tracked(loader, len(missing), progress=progress):
            image = preset.window(batch["image"].to(device))
            features = encoder(image.to(floating_dtype(encoder) or image.dtype), **scan_geometry(encoder, batch))
            for row, name in enumerate(batch["volume_id"]):
                _store(cache, name, _one(features, row), _source(volumes, next(done)), batch, row)
                result.made.append(name)
    finally:
        encoder.train(was_training)
    return result


class _AsDataset(Dataset[dict[str, Any]]):
    """Only what a loader needs of a data set."""

    def __init__(self, dataset: RecordedDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.dataset[index]
        return {key: item[key] for key in ("image", "volume_id", *_KEPT_BESIDE) if key in item}


def _every_volume(dataset: Any) -> Any:
    """Return a data set of every reconstruction, without augmentation, where it has such a choice."""
    if not hasattr(dataset, "recon_policy"):
        return dataset
    return dataset.subset(dataset.patient_ids(), recon_policy="all", augment=None)


def _check_belongs(cache: FeatureCache, encoder: nn.Module, preset: CTPreset) -> None:
    """Raise unless a cache is meant for what this encoder makes of this preset's volumes.

    Raises:
        CheckpointError: If it is not.
    """
    from ct_vlm.cache import model_identity

    for what, have, want in (
        ("encoder", cache.spec["model"], model_identity(encoder)),
        ("preset", cache.spec["preset"], dict(preset.to_config())),
    ):
        if have != want:
            cause = f"The feature cache is for another {what}: {have}, not {want}."
            raise CheckpointError(cause, "Make it with `model_identity(encoder)` and `preset.to_config()`.")


def _one(features: Features, row: int) -> Features:
    part = slice(row, row + 1)
    position, padding = features.slice_position_mm, features.padding_mask
    return Features(
        [level[part] for level in features.levels],
        features.grids,
        None if position is None else position[part],
        None if padding is None else padding[part],
    )


def _source(dataset: Any, index: int) -> dict[str, Any] | None:
    sample = getattr(dataset, "sample", None)
    return None if sample is None else source_identity(sample(index).path)


def _store(
    cache: FeatureCache,
    name: str,
    features: Features,
    source: dict[str, Any] | None,
    batch: Mapping[str, Any],
    row: int,
) -> None:
    extra = {key: batch[key][row] for key in _KEPT_BESIDE if key in batch}
    if not cache.store(name, features, source=source, extra=extra):
        cause = f"The features of `{name}` cannot be written to `{cache.path(name)}`."
        raise DatasetError(cause, "Check the folder's permissions and the free space on its disk.")


def _tracked(loader: Any, total: int, *, progress: bool) -> Iterator[dict[str, Any]]:
    """Yield batches under a bar that counts volumes."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("Encoding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (progress and console.is_terminal)) as bar:
        task = bar.add_task("Encoding", total=total)
        for batch in loader:
            yield batch
            bar.advance(task, len(batch["volume_id"]))
