"""The projector between an encoder's embedding and a self-supervised loss."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from torch import nn

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

_NORMS: dict[str, type[nn.Module]] = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d, "none": nn.Identity}


class SSLProjector(Component):
    """An MLP whose last layer is linear: the loss is taken there, and the embedding before it is kept.

    No norm follows the last layer: it would take away the variance that SIGReg asks for.

    The published encoder has layer norms. A fresh vision transformer gives all images nearly the same
    embedding, a layer norm keeps them alike, and SIGReg then moves them to zero, where its gradient
    vanishes: small models with short training do not leave that saddle. Batch norm divides by the
    differences instead, and they do (LeJEPA's own small example has it). With several processes it
    needs ``Trainer(sync_batchnorm=True)``.

    Args:
        in_dim: Width of the embedding.
        hidden_dim: Width of the hidden layers.
        out_dim: Width of the projection.
        num_hidden: Hidden layers, each with norm and GELU.
        norm: ``"layer"``, ``"batch"`` (over all leading axes) or ``"none"``.

    Shape:
        - Input: ``(..., in_dim)``.
        - Output: ``(..., out_dim)``.

    Raises:
        ConfigError: If a size is not positive or the norm is unknown.

    Example:
        >>> import torch
        >>> from ct_vlm.modules import SSLProjector
        >>> SSLProjector(8, 16, 4)(torch.zeros(2, 3, 8)).shape
        torch.Size([2, 3, 4])

    References:
        Code of the encoder behind Ker-VLJEPA-3B: 1024 - 2048 - 2048 - out with layer norm. Its
        configuration says 124 for the released encoder and 128 elsewhere.
    """

    def __init__(
        self,
        in_dim: int = 1024,
        hidden_dim: int = 2048,
        out_dim: int = 124,
        num_hidden: int = 2,
        norm: Literal["layer", "batch", "none"] = "layer",
    ) -> None:
        super().__init__()
        if min(in_dim, hidden_dim, out_dim) < 1 or num_hidden < 0 or norm not in _NORMS:
            cause = f"No projector with {in_dim=}, {hidden_dim=}, {out_dim=}, {num_hidden=}, {norm=}."
            raise ConfigError(cause, f"Use positive sizes and a norm of {sorted(_NORMS)}.")
        self.in_dim, self.out_dim = in_dim, out_dim
        widths = [in_dim, *[hidden_dim] * num_hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), _NORMS[norm](after), nn.GELU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(widths[-1], out_dim))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Project embeddings."""
        leading = embeddings.shape[:-1]
        return self.mlp(embeddings.flatten(0, -2) if embeddings.ndim > 2 else embeddings).unflatten(0, leading)
