"""Batches with the texts and text embeddings of a training phase, whatever data they come from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from ct_vlm.component import Component
from ct_vlm.datamodules.wrapping import WrappingDataModule
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.text import CT_RATE_LABELS, POSITIVE_TEMPLATES, positive_findings, positive_sentences, split_sentences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lightning import LightningDataModule
    from torch import Tensor

Text = Literal["positive_findings", "positive_sentences", "report"]


class TextTargetDataModule(WrappingDataModule):
    """Another data module's batches, with the text that a phase trains on and where it lies.

    ====================== ======================================================= =================
    key                    what                                                    where
    ====================== ======================================================= =================
    report                 positive findings alone, or the report as it is         training batches
    text_key               equal where two texts say the same                      training batches
    text_embedding         whitened embedding of that text                         with an embedder
    condition_embeddings   one embedding for each label that some sample has       with an embedder
    condition_mask         which of them a sample has                              with an embedder
    ====================== ======================================================= =================

    Order and phrasing of positive findings depend on seed, volume and epoch alone, so a run that
    was stopped goes on with the very same texts. Validation keeps one phrasing; test and predict keep the
    report. The original stays in ``full_report``.

    Texts of positive findings come from labels by a bank of sentences, or are the sentences of the report that state
    a positive label. Two volumes with the same findings have the same ``text_key``, however they are worded, so
    that :class:`ct_vlm.losses.InfoNCELoss` does not push one's text away from the other's volume.

    Args:
        data: Gives ``labels``, ``volume_id`` and, for ``"report"``, ``report``.
        text: ``"positive_findings"`` (of the labels), ``"positive_sentences"`` (of the report) or ``"report"``.
        embedder: Turns texts into embeddings, e.g. :class:`ct_vlm.models.TextEmbedder`, or the
            folder in which one was saved; None leaves embeddings out.
        seed: Decides order and phrasing.
        label_names: Names of the labels.
        labeler: Finds the labels of a report's sentences for ``"positive_sentences"``; the rule labeler of
            CT-RATE's labels unless given.

    Raises:
        ConfigError: If ``text`` is unknown.
        DatasetError: If a batch lacks labels or reports.

    Example:
        >>> import torch
        >>> from lightning import LightningDataModule
        >>> from ct_vlm.datamodules import TextTargetDataModule
        >>> data = TextTargetDataModule(LightningDataModule(), label_names=["Lung nodule", "Emphysema"])
        >>> batch = {"labels": torch.tensor([[1.0, 0.0], [0.0, 0.0]]), "volume_id": ["a", "b"]}
        >>> data.add_targets(batch, epoch=0)["report"][1]
        'No significant thoracic abnormalities identified.'

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308: positive findings in phases 2 and 3, reports in phase 4,
        texts of the positive conditions in phase 1. It does not say how texts of positive findings are made:
        both ways are inferred, and so is that equal findings are no negatives of each other.
    """

    def __init__(
        self,
        data: LightningDataModule,
        text: Text = "positive_findings",
        embedder: Any = None,
        *,
        seed: int = 0,
        label_names: Sequence[str] = CT_RATE_LABELS,
        labeler: Any = None,
    ) -> None:
        super().__init__(data)
        if text not in get_args(Text):
            cause = f"Expected `text` to be one of {', '.join(get_args(Text))}, but got {text!r}."
            raise ConfigError(cause, "Use positive findings in phases 1 to 3.")
        self.text, self.seed, self.label_names = text, seed, tuple(label_names)
        self._embedder, self._labeler = embedder, labeler
        self._labelled: dict[tuple[str, ...], Any] = {}

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Let the data finish the batch, then add texts and embeddings."""
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        trainer = self.trainer
        if trainer is not None and (trainer.testing or trainer.predicting):
            return batch
        training = trainer is not None and trainer.training
        return self.add_targets(batch, trainer.current_epoch if training and trainer is not None else None)

    def add_targets(self, batch: Mapping[str, Any], epoch: int | None = None) -> dict[str, Any]:
        """Return a batch with the texts of an epoch and, with an embedder, their embeddings.

        Args:
            batch: Needs ``labels`` and ``volume_id``, or ``report``.
            epoch: None for validation, whose texts are the same in every epoch.
        """
        texts = self._texts(batch, "val" if epoch is None else str(epoch))
        added: dict[str, Any] = {**batch, "report": texts, "text_key": self._keys(batch, texts)}
        if batch.get("report") is not None:
            added["full_report"] = list(batch["report"])
        embedder = self.embedder
        if embedder is None:
            return added
        device = batch["labels"].device if "labels" in batch else torch.device("cpu")
        if isinstance(embedder, torch.nn.Module):
            embedder.to(device)
        added["text_embedding"] = embedder(texts).to(device)
        if batch.get("labels") is not None:
            added.update(self._conditions(batch["labels"], embedder))
        return added

    @property
    def embedder(self) -> Any:
        """The embedder, loaded when it is first asked for; None without one."""
        if isinstance(self._embedder, str | Path):
            self._embedder = Component.from_pretrained(self._embedder).eval()
        return self._embedder

    def _texts(self, batch: Mapping[str, Any], when: str) -> list[str]:
        if self.text == "report":
            return list(_needed(batch, "report"))
        names, labels = _needed(batch, "volume_id"), _needed(batch, "labels").tolist()
        seeds = [f"{self.seed}/{name}/{when}" for name in names]
        if self.text == "positive_sentences":
            samples = zip(_needed(batch, "report"), labels, seeds, strict=True)
            return [
                positive_sentences(report, self._label, row, seed=seed, label_names=self.label_names)
                for report, row, seed in samples
            ]
        return [
            positive_findings(row, seed=seed, label_names=self.label_names)
            for row, seed in zip(labels, seeds, strict=True)
        ]

    def _keys(self, batch: Mapping[str, Any], texts: Sequence[str]) -> list[str]:
        """Return one key a text, equal where texts say the same in another order or in other words of the bank."""
        if self.text == "report":
            return list(texts)
        if self.text == "positive_sentences":
            return [" ".join(sorted(split_sentences(text))) for text in texts]
        rows = batch["labels"].tolist()
        return ["/".join(n for n, v in zip(self.label_names, row, strict=True) if v == 1) for row in rows]

    def _label(self, sentences: Sequence[str]) -> Any:
        """Return the labels of a report's sentences, which are the same in every epoch."""
        if self._labeler is None:
            from ct_vlm.metrics import RuleLabeler

            self._labeler = RuleLabeler()
        known = tuple(sentences)
        if known not in self._labelled:
            self._labelled[known] = self._labeler(sentences)
        return self._labelled[known]

    def _conditions(self, labels: Tensor, embedder: Any) -> dict[str, Tensor]:
        """Return one embedding for each label, and which of them each sample has."""
        # the first phrasing of each label: conditions keep their places
        found = embedder([POSITIVE_TEMPLATES[name][0] for name in self.label_names]).to(labels.device)
        return {
            "condition_embeddings": found[None].expand(len(labels), -1, -1),
            "condition_mask": labels == 1,
        }


def _needed(batch: Mapping[str, Any], key: str) -> Any:
    value = batch.get(key)
    if value is None:
        cause = f"The batch holds no `{key}`, which texts are made of; it holds {sorted(batch)}."
        raise DatasetError(cause, "Use a data module that gives it.")
    return value
