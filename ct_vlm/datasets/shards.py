"""CT-RATE from shards: the items of the folder they were written from, without that folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from torch.utils.data import Dataset

from ct_vlm.datasets.by_patient import ByPatient
from ct_vlm.datasets.ct_rate import ReconPolicy, check_choice, group_samples
from ct_vlm.datasets.epoch_index import draw_seed, epoch_of
from ct_vlm.datasets.layout import VolumeName
from ct_vlm.datasets.sample import Sample
from ct_vlm.datasets.shards_format import unpack_item, unpack_record
from ct_vlm.datasets.shards_store import ShardStore
from ct_vlm.errors import ConfigError
from ct_vlm.transforms import get_preset

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from ct_vlm.transforms import CTPreset


class ShardDataset(ByPatient, Dataset[dict[str, Any]]):
    """The items of a :class:`ct_vlm.datasets.CTRateDataset` that :func:`ct_vlm.datasets.write_shards` wrote.

    Order, reconstructions and random draws are those of the data set it was written from, so training from shards
    sees the same batches.

    Args:
        location: Folder, or an address that litdata knows, e.g. ``s3://bucket/ct-rate/train``.
        preset: Must have the geometry that the shards were written with; that one by default.
        recon_policy: As in :class:`ct_vlm.datasets.CTRateDataset`.
        text: Whether items hold the report, if it was written.
        labels: Whether items hold the labels, if they were written.
        patients: Keep these patients only.
        augment: Called with item and seed.
        cache_dir: Where files of a store are copied to.
        max_cache_gb: How much of a store is copied at most; see :class:`ct_vlm.datasets.shards_store.ShardStore`.
        storage_options: Passed to litdata.
        seed: Decides the reconstruction under ``recon_policy="random"`` and the augmentation.

    **Shape:**
        - image: ``(1, D, H, W)`` int16.
        - spacing: ``(3,)``.
        - labels: ``(18,)``.

    Raises:
        DatasetError: If there are no shards, or other files than ``write_shards`` makes.
        ConfigError: If the preset has another geometry.
        MissingDependencyError: If litdata is not installed.
    """

    def __init__(
        self,
        location: str | Path,
        *,
        preset: str | CTPreset | Mapping[str, Any] | None = None,
        recon_policy: ReconPolicy = "all",
        text: bool = True,
        labels: bool = True,
        patients: Collection[str] | None = None,
        augment: Callable[[dict[str, Any], int], dict[str, Any]] | None = None,
        cache_dir: str | Path | None = None,
        max_cache_gb: float = 100.0,
        storage_options: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        check_choice("recon_policy", recon_policy, get_args(ReconPolicy))
        self.store = ShardStore(
            location, cache_dir=cache_dir, max_cache_gb=max_cache_gb, storage_options=storage_options
        )
        stored = get_preset(self.store.meta["preset"])
        self.preset = stored if preset is None else get_preset(preset)
        if self.preset.geometry_hash() != stored.geometry_hash():
            cause = f"The shards in `{location}` were written with the preset {stored.name!r}: {stored}."
            raise ConfigError(cause, f"Use it, or write shards with {self.preset.name!r}.")
        self.recon_policy: str = recon_policy
        self.text, self.labels, self.seed, self.augment = text, labels, seed, augment
        self.samples = [_sample(row) for row in self.store.meta["samples"]]
        self._numbers = list(range(len(self.samples)))
        self._groups = group_samples(self.samples, self.recon_policy)
        if patients is not None:
            self._keep(patients)

    def __len__(self) -> int:
        """Return the number of items: volumes, or scans under ``first`` and ``random``."""
        return len(self._groups)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return an item.

        Args:
            index: Position; an :class:`ct_vlm.datasets.EpochIndex` also decides the random choice.
        """
        number = self._numbers[self._position(index)]
        item = self._wanted(unpack_item(self.store.read(number), self.store.name(number)))
        if self.augment is not None:
            item = self.augment(item, draw_seed(self.seed, "augment", epoch_of(index), int(index)))
        return item

    def record(self, index: int) -> dict[str, Any]:
        """Return an item without its voxels, which are read but not decompressed.

        Args:
            index: As in indexing.
        """
        number = self._numbers[self._position(index)]
        return self._wanted(unpack_record(self.store.read(number), self.store.name(number)))

    def sample(self, index: int) -> Sample:
        """Return what is known of an item without reading it: names and labels, no report."""
        return self.samples[self._position(index)]

    @property
    def has_labels(self) -> bool:
        """Whether items hold labels."""
        return self.labels and bool(self.store.meta["has_labels"])

    def _keep(self, patients: Collection[str]) -> None:
        """Forget all other patients."""
        places = [place for place, sample in enumerate(self.samples) if sample.name.patient_id in patients]
        self._numbers = [self._numbers[place] for place in places]
        self.samples = [self.samples[place] for place in places]
        self._groups = group_samples(self.samples, self.recon_policy)

    def _position(self, index: int) -> int:
        """Return the sample that an item shows."""
        group = self._groups[index]
        if len(group) == 1:
            return group[0]
        draw = draw_seed(self.seed, epoch_of(index), self.samples[group[0]].name.study_id)
        return group[draw % len(group)]

    def _wanted(self, item: dict[str, Any]) -> dict[str, Any]:
        """Leave out what was not asked for."""
        left_out = {name for name, wanted in (("report", self.text), ("labels", self.labels)) if not wanted}
        return {name: value for name, value in item.items() if name not in left_out}


def _sample(row: dict[str, Any]) -> Sample:
    """Return a sample of the list beside the shards; its file is not known here."""
    labels = row.get("labels")
    return Sample(
        VolumeName(*row["name"]),
        Path(row["name"][0]),
        labels=None if labels is None else tuple(float("nan") if value is None else value for value in labels),
    )
