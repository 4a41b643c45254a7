"""Features of a frozen encoder on disk: slice embeddings, visual tokens, levels."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.cache.collecting import RECORDED_SOURCE
from ct_vlm.cache.identity import source_state
from ct_vlm.cache.store import ArrayCache
from ct_vlm.component import Component
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.features import Features

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from ct_vlm.cache.entry import CacheEntry

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
_BFLOAT = "bfloat16"  # NumPy has no such type: its bits are kept as 16-bit integers
_OPTIONAL = ("slice_position_mm", "padding_mask")


def model_identity(model: nn.Module) -> str:
    """Return a digest of everything that decides what a module computes: its configuration and weights.

    Args:
        model: A component, or any module (then its printed structure stands for the configuration).

    Example:
        >>> import torch
        >>> from ct_vlm.cache import model_identity
        >>> layer = torch.nn.Linear(2, 1)
        >>> before = model_identity(layer)
        >>> _ = torch.nn.init.zeros_(layer.weight)
        >>> model_identity(layer) == before
        False
    """
    config: Any = [type(model).__module__, type(model).__qualname__, repr(model)]
    if isinstance(model, Component):
        config = model.to_config()
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class FeatureCache:
    """A folder of features, one entry a sample, under the model that made them.

    Where an entry lies depends on the model, the preprocessing, what is kept and the sample's
    name. The voxels' file is recorded beside: if it changed since, the entry counts as absent; if
    it is gone, the entry still serves, so training can run where no voxels are.

    Args:
        folder: Where entries lie; one folder below it a model.
        model: From :func:`model_identity`.
        preset: Configuration of the preprocessing (``CTPreset.to_config()``).
        dtype: ``float16``, ``bfloat16`` or ``float32``: what levels are stored as, without further loss.
        levels: Levels to keep (all by default); the others become maps of zero channels.
        codec: As in :class:`ct_vlm.cache.ArrayCache`.

    Raises:
        ConfigError: If type or codec are unknown.

    Example:
        >>> import tempfile, torch
        >>> from ct_vlm.cache import FeatureCache
        >>> from ct_vlm.features import Features
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache = FeatureCache(folder, "digest of the encoder", {}, dtype="bfloat16")
        ...     _ = cache.store("train_1_a_1", Features([torch.ones(1, 8, 4)], [(2, 2, 2)]))
        ...     found = cache.load("train_1_a_1")
        >>> found.levels[0].dtype, found.grids
        (torch.bfloat16, [(2, 2, 2)])
    """

    def __init__(
        self,
        folder: str | Path,
        model: str,
        preset: Mapping[str, Any],
        *,
        dtype: str = "float16",
        levels: Collection[int] | None = None,
        codec: str = "zstd",
    ) -> None:
        if dtype not in _DTYPES:
            cause = f"Expected `dtype` to be one of {', '.join(_DTYPES)}, but got {dtype!r}."
            raise ConfigError(cause, "Half precision halves disk and reading; `float32` keeps every bit.")
        self.store_dtype, self.levels = _DTYPES[dtype], None if levels is None else sorted(levels)
        self.spec: dict[str, Any] = {"model": model, "preset": dict(preset), "dtype": dtype, "levels": self.levels}
        self.arrays = ArrayCache(folder, codec)

    def path(self, sample: str) -> Path:
        """Return where a sample's entry lies.

        Args:
            sample: The sample's name.
        """
        readable = re.sub(r"[^\w-]+", "_", sample) or "_"
        model = re.sub(r"[^\w-]+", "_", self.spec["model"])[:16] or "_"
        path = self.arrays.path(f"features-{model}/{readable}", self._key(sample))
        assert path is not None  # noqa: S101  (a feature cache has a folder)
        return path

    def contains(self, sample: str) -> bool:
        """Tell whether a sample's entry is there and its source did not change.

        Args:
            sample: The sample's name.
        """
        entry = self.arrays.open(self.path(sample))
        if entry is None:
            return False
        with entry:
            return _is_current(entry)

    def store(
        self,
        sample: str,
        features: Features,
        *,
        source: Mapping[str, Any] | None = None,
        extra: Mapping[str, Tensor] | None = None,
    ) -> bool:
        """Write a sample's features; return False if they cannot be written.

        Args:
            sample: The sample's name.
            features: Features of this one sample.
            source: Identity of its file (:func:`ct_vlm.cache.source_identity`).
            extra: Tensors kept beside, e.g. ``spacing``.

        Raises:
            ShapeError: If the features are of several samples.
        """
        if any(len(level) != 1 for level in features.levels):
            cause = f"Expected the features of one sample, but got {[tuple(x.shape) for x in features.levels]}."
            raise ShapeError(cause, "Store the samples of a batch one by one.")
        count = len(features.levels)
        wanted = {level % count for level in (range(count) if self.levels is None else self.levels)}
        # a level that is not wanted keeps its place, with no channels
        tensors = {
            f"level_{i}": (x if i in wanted else x[..., :0]).to(self.store_dtype) for i, x in enumerate(features.levels)
        }
        tensors |= {name: value for name in _OPTIONAL if (value := getattr(features, name)) is not None}
        meta = {"grids": features.grids, RECORDED_SOURCE: None if source is None else dict(source)}
        return self._store(sample, {**tensors, **{f"extra_{name}": x for name, x in (extra or {}).items()}}, meta)

    def load(self, sample: str) -> Features | None:
        """Return a sample's features, as of a batch of one; ``None`` if there are none that still hold.

        Args:
            sample: The sample's name.
        """
        found = self.load_all(sample)
        return None if found is None else found[0]

    def load_all(self, sample: str) -> tuple[Features, dict[str, Tensor]] | None:
        """Return a sample's features and the tensors kept beside them.

        Args:
            sample: The sample's name.
        """
        read = self.arrays.try_read(self.path(sample), _read)
        if not read:
            return None
        tensors, meta = read
        levels = [tensors[f"level_{i}"] for i in range(len(meta["grids"]))]
        grids = [(int(d), int(h), int(w)) for d, h, w in meta["grids"]]
        extra = {name.removeprefix("extra_"): x for name, x in tensors.items() if name.startswith("extra_")}
        positions, padding = (tensors.get(name) for name in _OPTIONAL)
        return Features(levels, grids, slice_position_mm=positions, padding_mask=padding), extra

    def _key(self, sample: str) -> dict[str, Any]:
        return {"features": self.spec, "sample": sample}

    def _store(self, sample: str, tensors: Mapping[str, Tensor], meta: dict[str, Any]) -> bool:
        arrays = {name: _to_numpy(tensor) for name, tensor in tensors.items()}
        meta["types"] = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()}
        return self.arrays.store(self.path(sample), arrays, key=self._key(sample), meta=meta)


def _is_current(entry: CacheEntry) -> bool:
    """Tell whether the recorded source is as it was, or not there to be compared."""
    recorded = entry.meta.get(RECORDED_SOURCE)
    return recorded is None or source_state(recorded) != "changed"


def _read(entry: CacheEntry) -> tuple[dict[str, Tensor], dict[str, Any]] | tuple[()]:
    if not _is_current(entry):
        return ()
    types = entry.meta["types"]
    tensors = {name: torch.from_numpy(array[...]) for name, array in entry.items()}
    return {name: x.view(torch.bfloat16) if types[name] == _BFLOAT else x for name, x in tensors.items()}, entry.meta


def _to_numpy(tensor: Tensor) -> NDArray[np.generic]:
    tensor = tensor.detach().cpu().contiguous()
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
