"""LeJEPA: views of a sample agree, and the embeddings of each view are an isotropic Gaussian.

Paper: LeJEPA, https://arxiv.org/abs/2511.08544.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.losses.sigreg import SIGReg

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class LeJEPALosses(NamedTuple):
    """The loss and its two terms, scalars."""

    loss: Tensor
    invariance: Tensor
    sigreg: Tensor


class LeJEPALoss(nn.Module):
    """Invariance of views to the mean of the global ones, plus SIGReg.

    ``loss = weight * sigreg + (1 - weight) * invariance``. The centre of a sample is the mean of its
    global views, and gradients pass through it: there is no teacher, no stop-gradient and no other
    heuristic against collapse.

    Args:
        weight: Share of SIGReg.
        num_global: Views, the first ones, that make the centre.
        sigreg: Arguments of :class:`~ct_vlm.losses.SIGReg`.

    Shape:
        - Input: ``(V, B, D)``, the projections of V views of B samples.
        - Output: scalars.

    Raises:
        ConfigError: If the weight is no share or there is no global view.
        ShapeError: If the input has fewer views than ``num_global``.

    Example:
        >>> import torch
        >>> from ct_vlm.losses import LeJEPALoss
        >>> views = torch.randn(1, 64, 8).expand(4, 64, 8)
        >>> float(LeJEPALoss()(views).invariance)
        0.0

    References:
        LeJEPA, 2025, https://arxiv.org/abs/2511.08544. Weight .02 and two global views are those of the
        encoder behind Ker-VLJEPA-3B.
    """

    def __init__(self, weight: float = 0.02, num_global: int = 2, sigreg: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        if not 0 <= weight <= 1 or num_global < 1:
            cause = f"Expected a `weight` in [0, 1] and a global view, but got {weight} and {num_global}."
            raise ConfigError(cause, "The defaults are 0.02 and 2.")
        self.weight, self.num_global = weight, num_global
        self.sigreg = SIGReg(**(sigreg or {}))

    def forward(self, projections: Tensor, step: int = 0, *, num_global: int | None = None) -> LeJEPALosses:
        """Return the loss and its terms.

        Args:
            projections: Global views first.
            step: Training step: the same number on all ranks.
            num_global: Global views of this batch, if not as many as the loss was built for.
        """
        centres = self.num_global if num_global is None else num_global
        if projections.ndim != 3 or len(projections) < centres:
            cause = f"Expected at least {centres} views as (V, B, D), but got {tuple(projections.shape)}."
            raise ShapeError(cause, "Stack the projections of all views, global ones first.")
        views = projections.float()
        invariance = (views[:centres].mean(0) - views).square().mean()
        gaussian = self.sigreg(projections, step)
        return LeJEPALosses(self.weight * gaussian + (1 - self.weight) * invariance, invariance, gaussian)
