"""Word-overlap scores of reports as torchmetrics classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from ct_vlm.metrics.functional.bleu import NUM_COUNTS
from ct_vlm.metrics.functional.inputs import as_predicted_texts, as_reference_texts, check_pairs
from ct_vlm.metrics.functional.nlg import choose_families, nlg_scores, summarise
from ct_vlm.metrics.functional.overlap import corpus_bleu, nlg_statistics
from ct_vlm.metrics.functional.protocols import get_protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from torch import Tensor


class ReportBLEU(Metric):
    """Corpus BLEU-1 to BLEU-4 under a named protocol; see :func:`~ct_vlm.metrics.functional.nlg_scores`.

    As input to ``forward`` and ``update`` the metric accepts generated reports (``None`` where
    missing) and true reports. As output of ``compute`` it returns the BLEU part of its functional
    twin's dict. Its states are sums of counts, so any number of processes gives the value of one.

    Args:
        protocol: ``"vlm3d"``, ``"uvlm"``, ``"ct2rep"``, ``"hf_evaluate"``, ``"raw"`` or ``"coco"``.
        kwargs: Settings of :class:`torchmetrics.Metric`.

    Raises:
        ConfigError: If the protocol is unknown.

    Example:
        >>> from ct_vlm.metrics import ReportBLEU
        >>> bleu = ReportBLEU()
        >>> bleu.update(["Heart size is normal."], ["Heart size is increased."])
        >>> round(bleu.compute()["bleu_1"], 3)
        0.75
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    counts: Tensor
    totals: Tensor

    def __init__(self, protocol: str = "vlm3d", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        get_protocol(protocol)
        self.protocol = protocol
        self.add_state("counts", torch.zeros(NUM_COUNTS, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("totals", torch.zeros(2, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, predictions: Sequence[str | None], references: Sequence[str]) -> None:
        """Count a batch of reports.

        Args:
            predictions: Generated reports.
            references: True reports.
        """
        counted = nlg_statistics(predictions, references, self.protocol, ["bleu"])
        self.counts += torch.as_tensor(counted.bleu).sum(0).to(self.counts.device)
        self.totals += torch.tensor([counted.num_samples, counted.missing_predictions], device=self.totals.device)

    def compute(self) -> dict[str, Any]:
        """Return the scores over all batches."""
        num_samples, missing = self.totals.tolist()
        return summarise(
            corpus_bleu(self.counts.tolist(), self.protocol), self.protocol, num_samples, missing, ["bleu"]
        )


class ReportNLG(Metric):
    """Word-overlap scores under a named protocol; see :func:`~ct_vlm.metrics.functional.nlg_scores`.

    As input to ``forward`` and ``update`` the metric accepts generated reports (``None`` where
    missing) and true reports. As output of ``compute`` it returns the dict of its functional twin.
    CIDEr and METEOR are scores of a whole set, so the states are the texts themselves, as UTF-8
    bytes that are gathered from all processes: about 4 KB a pair of reports.

    Args:
        protocol: ``"vlm3d"``, ``"uvlm"``, ``"ct2rep"``, ``"hf_evaluate"``, ``"raw"`` or ``"coco"``.
        metrics: Families or single results; by default all that can be computed here. During
            training leave METEOR 1.5 out: it starts a Java program at every ``compute``.
        bertscore_model: Folder of a model for BERTScore.
        kwargs: Settings of :class:`torchmetrics.Metric`.

    Raises:
        ConfigError: If the protocol or a metric is unknown.

    Example:
        >>> from ct_vlm.metrics import ReportNLG
        >>> nlg = ReportNLG(metrics=["bleu", "rouge"])
        >>> nlg.update(["Heart size is normal."], ["Heart size is increased."])
        >>> nlg.update([None], ["No effusion was seen."])
        >>> scores = nlg.compute()
        >>> round(scores["rouge_l"], 3), scores["coverage"]
        (0.375, 0.5)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    texts: list[Tensor]
    lengths: list[Tensor]

    def __init__(
        self,
        protocol: str = "vlm3d",
        metrics: Collection[str] | None = None,
        bertscore_model: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        get_protocol(protocol)
        choose_families(metrics, bertscore_model)
        self.protocol, self.metrics, self.bertscore_model = protocol, metrics, bertscore_model
        self.add_state("texts", [], dist_reduce_fx="cat")
        self.add_state("lengths", [], dist_reduce_fx="cat")
        self._store([])

    def reset(self) -> None:
        """Forget all reports."""
        super().reset()
        self._store([])

    def update(self, predictions: Sequence[str | None], references: Sequence[str]) -> None:
        """Keep a batch of reports.

        Args:
            predictions: Generated reports.
            references: True reports.
        """
        texts, truths = as_predicted_texts(predictions)[0], as_reference_texts(references)
        check_pairs(texts, truths)
        self._store([text for pair in zip(texts, truths, strict=True) for text in pair])

    def compute(self) -> dict[str, Any]:
        """Return the scores over all batches."""
        stored = dim_zero_cat(self.texts).cpu().numpy().tobytes()
        ends = dim_zero_cat(self.lengths).cpu().cumsum(0).tolist()
        texts = [stored[a:b].decode(errors="surrogatepass") for a, b in zip([0, *ends], ends, strict=False)]
        return nlg_scores(texts[::2], texts[1::2], self.protocol, self.metrics, self.bertscore_model)

    def _store(self, texts: Sequence[str]) -> None:
        """Add texts to the states; a process without any still has states of the right type to gather."""
        encoded = [text.encode(errors="surrogatepass") for text in texts]
        joined = torch.frombuffer(bytearray(b"".join(encoded) or b"\0"), dtype=torch.uint8)
        self.texts.append(joined[: sum(map(len, encoded))].to(self.device))
        self.lengths.append(torch.tensor([len(text) for text in encoded], dtype=torch.long, device=self.device))
