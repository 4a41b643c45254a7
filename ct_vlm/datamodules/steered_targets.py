"""Batches whose texts start with a list of abnormalities, whatever data they come from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ct_vlm.datamodules.published_lists import check_listed, read_lists
from ct_vlm.datamodules.wrapping import WrappingDataModule
from ct_vlm.datasets.steering import AbnormalityBuilder
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.text.abnormality_lists import render_abnormalities
from ct_vlm.text.steering import render_cot, render_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lightning import LightningDataModule

    from ct_vlm.datamodules.published_lists import Entries

Steering = Literal["cot", "list", "none"]
_TRAINED = ("train", "val")


class SteeredTargetDataModule(WrappingDataModule):
    r"""Another data module's batches, with targets that name the abnormalities before they tell the report.

    ============== ================================================ ========================
    key            what                                             where
    ============== ================================================ ========================
    report         list and report, the list alone, or the report   training and validation
    full_report    the report as it was                             training and validation
    abnormalities  the list as text (None: unknown), for scores      all batches, unless "none"
    ============== ================================================ ========================

    Lists are made of the texts by region where the data has them (RadGenome-ChestCT's links), else of
    the report; or they are read from published files. Test and predict keep the report: a task splits
    what was written into its two parts and scores each.

    With published files, ``setup`` reads them once and checks that each volume to train or validate on
    has a list that can be read in full. In test and predict, a volume that they lack gets a list made of
    its texts, or None without any.

    Args:
        data: Gives ``report``, and ``region_reports`` of the ten regions if it has them.
        steering: ``"cot"`` (list, then report), ``"list"``, or ``"none"`` for the ablation without. The
            model's prompt should ask for the same: ``STEERING_PROMPT`` or ``LIST_PROMPT`` of
            :mod:`ct_vlm.text`.
        lists: Published file with targets, or several (training and validation), see
            :func:`ct_vlm.datasets.steering.read_steered_json`.
        fields: Where a row of ``lists`` holds ``id``, ``prompt`` and ``answer``, as for that function.

    Raises:
        ConfigError: If ``steering`` is unknown, ``fields`` are given without ``lists``, or ``lists`` come
            from files while volumes are flipped: only texts of the data itself are flipped with them.
        DatasetError: If a batch lacks reports, a published list cannot be read in full, or ``lists`` lack
            volumes to train on.

    Example:
        >>> from lightning import LightningDataModule
        >>> from ct_vlm.datamodules import SteeredTargetDataModule
        >>> data = SteeredTargetDataModule(LightningDataModule())
        >>> data.add_targets({"report": ["Heart size is increased."]})["report"][0]
        'Abnormalities:\n(Heart: Heart size is increased.)\n\nReport:\nHeart size is increased.'

    References:
        AbSteering, https://arxiv.org/abs/2603.12469 (stage 1).
    """

    def __init__(
        self,
        data: LightningDataModule,
        steering: Steering = "cot",
        lists: str | Path | Sequence[str | Path] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(data)
        if steering not in get_args(Steering):
            cause = f"Expected `steering` to be one of {', '.join(get_args(Steering))}, but got {steering!r}."
            raise ConfigError(cause, "Use cot for list and report.")
        if lists is not None and self.flips:
            cause = f"Volumes are flipped in training, but the lists of `{lists}` are not."
            raise ConfigError(cause, "Set `flip_probability` to 0, or leave `lists` out.")
        if fields and lists is None:
            cause = "`fields` say where files of `lists` hold their values, but there are no `lists`."
            raise ConfigError(cause, "Pass `lists`, or leave `fields` out.")
        self.steering = steering
        self.lists = [Path(file) for file in ([lists] if isinstance(lists, str | Path) else lists or ())]
        self.fields = dict(fields or {})
        self._build = AbnormalityBuilder()
        self._made: dict[tuple[str, ...], Entries] = {}
        self._published: dict[str, Entries] | None = None

    def setup(self, stage: str) -> None:
        """Set the data up and see that published lists cover what is trained and validated on.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.

        Raises:
            DatasetError: If a published list cannot be read in full, or volumes have none.
        """
        super().setup(stage)
        published = self._published_lists()
        if published is None:
            return
        for part, dataset in _datasets_of(self.data).items():
            if part in _TRAINED:
                check_listed(published, dataset, part)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Let the data finish the batch, then add lists and, in training and validation, targets."""
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        trainer = self.trainer
        if self.steering == "none" or not isinstance(batch, dict):
            return batch
        if trainer is not None and (trainer.testing or trainer.predicting):
            # a key of Nones still says that texts start with a list
            return {**batch, "abnormalities": self.lists_of(batch)}
        return self.add_targets(batch)

    def add_targets(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return a batch with the targets, which are the same in every epoch.

        Args:
            batch: Needs ``report``.
        """
        if self.steering == "none":
            return dict(batch)
        if batch.get("report") is None:
            cause = f"The batch holds no `report` to train on; it holds {sorted(batch)}."
            raise DatasetError(cause, "Use a data module that gives it.")
        reports, entries = list(batch["report"]), self._trained_entries(batch)
        texts = [
            render_list(own) if self.steering == "list" else render_cot(own, report)
            for own, report in zip(entries, reports, strict=True)
        ]
        return {
            **batch,
            "report": texts,
            "full_report": reports,
            "abnormalities": [render_abnormalities(own) for own in entries],
        }

    def lists_of(self, batch: Mapping[str, Any]) -> list[str | None]:
        """Return the list of each sample as text: the published one, else one made of its texts, else None.

        Args:
            batch: Holds ``volume_id`` or ``report``.
        """
        return [None if own is None else render_abnormalities(own) for own in self._entries_of(batch)]

    def _trained_entries(self, batch: Mapping[str, Any]) -> list[Entries]:
        """Return the list of each sample to train on, which published files have to hold if there are any."""
        published = self._published_lists()
        if published is None:
            return [own for own in self._entries_of(batch) if own is not None]
        names = [str(name) for name in batch["volume_id"]]
        missing = [name for name in names if name not in published]
        if missing:
            cause = f"The files of `lists` have no list of {', '.join(map(repr, missing))}."
            raise DatasetError(cause, "Name them in the data module's `exclude`, or leave `lists` out.")
        return [published[name] for name in names]

    def _entries_of(self, batch: Mapping[str, Any]) -> list[Entries | None]:
        """Return the list of each sample, None where neither a file nor a report tells it."""
        texts = batch.get("report")
        names = batch.get("volume_id") or [None] * len(texts or ())
        reports = [None] * len(names) if texts is None else texts
        regions = batch.get("region_reports") or [{}] * len(names)
        published = self._published_lists() or {}
        return [
            published[name] if name in published else self._list_of(report, own)
            for name, report, own in zip(names, reports, regions, strict=True)
        ]

    def _list_of(self, report: str | None, regions: Mapping[str, str]) -> Entries | None:
        """Return the list of one sample's texts, which is made once."""
        if report is None:
            return None
        key = (report, *(f"{name}\n{text}" for name, text in regions.items()))
        if key not in self._made:
            self._made[key] = self._build.from_regions(regions) if regions else self._build.from_report(report)
        return self._made[key]

    def _published_lists(self) -> Mapping[str, Entries] | None:
        """Return the published lists, read once, or None without files."""
        if self._published is None and self.lists and self.steering != "none":
            self._published = read_lists(self.lists, self.fields)
        return self._published


def _datasets_of(data: Any) -> Mapping[str, Any]:
    """Return the data sets of a data module, or of one that it wraps; none if there are none."""
    while data is not None:
        datasets = getattr(data, "datasets", None)
        if isinstance(datasets, dict):
            return datasets
        data = getattr(data, "data", None)
    return {}
