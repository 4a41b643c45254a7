"""SIGReg as a loss: embeddings are drawn toward an isotropic Gaussian, so that they cannot collapse.

Paper: LeJEPA, https://arxiv.org/abs/2511.08544.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from ct_vlm.errors import ConfigError
from ct_vlm.ops.sigreg import random_directions, sigreg, sum_over_ranks

if TYPE_CHECKING:
    from torch import Tensor


class SIGReg(nn.Module):
    """Sketched isotropic Gaussian regularisation, over the samples of all ranks.

    Each step draws new directions from ``seed`` and the step alone, so ranks agree on them without
    talking, and a resumed run repeats them. Values near 1.05 are the noise floor of a batch that
    is Gaussian already; a batch of equal zeros gives 0.402 a sample.

    Under data parallelism the statistic is that of the whole batch, and gradients that DDP has
    averaged are those of one process with the whole batch.

    Args:
        num_directions: Random directions a step (M).
        knots: Nodes of the trapezoid rule on ``[0, t_max]``.
        t_max: End of the integral over frequencies.
        chunk_size: Directions whose projections are in memory at a time; all of them by default.
        seed: Decides the directions, with the step.

    Shape:
        - Input: ``(..., N, D)``, N samples of a rank.
        - Output: scalar, float32.

    Raises:
        ConfigError: If a setting is out of range.

    Example:
        >>> import torch
        >>> from ct_vlm.losses import SIGReg
        >>> loss = SIGReg(num_directions=256)
        >>> normal = torch.randn(512, 16, generator=torch.Generator().manual_seed(0))
        >>> bool(loss(normal) < 1.5), round(float(loss(0 * normal)), 2)
        (True, 205.85)

    References:
        LeJEPA, 2025, https://arxiv.org/abs/2511.08544; its code takes 17 knots on [0, 3]. 1,024
        directions are those of the encoder behind Ker-VLJEPA-3B.
    """

    def __init__(
        self,
        num_directions: int = 1024,
        *,
        knots: int = 17,
        t_max: float = 3.0,
        chunk_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if num_directions < 1 or knots < 2 or t_max <= 0 or (chunk_size is not None and chunk_size < 1):
            cause = f"SIGReg cannot be computed with {num_directions=}, {knots=}, {t_max=}, {chunk_size=}."
            raise ConfigError(cause, "Use 1024 directions, 17 knots and t_max 3.")
        self.num_directions, self.knots, self.t_max = num_directions, knots, t_max
        self.chunk_size, self.seed = chunk_size, seed

    def forward(self, embeddings: Tensor, step: int = 0) -> Tensor:
        """Return the loss.

        Args:
            embeddings: Samples; the mean is taken over leading axes.
            step: Training step: the same number on all ranks.
        """
        # torch's generator on the CPU reads 32 bits of a seed: both numbers are mixed into them
        mixed = int(np.random.SeedSequence((self.seed, step)).generate_state(1)[0])
        directions = random_directions(embeddings.shape[-1], self.num_directions, seed=mixed, device=embeddings.device)
        return sigreg(
            embeddings,
            directions,
            knots=self.knots,
            t_max=self.t_max,
            reduce=sum_over_ranks,
            chunk_size=self.chunk_size,
        )

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"num_directions={self.num_directions}, knots={self.knots}, t_max={self.t_max}"
