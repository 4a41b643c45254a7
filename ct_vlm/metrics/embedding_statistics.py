"""Whether embeddings collapse: how many directions they use, and how alike they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torchmetrics import Metric

from ct_vlm.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor


class EmbeddingStatistics(Metric):
    """Effective rank, cosine and spread of embeddings, from sums that add up over batches and ranks.

    A collapsed encoder has an effective rank near 1 (one direction) or a spread near 0 (one point).

    - ``effective_rank``: exponential of the entropy of the centred embeddings' singular values;
      between 1 and D, and below the number of embeddings.
    - ``mean_cosine``: mean over pairs of different embeddings; near 1 where all point one way.
    - ``mean_std``, ``min_std``: standard deviation of each dimension, mean and least.

    Args:
        dim: Width D of the embeddings.
        kwargs: Arguments of ``torchmetrics.Metric``.

    Shape:
        - update: ``(..., D)``.

    Raises:
        ShapeError: If embeddings have another width.

    Example:
        >>> import torch
        >>> from ct_vlm.metrics import EmbeddingStatistics
        >>> statistics = EmbeddingStatistics(2)
        >>> statistics.update(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        >>> {name: round(float(value), 3) for name, value in statistics.compute().items()}
        {'effective_rank': 2.0, 'mean_cosine': -0.333, 'mean_std': 0.816, 'min_std': 0.816}

    References:
        Effective rank: Roy and Vetterli, The effective rank, EUSIPCO 2007.
    """

    full_state_update = False
    count: Tensor
    total: Tensor
    products: Tensor
    units: Tensor

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        # float64: variances are differences of large sums
        for name, shape in (("count", ()), ("total", (dim,)), ("products", (dim, dim)), ("units", (dim,))):
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.set_dtype(torch.float64)

    def update(self, embeddings: Tensor) -> None:
        """Add embeddings.

        Args:
            embeddings: Any leading axes.
        """
        if embeddings.shape[-1] != self.dim:
            cause = f"Expected embeddings of width {self.dim}, but got {tuple(embeddings.shape)}."
            raise ShapeError(cause, "Build the metric with the encoder's width.")
        x = embeddings.detach().reshape(-1, self.dim).double()
        self.count += len(x)
        self.total += x.sum(0)
        self.products += x.T @ x
        self.units += F.normalize(x, dim=1).sum(0)

    def compute(self) -> dict[str, Tensor]:
        """Return the statistics; NaN for fewer than two embeddings."""
        n = self.count
        centred = self.products - torch.outer(self.total, self.total) / n
        if n < 2:
            nan = torch.full_like(n, float("nan"))
            return dict.fromkeys(("effective_rank", "mean_cosine", "mean_std", "min_std"), nan)
        spread = (centred.diagonal() / (n - 1)).clamp(min=0).sqrt()
        return {
            "effective_rank": _effective_rank(centred),
            "mean_cosine": (self.units.square().sum() - n) / (n * (n - 1)),
            "mean_std": spread.mean(),
            "min_std": spread.min(),
        }


def _effective_rank(scatter: Tensor) -> Tensor:
    """Return the effective rank of centred embeddings from the sum of their outer products."""
    singular = torch.linalg.eigvalsh(scatter).clamp(min=0).sqrt()
    # below the rounding of the sums there is no direction; all zeros count as one
    share = singular.where(singular > 1e-7 * singular.max(), 0)
    share = share / share.sum().clamp(min=torch.finfo(share.dtype).tiny)
    return torch.special.entr(share).sum().exp()
