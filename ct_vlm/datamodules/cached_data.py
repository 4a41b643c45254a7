"""Features on disk in place of volumes: a data module's samples, and what an encoder made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ct_vlm.cache import open_features
from ct_vlm.datamodules.cached_features import CachedFeatureDataset
from ct_vlm.datamodules.features import FeatureDataModule
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from ct_vlm.cache import FeatureCache
    from ct_vlm.datamodules.base import VolumeDataModule
    from ct_vlm.datamodules.cached_features import RecordedDataset


class CachedFeatureDataModule(FeatureDataModule):
    """A data module's samples with features that are read from a folder; voxels are never touched.

    Visual tokens of a video language model, for one, are the same in every epoch, in preference
    training and in evaluation: its tower runs once, and need not be loaded again. The folder says
    itself by which encoder and preprocessing it was made (``ct-vlm embed`` writes both), and the data
    module's preset must be that one.

    Args:
        data: Says which samples there are, their texts and labels, e.g.
            :class:`ct_vlm.datamodules.CTRateDataModule` (``check_files=False`` where voxels are gone).
        folder: Written by ``ct-vlm embed`` or :func:`ct_vlm.datamodules.precompute`, with a manifest.
        batch_size: Samples a batch and process in training.
        eval_batch_size: The same in evaluation; ``batch_size`` unless given.
        seed: Decides the orders.
        num_workers: Reading processes of each loader.

    Raises:
        CheckpointError: If the folder has no manifest.
        ConfigError: If it was made with another preset.
        DatasetError: If a part's first volume has no features.

    References:
        AbSteering, arXiv 2603.12469: a frozen vision tower. That its tokens are kept is ours.
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
    ) -> None:
        super().__init__({}, batch_size=batch_size, eval_batch_size=eval_batch_size, seed=seed, num_workers=num_workers)
        self.data, self.folder = data, Path(folder)
        # tasks compare it with their model's
        self.preset = data.preset

    def training_labels(self) -> list[list[float]]:
        """Return the labels of every training sample, NaN where unknown."""
        return self.data.training_labels()

    def prepare_data(self) -> None:
        """Prepare what the samples come from."""
        self.data.prepare_data()

    def setup(self, stage: str) -> None:
        """Find the samples and their features.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
        """
        cache = open_features(self.folder)
        if cache.spec["preset"] != dict(self.preset.to_config()):
            name = cache.spec["preset"].get("init_args", {}).get("name")
            cause = f"`{self.folder}` was made with the preset {name!r}, the data module has {self.preset.name!r}."
            raise ConfigError(cause, "Use the very same preset, or embed the volumes again.")
        self.data.trainer = self.trainer
        self.data.setup(stage)
        self.datasets = {name: self._cached(dataset, cache) for name, dataset in self.data.datasets.items()}

    def _cached(self, dataset: RecordedDataset, cache: FeatureCache) -> CachedFeatureDataset:
        """Return one part's samples with their features."""
        return CachedFeatureDataset(dataset, cache)
