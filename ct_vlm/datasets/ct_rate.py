"""CT-RATE as a torch data set: volumes in HU, reports, labels and anything else keyed by volume."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch.utils.data import Dataset

from ct_vlm.batch import Batch
from ct_vlm.cache import ArrayCache
from ct_vlm.datasets.by_patient import ByPatient
from ct_vlm.datasets.epoch_index import draw_seed, epoch_of
from ct_vlm.datasets.index import IndexBuilder, IndexOptions
from ct_vlm.datasets.layout import CTRateLayout
from ct_vlm.datasets.tables import join_extra_tables
from ct_vlm.datasets.volumes import preprocessed
from ct_vlm.errors import ConfigError
from ct_vlm.text.labels import CT_RATE_LABELS
from ct_vlm.transforms import get_preset

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from ct_vlm.cache.regions import BasicIndex
    from ct_vlm.datasets.sample import Sample
    from ct_vlm.datasets.volumes import Region
    from ct_vlm.transforms import CTPreset

ReconPolicy = Literal["all", "first", "random"]
MissingText = Literal["exclude", "empty"]


class CTRateDataset(ByPatient, Dataset[dict[str, Any]]):
    """Volumes of CT-RATE with reports and labels, from the folders as they are downloaded.

    The index is what tables and disk have in common. What is left out, and why, is listed in
    :attr:`report` and logged as a warning with counts.

    Images are int16 HU on the preset's grid; the data module windows them on the device. Items are
    dicts with the keys of :class:`ct_vlm.batch.Batch` (``image``, ``spacing``, ``labels``,
    ``report``, ``volume_id``, ``study_id``, ``patient_id``) and the columns of the extra tables.

    Args:
        root: Folder that holds CT-RATE's ``dataset/``, or that folder itself.
        split: ``train`` or ``valid`` (CT-RATE's validation split is everyone's test set).
        version: ``v1`` (raw values and a metadata table), ``v2`` (HU in ``*_fixed`` folders), or
            ``auto`` for v2 where it exists.
        preset: Preprocessing, by name, config or object.
        hu_source: As in :func:`ct_vlm.transforms.load_volume`.
        recon_policy: ``all`` reconstructions, the ``first`` of each scan, or a ``random`` one of
            each scan in each epoch.
        exclude_no_chest: Leave out CT-RATE's list of scans that show no chest.
        text: ``findings``, ``impressions``, ``both``, or ``None`` for no reports.
        missing_text: ``exclude`` volumes without that text, or keep them with an ``empty`` report.
        labels: Whether items hold the 18 labels (NaN where a volume has no row).
        extra_tables: Name to CSV or DataFrame; joined on the volume name.
        patients: Keep these patients only.
        exclude: Volume names to leave out.
        augment: Called with item and seed, e.g. :class:`ct_vlm.transforms.FlipSafeAugmentation`.
        cache_dir: Where preprocessed volumes are kept; ``None`` for no cache.
        cache_codec: How new ones are written, see :class:`ct_vlm.cache.ArrayCache`.
        check_files: Look every file up on disk; ``False`` trusts the tables (slow file systems).
        seed: Decides the reconstruction under ``recon_policy="random"`` and the augmentation.

    **Shape:**
        - image: ``(1, D, H, W)`` int16.
        - spacing: ``(3,)``.
        - labels: ``(18,)``.

    Raises:
        DatasetError: If folders or tables are missing or malformed.
        ConfigError: If an argument has an unknown value.

    References:
        Hamamci et al., CT-RATE, https://huggingface.co/datasets/ibrahimhamamci/CT-RATE
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        version: str = "auto",
        preset: str | CTPreset | Mapping[str, Any] = "phantom",
        hu_source: str = "auto",
        recon_policy: ReconPolicy = "all",
        exclude_no_chest: bool = True,
        text: str | None = "findings",
        missing_text: MissingText = "exclude",
        labels: bool = True,
        extra_tables: Mapping[str, str | Path | pd.DataFrame] | None = None,
        patients: Collection[str] | None = None,
        exclude: Collection[str] = (),
        augment: Callable[[dict[str, Any], int], dict[str, Any]] | None = None,
        cache_dir: str | Path | None = None,
        cache_codec: str = "zstd",
        check_files: bool = True,
        seed: int = 0,
    ) -> None:
        check_choice("recon_policy", recon_policy, get_args(ReconPolicy))
        check_choice("missing_text", missing_text, get_args(MissingText))
        self.preset = get_preset(preset)
        self.recon_policy = recon_policy
        self.seed = seed
        self.augment = augment
        self.cache = ArrayCache(cache_dir, cache_codec)
        options = IndexOptions(
            text=text,
            labels=labels,
            missing_text=missing_text,
            hu_source=hu_source,
            exclude_no_chest=exclude_no_chest,
            check_files=check_files,
            patients=patients,
            exclude=exclude,
            extras=join_extra_tables(extra_tables, set(Batch.__annotations__)) if extra_tables else None,
        )
        self.samples, self.report = IndexBuilder(CTRateLayout(root), split, version, options).build()
        # the folder decides, not the rest of the path, which may hold a `_fixed` of its own
        self.hu_source = {"v1": "csv", "v2": "fixed"}[self.report.version] if hu_source == "auto" else hu_source
        self._groups = group_samples(self.samples, recon_policy)

    def __len__(self) -> int:
        """Return the number of items: volumes, or scans under ``first`` and ``random``."""
        return len(self._groups)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return an item.

        Args:
            index: Position; an :class:`ct_vlm.datasets.EpochIndex` also decides the random choice.
        """
        arrays = preprocessed(self.sample(index), self.preset, self.hu_source, self.cache)
        item = {
            "image": torch.from_numpy(arrays["image"])[None],
            "spacing": torch.from_numpy(arrays["spacing"]).float(),
            **self.record(index),
        }
        if self.augment is not None:
            item = self.augment(item, draw_seed(self.seed, "augment", epoch_of(index), int(index)))
        return item

    def part(self, index: int, region: BasicIndex | Region) -> dict[str, NDArray[Any]]:
        """Return ``image`` and ``spacing`` with a part of the image alone, without augmentation.

        Args:
            index: As in indexing.
            region: As in :func:`ct_vlm.datasets.volumes.preprocessed`.
        """
        return preprocessed(self.sample(index), self.preset, self.hu_source, self.cache, region)

    def record(self, index: int) -> dict[str, Any]:
        """Return an item without what is read from its volume: the file is not opened.

        Args:
            index: As in indexing.
        """
        sample = self.sample(index)
        item: dict[str, Any] = {
            "volume_id": sample.name.volume_id,
            "study_id": sample.name.study_id,
            "patient_id": sample.name.patient_id,
            **sample.extras,
        }
        if sample.report is not None:
            item["report"] = sample.report
        if self.has_labels:
            item["labels"] = torch.tensor(sample.labels or [float("nan")] * len(CT_RATE_LABELS))
        return item

    @property
    def has_labels(self) -> bool:
        """Whether items hold labels."""
        return "labels" in self.report.tables

    def sample(self, index: int) -> Sample:
        """Return what the index knows of an item, without reading its volume."""
        group = self._groups[index]
        if len(group) == 1:
            return self.samples[group[0]]
        draw = draw_seed(self.seed, epoch_of(index), self.samples[group[0]].name.study_id)
        return self.samples[group[draw % len(group)]]

    def _keep(self, patients: Collection[str]) -> None:
        super()._keep(patients)
        self._groups = group_samples(self.samples, self.recon_policy)


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise unless a value is one of the choices."""
    if value not in choices:
        cause = f"Expected `{name}` to be one of {', '.join(choices)}, but got {value!r}."
        raise ConfigError(cause, "Choose one of them.")


def group_samples(samples: Sequence[Sample], policy: str) -> list[list[int]]:
    """Return the positions of the samples that each item may show.

    Args:
        samples: From the index.
        policy: ``all``, ``first`` or ``random``.
    """
    if policy == "all":
        return [[position] for position in range(len(samples))]
    studies: dict[str, list[int]] = defaultdict(list)
    for position, sample in enumerate(samples):
        studies[sample.name.study_id].append(position)
    groups = list(studies.values())
    return [group[:1] for group in groups] if policy == "first" else groups
