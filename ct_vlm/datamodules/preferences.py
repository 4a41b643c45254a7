"""Pairs of a better and a worse text beside the volumes that they are about, from whatever data module."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from torch.utils.data import Dataset

from ct_vlm.cache import source_identity
from ct_vlm.datamodules.wrapping import WrappingDataModule
from ct_vlm.datasets import EpochIndex
from ct_vlm.datasets.preferences import read_preferences
from ct_vlm.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning import LightningDataModule

    from ct_vlm.datasets.preferences import PreferencePair

Prompts = Literal["pairs", "model"]
_PARTS = ("train", "val")
_log = logging.getLogger(__name__)


class PreferenceDataset(Dataset[dict[str, Any]]):
    """One item a pair: the item of its volume with ``chosen``, ``rejected`` and ``pair_key``.

    Args:
        dataset: Items with ``volume_id``; what it tells of an item without reading it (``record`` or
            ``items``) says which pairs belong to it.
        pairs: Pairs by volume or scan.
        prompts: ``"pairs"`` puts the pair's prompt into the item, ``"model"`` none.

    Raises:
        DatasetError: If the data set cannot tell its items' volumes, or no pair is about one of them.

    Example:
        >>> import torch
        >>> from ct_vlm.datamodules import FeatureDataset, PreferenceDataset
        >>> from ct_vlm.datasets.preferences import PreferencePair
        >>> volumes = FeatureDataset([torch.zeros(2, 1, 4)], [(1, 1, 1)], [{"volume_id": "a"}, {"volume_id": "b"}])
        >>> pair = PreferencePair("b", "Findings:", "(Lung: A nodule.)", "(Lung: A mass.)")
        >>> dataset = PreferenceDataset(volumes, [pair])
        >>> len(dataset), dataset[0]["volume_id"], dataset[0]["rejected"]
        (1, 'b', '(Lung: A mass.)')
    """

    def __init__(self, dataset: Any, pairs: Sequence[PreferencePair], prompts: Prompts = "pairs") -> None:
        self.dataset, self.prompts = dataset, prompts
        by_name: dict[str, list[PreferencePair]] = {}
        for pair in pairs:
            by_name.setdefault(pair.id, []).append(pair)
        names = [_names(dataset, index) for index in range(len(dataset))]
        self.rows = [(index, pair) for index, own in enumerate(names) for name in own for pair in by_name.get(name, ())]
        if not self.rows:
            shown = [own[0] for own in names[:3]], [pair.id for pair in pairs[:3]]
            cause = f"No pair is about one of the {len(names)} volumes: these are {shown[0]}, the pairs' {shown[1]}."
            raise DatasetError(cause, "`id` of a pair should be a volume or a scan of this data.")

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.rows)

    def __getattr__(self, name: str) -> Any:
        """Return what the volumes' data set has besides."""
        if name.startswith("__") or "dataset" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return an item.

        Args:
            index: Position of a pair; an :class:`ct_vlm.datasets.EpochIndex` also decides random choices.
        """
        place, pair = self._place(index)
        item = {key: value for key, value in self.dataset[place].items() if key != "prompt"}
        return {**item, **self._texts(pair, str(item["volume_id"]), place)}

    def record(self, index: int) -> dict[str, Any]:
        """Return an item without what is read from its volume's file.

        Args:
            index: As in indexing.
        """
        place, pair = self._place(index)
        item = {key: value for key, value in _record(self.dataset, place).items() if key != "prompt"}
        return {**item, **self._texts(pair, str(item["volume_id"]), place)}

    def sample(self, index: int) -> Any:
        """Return what the volumes' index knows of an item.

        Args:
            index: As in indexing.
        """
        return self.dataset.sample(self._place(index)[0])

    def keys(self) -> list[str]:
        """Return the key of every pair, as items hold it."""
        return [self.record(index)["pair_key"] for index in range(len(self))]

    def select(self, places: Sequence[int]) -> PreferenceDataset:
        """Return some of the pairs.

        Args:
            places: Which pairs, in their new order.
        """
        chosen = copy.copy(self)
        chosen.rows = [self.rows[place] for place in places]
        return chosen

    def _place(self, index: int) -> tuple[int, PreferencePair]:
        place, pair = self.rows[index]
        epoch = getattr(index, "epoch", None)
        return (place if epoch is None else EpochIndex(place, epoch)), pair

    def _texts(self, pair: PreferencePair, volume: str, place: int) -> dict[str, str]:
        """Return what a pair adds to an item."""
        texts = {"chosen": pair.chosen, "rejected": pair.rejected}
        if self.prompts == "pairs":
            texts["prompt"] = pair.prompt
        key = json.dumps([volume, texts, _source(self.dataset, place)], sort_keys=True)
        return {**texts, "pair_key": hashlib.sha256(key.encode()).hexdigest()[:32]}


class PreferenceDataModule(WrappingDataModule):
    """Another data module's batches with pairs of texts, for :class:`ct_vlm.tasks.DPOLightningModule`.

    In training and validation an item is a pair; volumes without pairs are left out. A volume's pairs
    come where the data module has put the volume, so pairs of validation patients are never trained on.
    Test and predict are those of the data module, without pairs.

    Args:
        data: Volumes or cached features, e.g. :class:`ct_vlm.datamodules.CTRateDataModule` or
            :class:`ct_vlm.datamodules.SliceEmbeddingDataModule`.
        pairs: File of pairs, see :func:`ct_vlm.datasets.preferences.read_preferences`, or several.
        prompts: Whether the pairs' own prompts are asked (``"pairs"``), or the model's (``"model"``).

    Raises:
        ConfigError: If ``prompts`` is unknown, the data module has no data sets, or its volumes are
            flipped: pairs name sides.
        DatasetError: If a file is malformed, or no pair is about a training volume.

    References:
        AbSteering, https://arxiv.org/abs/2603.12469 (stage 2).
    """

    def __init__(
        self, data: LightningDataModule, pairs: str | Path | Sequence[str | Path], prompts: Prompts = "pairs"
    ) -> None:
        super().__init__(data)
        if prompts not in get_args(Prompts):
            cause = f"Expected `prompts` to be one of {', '.join(get_args(Prompts))}, but got {prompts!r}."
            raise ConfigError(cause, "`model` asks what the model was trained to answer before.")
        if self.flips:
            msg = "Volumes are flipped in training, but the texts of pairs are not."
            raise ConfigError(msg, "Set `flip_probability` to 0.")
        self.prompts = prompts
        self.pairs = [Path(file) for file in ([pairs] if isinstance(pairs, str | Path) else pairs)]

    def setup(self, stage: str) -> None:
        """Set the volumes up and put the pairs beside them.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
        """
        super().setup(stage)
        owner = _owner(self.data)
        waiting = [name for name in _PARTS if name in owner.datasets and len(owner.datasets[name])]
        waiting = [name for name in waiting if not isinstance(owner.datasets[name], PreferenceDataset)]
        if not waiting:
            return
        pairs = [pair for file in self.pairs for pair in read_preferences(file)]
        for name in waiting:
            dataset = self._paired(name, owner.datasets[name], pairs)
            owner.datasets[name] = dataset
            _log.info("%d of %d pairs are about volumes of the %s part.", len(dataset), len(pairs), name)

    def missing_loaders(self, known: Any) -> Iterator[Any]:
        """Yield loaders over the pairs that are not known yet, once each, in order.

        Args:
            known: Anything that says by ``in`` which keys it has.
        """
        owner = _owner(self.data)
        datasets = dict(owner.datasets)
        load = getattr(owner, "loader", None) or owner._loader
        try:
            for name in _PARTS:
                paired = datasets.get(name)
                if not isinstance(paired, PreferenceDataset):
                    continue
                places = [place for place, key in enumerate(paired.keys()) if key not in known]
                if places:
                    owner.datasets[name] = paired.select(places)
                    yield load(name)
        finally:
            owner.datasets.update(datasets)

    def _paired(self, name: str, dataset: Any, pairs: Sequence[PreferencePair]) -> PreferenceDataset:
        try:
            return PreferenceDataset(dataset, pairs, self.prompts)
        except DatasetError as error:
            cause = f"The {name!r} part of the data: {error.cause}"
            raise DatasetError(cause, error.cure) from error


def _owner(data: Any) -> Any:
    """Return the data module that holds the data sets: this one, or one that it wraps."""
    while not isinstance(getattr(data, "datasets", None), dict):
        if not hasattr(data, "data"):
            cause = f"{type(data).__name__} has no `datasets` that pairs could be put beside."
            raise ConfigError(cause, "Wrap e.g. `CTRateDataModule` or `SliceEmbeddingDataModule`.")
        data = data.data
    return data


def _record(dataset: Any, index: int) -> dict[str, Any]:
    """Return what is known of an item without reading its volume."""
    if hasattr(dataset, "record"):
        return dict(dataset.record(index))
    if hasattr(dataset, "items"):
        return dict(dataset.items[index])
    if hasattr(dataset, "dataset"):
        return _record(dataset.dataset, index)
    cause = f"{type(dataset).__name__} cannot tell the volume of an item without reading it."
    raise DatasetError(cause, "Give it a method `record(index)` that returns a dict with `volume_id`.")


def _source(dataset: Any, index: int) -> Any:
    """Return what tells what is seen of a volume from a later one of the same name; None if nothing is known."""
    if hasattr(dataset, "source"):
        return dataset.source(index)
    if hasattr(dataset, "sample"):
        path = getattr(dataset.sample(index), "path", None)
        # a tree that was moved is the same tree
        found = {} if path is None or not Path(path).is_file() else source_identity(path)
        return {name: value for name, value in found.items() if name != "path"}
    return _source(dataset.dataset, index) if hasattr(dataset, "dataset") else None


def _names(dataset: Any, index: int) -> list[str]:
    """Return the names under which a pair may be about an item: its volume, its scan."""
    record = _record(dataset, index)
    return list(dict.fromkeys(str(record[key]) for key in ("volume_id", "study_id") if record.get(key) is not None))
