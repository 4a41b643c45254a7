"""Telling from a few numbers an epoch whether a report model still reads its volumes.

Paper: Ker-VLJEPA-3B, https://arxiv.org/abs/2603.23308 (posterior collapse).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class CollapsePoint:
    """What one validation says.

    Args:
        epoch: Epoch of the validation.
        gen_f1: F1 of the labels of written reports.
        lm_loss: Validation loss of the language model.
        gap: ``gen_f1`` less what is left of it when the volumes are another patient's; None if one
            patient has more than half of the samples, so that volumes cannot be exchanged.
    """

    epoch: int
    gen_f1: float
    lm_loss: float
    gap: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class CollapseRule:
    """When a run counts as collapsed.

    Args:
        drop: Share of its best F1 that a model may lose while its loss gets no worse.
        gap: Share of its F1 that must hang on the right volume.
        patience: Validations in a row that must show it.

    Example:
        >>> from ct_vlm.callbacks import CollapsePoint, CollapseRule
        >>> history = [CollapsePoint(0, 0.40, 1.3, 0.2), CollapsePoint(1, 0.15, 1.1, 0.0)]
        >>> CollapseRule(patience=1).findings(history)
        ['generation F1 fell from 0.400 (epoch 0) to 0.150 while the loss went from 1.300 to 1.100',
         'reports score the same with the volumes of other patients (0.150 and 0.150)']

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308: F1 peaks in epochs 1 to 4 and then falls to about 0.15 while the
        loss improves, and ablated volumes make no difference. The thresholds are inferred.
    """

    drop: float = 0.2
    gap: float = 0.1
    patience: int = 2

    def findings(self, history: Sequence[CollapsePoint]) -> list[str]:
        """Return what is wrong by now, in words; an empty list if nothing is.

        Args:
            history: Validations so far, in order.
        """
        recent = list(history[-self.patience :])
        if len(recent) < self.patience:
            return []
        found = []
        best = max(history, key=lambda point: point.gen_f1)
        if all(self._fell(point, best) for point in recent):
            last = recent[-1]
            found.append(
                f"generation F1 fell from {best.gen_f1:.3f} (epoch {best.epoch}) to {last.gen_f1:.3f} "
                f"while the loss went from {best.lm_loss:.3f} to {last.lm_loss:.3f}"
            )
        if all(self._ignores(point) for point in recent):
            last = recent[-1]
            left = last.gen_f1 - (last.gap or 0.0)
            found.append(
                f"reports score the same with the volumes of other patients ({last.gen_f1:.3f} and {left:.3f})"
            )
        return found

    def _fell(self, point: CollapsePoint, best: CollapsePoint) -> bool:
        return point.gen_f1 < (1 - self.drop) * best.gen_f1 and point.lm_loss <= best.lm_loss

    def _ignores(self, point: CollapsePoint) -> bool:
        # a model that scores nothing has nothing to lose
        return point.gen_f1 > 0 and point.gap is not None and point.gap <= self.gap * point.gen_f1
