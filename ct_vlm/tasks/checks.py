"""Checks that stop a run where it goes wrong, with the samples or settings by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ct_vlm.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ct_vlm.transforms import CTPreset


def check_finite_values(values: Tensor, batch: Mapping[str, Any], name: str = "loss") -> None:
    """Raise if a loss (or another result of a batch) is NaN or infinite.

    Args:
        values: Result of the batch; it waits for the device.
        batch: The batch, for the names of its volumes.
        name: What the values are.

    Raises:
        DatasetError: If a value is not finite; it names the volumes, and those with NaN voxels.

    Example:
        >>> import torch
        >>> from ct_vlm.tasks.checks import check_finite_values
        >>> check_finite_values(torch.tensor(0.5), {"volume_id": ["train_1_a_1"]})
    """
    if bool(values.detach().isfinite().all()):
        return
    image = batch.get("image")
    size = 0 if image is None else len(image)
    ids = [str(volume) for volume in batch.get("volume_id") or range(size)]
    cause = f"The {name} of the batch with volumes {ids} is NaN or infinite."
    broken = [i for i in range(size) if isinstance(image, Tensor) and not bool(image[i].isfinite().all())]
    if broken:
        cure = f"Volumes {[ids[i] for i in broken]} hold NaN or infinite voxels: repair or leave out their files."
    else:
        cure = "The volumes are finite: lower the learning rate, clip gradients, or use bf16 instead of fp16."
    raise DatasetError(cause, cure)


def check_same_preset(model: CTPreset | None, data: Any) -> None:
    """Raise if the data is preprocessed in another way than the model says it needs.

    Args:
        model: Preset that the model stores.
        data: Data module; one without a ``preset`` is not compared.

    Raises:
        ConfigError: If the presets differ in more than name and notes.
    """
    other = getattr(data, "preset", None)
    if model is None or other is None or replace(other, name=model.name, notes=model.notes) == model:
        return
    mine, theirs = model.to_config()["init_args"], other.to_config()["init_args"]
    differ = ", ".join(
        f"{key} {mine[key]} and {theirs[key]}"
        for key in mine
        if key not in ("name", "notes") and mine[key] != theirs[key]
    )
    cause = f"The model's preset {model.name!r} and the data's preset {other.name!r} differ: {differ}."
    raise ConfigError(cause, "Give both the same `preset`.")


def check_same_regions(model: Sequence[str] | None, data: Any, *, by_mask: bool) -> None:
    """Raise if a model is asked for other regions than the data has.

    Args:
        model: Regions that the model is asked for; None without.
        data: Data module; data sets without ``regions`` are not compared.
        by_mask: Whether the model reads masks, which it knows by their place alone.

    Raises:
        ConfigError: If a region is unknown to the data, or masks come in another order.

    Example:
        >>> from types import SimpleNamespace
        >>> from ct_vlm.tasks.checks import check_same_regions
        >>> data = SimpleNamespace(datasets={"train": SimpleNamespace(regions=("lung", "bone"))})
        >>> check_same_regions(("bone",), data, by_mask=False)
    """
    if model is None:
        return
    for dataset in getattr(data, "datasets", {}).values():
        found = getattr(getattr(dataset, "dataset", dataset), "regions", None)
        if found is None or (tuple(found) == tuple(model) if by_mask else set(model) <= set(found)):
            continue
        cause = f"The model is asked for the regions {list(model)}, but the data has {list(found)}."
        raise ConfigError(cause, "Give both the same `regions`, in the same order.")
