"""PCA whitening of text embeddings: the space in which reports are told apart.

Paper: Ker-VLJEPA-3B, https://arxiv.org/abs/2603.23308 (eq. 8, Table I).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import torch

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.modules.separability import Separability, separability
from ct_vlm.modules.streaming_covariance import StreamingCovariance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

_KEPT = ("mean", "components", "eigenvalues", "total_variance")
"""Buffers that keep their type when the model around them is cast to half precision."""


@dataclass(frozen=True)
class WhiteningReport:
    """What whitening did to a set of embeddings.

    Args:
        explained_variance: Share of the variance that the kept directions hold, of the data of the fit.
        output_dim: Number of kept directions.
        before: Cosines of the embeddings as they are.
        after: Cosines once they are whitened.
    """

    explained_variance: float
    output_dim: int
    before: Separability
    after: Separability

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, nested, for JSON."""
        return asdict(self)


class PCAWhitening(Component):
    """Centre embeddings, keep their directions of most variance, and scale each to unit variance.

    Embeddings of reports lie in a narrow cone: all of them point nearly the same way, and what tells
    them apart is a small part of their length. Whitening takes the common part away and gives every
    direction the same weight: ``z = Lambda^(-1/2) U^T (e - mu)``.

    The fit streams: :meth:`update` as often as there are parts, then :meth:`finalize`. What was fitted
    is part of the state dict, and is not rounded when the model around it is cast to half precision.

    Args:
        input_dim: Width D of the embeddings.
        output_dim: Directions k that are kept.
        eps: Variances below ``eps`` times the largest are raised to it, so that noise along directions
            that the data do not have is not blown up (inferred).

    Shape:
        - Input: ``(..., D)``.
        - Output: ``(..., k)``.

    Raises:
        ConfigError: If it is used before it was fitted, or sizes are out of range.
        ShapeError: If embeddings have another width, or too few were seen for k directions.

    Example:
        >>> import torch
        >>> from ct_vlm.modules import PCAWhitening
        >>> rows = torch.randn(200, 8) * torch.arange(1.0, 9.0) + 5.0
        >>> whitening = PCAWhitening(8, 4).fit(rows)
        >>> bool((torch.cov(whitening(rows).T) - torch.eye(4)).abs().max() < 1e-5)
        True
        >>> whitening.inverse_transform(whitening(rows)).shape
        torch.Size([200, 8])

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308: 22,773 training reports, layer 14 of Llama-3.2-3B (width 3072),
        256 directions, 97.3 % of the variance. Centring follows from the mean cosine of -0.001 after
        whitening (inferred); the inverse is never used there.
    """

    mean: Tensor
    components: Tensor
    eigenvalues: Tensor
    total_variance: Tensor
    count: Tensor

    def __init__(self, input_dim: int = 3072, output_dim: int = 256, *, eps: float = 1e-6) -> None:
        super().__init__()
        if not 1 <= output_dim <= input_dim:
            cause = f"Expected `output_dim` within 1 to `input_dim`={input_dim}, but got {output_dim}."
            raise ConfigError(cause, "Keep at most as many directions as there are.")
        if not 0 <= eps < 1:
            cause = f"Expected `eps` within 0 to 1, but got {eps}."
            raise ConfigError(cause, "Use 1e-6.")
        self.input_dim, self.output_dim, self.eps = input_dim, output_dim, eps
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("components", torch.zeros(output_dim, input_dim))
        self.register_buffer("eigenvalues", torch.zeros(output_dim))
        self.register_buffer("total_variance", torch.zeros(()))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self._statistics: StreamingCovariance | None = None
        self._known_fitted = False
        self.register_load_state_dict_post_hook(_look_again)

    @property
    def fitted(self) -> bool:
        """Whether there is a fit, from data or from a checkpoint."""
        # once true it stays true, so that no later call waits for the device
        self._known_fitted = self._known_fitted or (self.count.device.type != "meta" and int(self.count) > 0)
        return self._known_fitted

    @property
    def explained_variance(self) -> float:
        """Share of the variance that the kept directions hold."""
        self._check_fitted()
        return float(self.eigenvalues.double().sum() / self.total_variance.double())

    @torch.no_grad()
    def update(self, rows: Tensor) -> Self:
        """Take embeddings into the fit that :meth:`finalize` ends.

        Args:
            rows: ``(M, D)``.
        """
        if self._statistics is None:
            self._statistics = StreamingCovariance(self.input_dim)
        self._statistics.update(rows)
        return self

    def merge(self, statistics: StreamingCovariance) -> Self:
        """Take what another shard has seen into the fit.

        Args:
            statistics: Of the same embeddings.
        """
        if self._statistics is None:
            self._statistics = StreamingCovariance(self.input_dim)
        self._statistics.merge(statistics)
        return self

    @torch.no_grad()
    def finalize(self) -> Self:
        """End the fit: the directions are those of all rows, of all processes of a distributed run.

        Every process of such a run calls it, and each ends with the very same numbers.

        Raises:
            ShapeError: If too few rows were seen for ``output_dim`` directions.
            ConfigError: If the rows do not differ.
        """
        seen = StreamingCovariance(self.input_dim) if self._statistics is None else self._statistics
        seen.all_reduce()
        directions, variances = seen.directions(self.output_dim)
        total = seen.covariance().diagonal().sum()
        if not float(variances[0]) > 0:
            cause = f"All {seen.count} embeddings are the same: there is no direction to keep."
            raise ConfigError(cause, "Fit on different texts.")
        found = {"mean": seen.mean, "components": directions, "eigenvalues": variances, "total_variance": total}
        for name, value in {**found, "count": torch.tensor(seen.count)}.items():
            getattr(self, name).copy_(_from_first_process(value))
        self._statistics = None
        return self

    def fit(self, rows: Tensor, part: int = 4096) -> Self:
        """Fit on embeddings that are at hand as a whole; in a distributed run, on those of all processes.

        Args:
            rows: ``(M, D)``.
            part: Rows that are held in float64 at a time.
        """
        self._statistics = None
        for piece in rows.split(part):
            self.update(piece)
        return self.finalize()

    def forward(self, embeddings: Tensor) -> Tensor:
        """Whiten embeddings; in float32 at least, whatever autocast says."""
        return self.transform(embeddings)

    def transform(self, embeddings: Tensor) -> Tensor:
        """Whiten embeddings.

        Args:
            embeddings: ``(..., D)``.

        Raises:
            ConfigError: If there is no fit yet.
            ShapeError: If the width is another one.
        """
        values = self._checked(embeddings, self.input_dim)
        with torch.autocast(values.device.type, enabled=False):
            centred = values - self.mean.to(values.dtype)
            return (centred @ self.components.to(values.dtype).T) / self._scale(values.dtype)

    def inverse_transform(self, whitened: Tensor) -> Tensor:
        """Bring whitened embeddings back; what the dropped directions held is lost.

        Args:
            whitened: ``(..., k)``.

        Shape:
            - Output: ``(..., D)``.

        Raises:
            ConfigError: If there is no fit yet.
            ShapeError: If the width is another one.
        """
        values = self._checked(whitened, self.output_dim)
        with torch.autocast(values.device.type, enabled=False):
            scaled = values * self._scale(values.dtype)
            return scaled @ self.components.to(values.dtype) + self.mean.to(values.dtype)

    def report(self, embeddings: Tensor, groups: Sequence[object] | None = None) -> WhiteningReport:
        """Compare cosines before and after, on the data of the fit or on held-out texts.

        Args:
            embeddings: ``(M, D)``.
            groups: As for :func:`ct_vlm.modules.separability`.
        """
        before = separability(embeddings, groups)
        after = separability(self.transform(embeddings), groups)
        return WhiteningReport(self.explained_variance, self.output_dim, before, after)

    def extra_repr(self) -> str:
        """Show sizes and whether there is a fit."""
        return f"input_dim={self.input_dim}, output_dim={self.output_dim}, fitted={self.fitted}"

    def _scale(self, dtype: torch.dtype) -> Tensor:
        """Return the standard deviation along each direction, floored."""
        floor = self.eps * self.eigenvalues[0]
        return torch.maximum(self.eigenvalues, floor).to(dtype).sqrt()

    def _checked(self, values: Tensor, width: int) -> Tensor:
        self._check_fitted()
        if values.shape[-1:] != (width,) or not values.is_floating_point():
            cause = f"Expected embeddings of width {width}, but got {tuple(values.shape)} {values.dtype}."
            raise ShapeError(cause, "Pass what the fit was made of, or its whitened form to the inverse.")
        return values.to(torch.promote_types(values.dtype, torch.float32))

    def _check_fitted(self) -> None:
        if not self.fitted:
            cause = "The whitening has not been fitted: it would map every text to the same point."
            raise ConfigError(cause, "Call `fit`, or `update` and `finalize`, or load a checkpoint that holds a fit.")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = {name: getattr(self, name) for name in _KEPT}
        super()._apply(fn, recurse)
        for name, kept in before.items():
            moved = getattr(self, name)
            if moved.dtype != kept.dtype:
                setattr(self, name, kept.to(moved.device))
        return self


def _look_again(module: PCAWhitening, keys: object) -> None:  # noqa: ARG001 (torch's signature)
    """Let loaded numbers decide whether there is a fit."""
    module._known_fitted = False


def _from_first_process(value: Tensor) -> Tensor:
    """Return the first process's value: eigenvectors may differ in their last bits between machines."""
    dist = torch.distributed
    if not (dist.is_available() and dist.is_initialized()):
        return value
    device = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
    shared = value.to(device).contiguous()
    dist.broadcast(shared, src=0)
    return shared.to(value.device)
