"""Batches whose texts start with a list of abnormalities, whatever data they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from ct_vlm.datamodules.wrapping import WrappingDataModule
from ct_vlm.datasets.steering import AbnormalityBuilder
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.text.abnormality_lists import render_abnormalities
from ct_vlm.text.steering import render_cot, render_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lightning import LightningDataModule

    from ct_vlm.text.abnormality_lists import Abnormality

    Entries = Sequence[Abnormality]

Steering = Literal["cot", "list", "none"]


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
    the report; or they are read from a published file. Test and predict keep the report: a task splits
    what was written into its two parts and scores each.

    Args:
        data: Gives ``report``, and ``region_reports`` of the ten regions if it has them.
        steering: ``"cot"`` (list, then report), ``"list"``, or ``"none"`` for the ablation without. The
            model's prompt should ask for the same: ``STEERING_PROMPT`` or ``LIST_PROMPT`` of
            :mod:`ct_vlm.text`.
        lists: Published file with targets, see :func:`ct_vlm.datasets.steering.read_steered_json`; its
            volumes' lists are taken from there, and a volume that it lacks is refused.

    Raises:
        ConfigError: If ``steering`` is unknown, or ``lists`` come from a file while volumes are flipped:
            only texts of the data itself are flipped with them.
        DatasetError: If a batch lacks reports, or ``lists`` a volume.

    Example:
        >>> from lightning import LightningDataModule
        >>> from ct_vlm.datamodules import SteeredTargetDataModule
        >>> data = SteeredTargetDataModule(LightningDataModule())
        >>> data.add_targets({"report": ["Heart size is increased."]})["report"][0]
        'Abnormalities:\n(Heart: Heart size is increased.)\n\nReport:\nHeart size is increased.'

    References:
        AbSteering, https://arxiv.org/abs/2603.12469 (stage 1).
    """

    def __init__(self, data: LightningDataModule, steering: Steering = "cot", lists: str | Path | None = None) -> None:
        super().__init__(data)
        if steering not in get_args(Steering):
            cause = f"Expected `steering` to be one of {', '.join(get_args(Steering))}, but got {steering!r}."
            raise ConfigError(cause, "Use cot for list and report.")
        if lists is not None and self.flips:
            cause = f"Volumes are flipped in training, but the lists of `{lists}` are not."
            raise ConfigError(cause, "Set `flip_probability` to 0, or leave `lists` out.")
        self.steering = steering
        self._build = AbnormalityBuilder()
        self._made: dict[tuple[str, ...], Entries] = {}
        self._published: dict[str, Entries] | None = None
        self._file = lists

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Let the data finish the batch, then add lists and, in training and validation, targets."""
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        trainer = self.trainer
        if self.steering == "none" or not isinstance(batch, dict):
            return batch
        if trainer is not None and (trainer.testing or trainer.predicting):
            # without a report the key still says that texts start with a list
            unknown = [None] * len(batch.get("volume_id") or ())
            return {**batch, "abnormalities": unknown if batch.get("report") is None else self.lists_of(batch)}
        return self.add_targets(batch)

    def add_targets(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return a batch with the targets, which are the same in every epoch.

        Args:
            batch: Needs ``report``.
        """
        if self.steering == "none":
            return dict(batch)
        entries = self._entries_of(batch)
        reports = list(batch["report"])
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

    def lists_of(self, batch: Mapping[str, Any]) -> list[str]:
        """Return the list of each sample as text.

        Args:
            batch: Needs ``report``, or with ``lists`` a ``volume_id``.

        Raises:
            DatasetError: If it has none, or a volume is not in the file of lists.
        """
        return [render_abnormalities(own) for own in self._entries_of(batch)]

    def _entries_of(self, batch: Mapping[str, Any]) -> list[Entries]:
        """Return the list of each sample."""
        if self._file is not None:
            return [self._list_in_file(str(name)) for name in batch["volume_id"]]
        reports = batch.get("report")
        if reports is None:
            cause = f"The batch holds no `report`, which lists are made of; it holds {sorted(batch)}."
            raise DatasetError(cause, "Use a data module that gives it.")
        regions = batch.get("region_reports") or [{}] * len(reports)
        return [self._list_of(report, own) for report, own in zip(reports, regions, strict=True)]

    def _list_of(self, report: str, regions: Mapping[str, str]) -> Entries:
        """Return the list of one sample, which is made once."""
        key = (report, *(f"{name}\n{text}" for name, text in regions.items()))
        if key not in self._made:
            self._made[key] = self._build.from_regions(regions) if regions else self._build.from_report(report)
        return self._made[key]

    def _list_in_file(self, volume: str) -> Entries:
        """Return the list of a volume out of the file, which is read once."""
        if self._published is None:
            from ct_vlm.datasets.steering import read_steered_json

            rows = read_steered_json(str(self._file)).rows
            self._published = {row.id: row.target.abnormalities for row in rows}
        if volume not in self._published:
            cause = f"`{self._file}` has no list of {volume!r}."
            raise DatasetError(cause, "Leave the volume out, or leave `lists` out to make lists of the reports.")
        return self._published[volume]
