"""One scalar that makes visual tokens as long as text embeddings.

Paper: Ker-VLJEPA-3B, https://arxiv.org/abs/2603.23308 (eq. 6).
"""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor, nn

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError, ShapeError


class NormCalibrator(Component):
    """Multiply tokens by ``alpha``, a learned scalar that calibration sets to ``|text| / |visual|``.

    A language model's input embeddings are short (mean length 1.15 in Llama-3.2-3B) where the output of a
    LayerNorm has length ``sqrt(E)``. Calibration overwrites the parameter in place, so that an optimizer
    that holds it goes on from the new value.

    Args:
        embed_dim: Width E of the tokens.
        target_norm: Mean length of the language model's input embeddings; None waits for
            :meth:`set_target`. With it, ``alpha`` starts as for tokens that come out of a LayerNorm.

    Shape:
        - Input and output: ``(..., E)``.

    Raises:
        ConfigError: If ``target_norm`` is not positive, or calibration has no target.
        ShapeError: If tokens have another width, or have no length.

    Example:
        >>> import torch
        >>> from ct_vlm.modules import NormCalibrator
        >>> calibrator = NormCalibrator(3072, target_norm=1.1484)
        >>> f"{calibrator.alpha.item():.5f}"
        '0.02072'
        >>> f"{calibrator.calibrate(torch.full((1, 32, 3072), 2.0)):.5f}"
        '0.01036'

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308: calibrated at the start and again now and then; 1.1484 for
        Llama-3.2-3B. How often is not said: :class:`ct_vlm.callbacks.NormCalibration` does it at the start
        of each epoch (inferred).
    """

    target_norm: Tensor

    def __init__(self, embed_dim: int = 3072, target_norm: float | None = None) -> None:
        super().__init__()
        if target_norm is not None and not 0 < target_norm < math.inf:
            cause = f"Expected `target_norm` above 0, but got {target_norm}."
            raise ConfigError(cause, "Pass the mean length of the language model's input embeddings.")
        self.embed_dim = embed_dim
        # NaN stands for "not known yet"; in the state dict, so that a resumed run can calibrate again
        self.register_buffer("target_norm", torch.tensor(math.nan if target_norm is None else target_norm))
        self.alpha = nn.Parameter(torch.tensor(1.0 if target_norm is None else target_norm / math.sqrt(embed_dim)))
        self._pending = False

    def forward(self, tokens: Tensor) -> Tensor:
        """Scale tokens; the first training pass after :meth:`request` calibrates on its own tokens first."""
        if self._pending and self.training:
            self._pending = False
            self.calibrate(tokens)
        return tokens * self.alpha.to(tokens.dtype)

    @torch.no_grad()
    def set_target(self, embeddings: Tensor) -> Self:
        """Take the mean length of text embeddings as target, and start as for tokens out of a LayerNorm.

        Args:
            embeddings: A language model's input embeddings ``(V, E)``.

        Raises:
            ShapeError: If they have another width, or no length.
        """
        norm = _mean_norm(embeddings, self.embed_dim)
        self.target_norm.fill_(norm)
        self.alpha.fill_(norm / math.sqrt(self.embed_dim))
        return self

    @torch.no_grad()
    def calibrate(self, tokens: Tensor) -> float:
        """Set ``alpha`` so that such tokens get the target's length on average; return it.

        In a distributed run the tokens of all processes count, and all call it.

        Args:
            tokens: Before scaling, ``(..., E)``.

        Raises:
            ConfigError: If there is no target.
            ShapeError: If tokens have another width, or have no length.
        """
        target = float(self.target_norm)
        if math.isnan(target):
            cause = "There is no target length to calibrate to."
            raise ConfigError(cause, "Pass `target_norm`, or call `set_target` with the text embeddings first.")
        alpha = target / _mean_norm(tokens, self.embed_dim, everywhere=True)
        self.alpha.fill_(alpha)
        return alpha

    def request(self) -> None:
        """Calibrate in the next training pass."""
        self._pending = True

    def extra_repr(self) -> str:
        """Show width and target."""
        known = "?" if self.target_norm.is_meta else f"{float(self.target_norm):.4g}"
        return f"embed_dim={self.embed_dim}, target_norm={known}"


def _mean_norm(rows: Tensor, width: int, *, everywhere: bool = False) -> float:
    """Return the mean length of rows, of all processes if asked."""
    if rows.shape[-1] != width:
        cause = f"Expected rows of width {width}, but got {tuple(rows.shape)}."
        raise ShapeError(cause, "Build the calibrator with `embed_dim` of the language model.")
    norms = rows.detach().float().norm(dim=-1)
    sums = torch.stack([norms.sum(), torch.tensor(float(norms.numel()), device=norms.device)])
    dist = torch.distributed
    if everywhere and dist.is_available() and dist.is_initialized():
        dist.all_reduce(sums)
    mean = (sums[0] / sums[1]).item()
    if not 0 < mean < math.inf:
        cause = f"The mean length of the rows is {mean}: nothing can be scaled by it."
        raise ShapeError(cause, "Look for zeros or values that are not finite.")
    return mean
