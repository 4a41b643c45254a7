"""What a model is shown instead of the right volume: nothing, the mean, noise, another patient."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ct_vlm.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

ARMS = ("real", "zeroed", "mean", "noise", "other_patient")
SEEDED = ("noise", "other_patient")
"""Arms that chance decides: they are run once a seed."""

VISUAL_KEYS = ("image", "features", "segmentation", "region_masks", "region_present", "spacing")
"""What comes with a volume; it moves together when a sample gets another patient's."""

_IDENTITIES = ("volume_id", "study_id", "patient_id", "report")
_SOURCES = ("image", "features")
_SEED_STEP = 1_000_003


def map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to every tensor of a value, down through lists, dicts and dataclasses.

    Args:
        value: E.g. a tensor or :class:`~ct_vlm.features.Features`; anything else stays.
        function: Applied to each tensor.
    """
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: map_tensors(item, function) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        changed = {f.name: map_tensors(getattr(value, f.name), function) for f in fields(value)}
        return replace(value, **changed)
    if isinstance(value, list) and any(isinstance(item, Tensor) for item in value):
        return [map_tensors(item, function) for item in value]
    return value


def change_volume(batch: Mapping[str, Any], function: Callable[[int, Tensor], Tensor]) -> dict[str, Any]:
    """Return a batch whose volumes, or cached feature levels, are changed.

    Args:
        batch: Needs ``image`` or ``features``; masks and texts stay.
        function: Called with a number (of the level) and the tensor.

    Raises:
        DatasetError: If the batch has neither.
    """
    if batch.get("features") is not None:
        features = batch["features"]
        if isinstance(features, Tensor):
            return {**batch, "features": function(0, features)}
        return {**batch, "features": replace(features, levels=[function(*item) for item in enumerate(features.levels)])}
    if batch.get("image") is not None:
        return {**batch, "image": function(0, batch["image"])}
    cause = f"The batch holds none of {_SOURCES}, but {sorted(batch)}."
    raise DatasetError(cause, "Pass batches with volumes or cached features.")


def batch_size(batch: Mapping[str, Any]) -> int:
    """Return the number of samples of a batch.

    Args:
        batch: Needs ``image`` or ``features``.
    """
    sizes: list[int] = []

    def note(_: int, tensor: Tensor) -> Tensor:
        sizes.append(len(tensor))
        return tensor

    change_volume(batch, note)
    return sizes[0]


def zeroed(batch: Mapping[str, Any], value: float) -> dict[str, Any]:
    """Return a batch of blank volumes.

    Args:
        batch: The batch.
        value: Value of every voxel (HU where volumes are integers) or feature.
    """
    return change_volume(batch, lambda _, tensor: torch.full_like(tensor, value))


def noise(batch: Mapping[str, Any], seed: int, first: int) -> dict[str, Any]:
    """Return a batch of Gaussian noise with the mean and standard deviation of each sample.

    They are matched a channel of a volume and a channel of a token map, exactly but for the
    rounding of integer HU.

    Args:
        batch: The batch.
        seed: Seed of the noise.
        first: Number of the batch's first sample, so that the noise does not depend on the batch size.
    """

    def drawn(level: int, tensor: Tensor) -> Tensor:
        samples = []
        for row, sample in enumerate(tensor):
            rng = torch.Generator().manual_seed((seed * _SEED_STEP + first + row) * 31 + level)
            dims = (0,) if sample.ndim == 2 else tuple(range(1, sample.ndim))
            wanted = sample.detach().cpu().float()
            values = torch.randn(wanted.shape, generator=rng)
            values = (values - values.mean(dims, keepdim=True)) / _spread(values, dims)
            values = values * wanted.std(dims, correction=0, keepdim=True) + wanted.mean(dims, keepdim=True)
            samples.append(_cast(values, tensor.dtype))
        return torch.stack(samples).to(tensor.device)

    return change_volume(batch, drawn)


class MeanVolume:
    """The mean volume of the data, added up batch by batch.

    Where volumes differ in size there is no mean voxel; every voxel is then the mean of all.
    """

    def __init__(self) -> None:
        self._means: dict[int, Tensor] = {}
        self._counts: dict[int, int] = {}

    def add(self, batch: Mapping[str, Any]) -> None:
        """Add the samples of a batch.

        Args:
            batch: The batch.
        """
        change_volume(batch, self._add)

    def _add(self, level: int, tensor: Tensor) -> Tensor:
        for sample in tensor.detach().cpu():
            value = sample.float()
            mean = self._means.setdefault(level, torch.zeros_like(value))
            if mean.shape != value.shape:
                mean = self._means[level] = mean.mean()
                value = value.mean()
            self._counts[level] = self._counts.get(level, 0) + 1
            mean += (value - mean) / self._counts[level]
        return tensor

    def fill(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return a batch in which every volume is the mean.

        Args:
            batch: The batch.
        """
        return change_volume(
            batch, lambda level, t: _cast(self._means[level], t.dtype).to(t.device).expand(t.shape).clone()
        )


class Volumes:
    """Random access to the volumes of batches, without holding them.

    Args:
        batches: A list of batches, or a data loader that goes through a map-style data set in order.

    Raises:
        ConfigError: If it is neither.
    """

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        self._rows: list[tuple[int, int]] = []
        self._names: list[tuple[str, Any]] = []
        self._is_loader = not isinstance(batches, list | tuple)
        if self._is_loader and not (
            hasattr(batches, "collate_fn") and hasattr(getattr(batches, "dataset", None), "__getitem__")
        ):
            cause = f"Volumes of other patients cannot be looked up in a {type(batches).__name__}."
            raise ConfigError(cause, "Pass a list of batches, or a DataLoader over a map-style data set.")

    def note(self, index: int, batch: Mapping[str, Any]) -> None:
        """Remember where the samples of a batch are.

        Args:
            index: Number of the batch.
            batch: The batch.
        """
        size = batch_size(batch)
        key = next((k for k in _IDENTITIES if batch.get(k) is not None), None)
        self._rows.extend((index, row) for row in range(size))
        self._names.extend((key, batch[key][row]) if key else ("", None) for row in range(size))

    def swap(self, batch: Mapping[str, Any], partners: Iterable[int]) -> dict[str, Any]:
        """Return a batch with the volumes (and what comes with them) of other samples.

        Args:
            batch: The batch.
            partners: Sample whose volume each row gets.

        Raises:
            DatasetError: If the loader does not go through its data set in order, or volumes that
                are to be put into one batch differ in size.
        """
        found = [self._visual(int(partner)) for partner in partners]
        return {**batch, **{key: _stack([sample[key] for sample in found], key) for key in found[0]}}

    def _visual(self, sample: int) -> dict[str, Any]:
        """Return the visual entries of one sample."""
        where, row = self._rows[sample]
        if self._is_loader:
            source, row = self.batches.collate_fn([self.batches.dataset[sample]]), 0
            key, name = self._names[sample]
            if key and source[key][0] != name:
                cause = f"Sample {sample} of the data set is {source[key][0]!r}, but the loader's was {name!r}."
                raise DatasetError(cause, "Use a loader that does not shuffle and is not sharded.")
        else:
            source = self.batches[where]
        return {key: _take(source[key], row) for key in VISUAL_KEYS if source.get(key) is not None}


def _take(value: Any, row: int) -> Any:
    """Return one sample of a batched value, with its batch axis."""
    return [value[row]] if isinstance(value, list) else map_tensors(value, lambda tensor: tensor[row : row + 1])


def _stack(values: Sequence[Any], key: str) -> Any:
    """Put single samples into one batch."""
    first = values[0]
    if isinstance(first, list):
        return [item for value in values for item in value]
    try:
        if isinstance(first, Tensor):
            return torch.cat(list(values))
        names = [f.name for f in fields(first)]
        joined: dict[str, Any] = {}
        for name in names:
            items = [getattr(value, name) for value in values]
            if isinstance(items[0], Tensor):
                joined[name] = torch.cat(items)
            elif isinstance(items[0], list) and items[0] and isinstance(items[0][0], Tensor):
                joined[name] = [torch.cat(level) for level in zip(*items, strict=True)]
        return replace(first, **joined)
    except RuntimeError as error:
        cause = f"`{key}` of different patients cannot share a batch: {error}."
        raise DatasetError(cause, "Use batches of one sample, or a preset with one grid.") from error


def _spread(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Return the standard deviation, 1 where there is none."""
    spread = values.std(dims, correction=0, keepdim=True)
    return torch.where(spread > 0, spread, torch.ones_like(spread))


def _cast(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert floats to a dtype; integers are rounded and kept in range."""
    if dtype.is_floating_point:
        return values.to(dtype)
    limits = torch.iinfo(dtype)
    return values.round().clamp(limits.min, limits.max).to(dtype)
