"""SIGReg: how far embeddings are from an isotropic Gaussian, by Epps-Pulley statistics of random projections.

For each direction a, with ``u = x a`` and the empirical characteristic function
``phi(t) = mean_n exp(i t u_n)``, the statistic is::

    T = N * integral |phi(t) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt

and SIGReg is its mean over directions. The integrand is even, so the integral is twice the
trapezoid rule on ``[0, t_max]``. The samples x directions x knots tensor is never made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.ops.dispatch import Backend, dispatch, triton_usable
from ct_vlm.ops.sigreg.naive import characteristic_sums_naive
from ct_vlm.ops.sigreg.torch_path import characteristic_sums_torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["epps_pulley", "random_directions", "sigreg", "sum_over_ranks"]


def sigreg(
    x: Tensor,
    directions: Tensor,
    *,
    knots: int = 17,
    t_max: float = 3.0,
    reduce: Callable[[Tensor], Tensor] | None = None,
    backend: str = "auto",
    chunk_size: int | None = None,
) -> Tensor:
    """Return the mean Epps-Pulley statistic of embeddings over directions and leading axes.

    It is computed in float32 or better, outside autocast. Samples of ``N(0, I)`` give about 1.05,
    whatever N (not 0: that is the noise floor). The gradient at embeddings that are all equal to
    zero is zero: a collapsed encoder must start from noise.

    Args:
        x: Embeddings.
        directions: Unit vectors, see :func:`random_directions`; equal on all ranks.
        knots: Nodes of the trapezoid rule on ``[0, t_max]``. The grid of n nodes (n odd) on
            ``[-t_max, t_max]`` that other code bases use is ``knots = (n + 1) / 2``.
        t_max: End of the integral.
        reduce: Sums a tensor over ranks and passes gradients (:func:`sum_over_ranks`), for the
            statistic of the whole batch under data parallelism. Averaged over ranks, as DDP does, the
            gradients are those of one process with the whole batch.
        backend: ``auto``, ``triton``, ``torch`` or ``naive``.
        chunk_size: Directions whose projections are held at a time; they are made again in the backward
            pass. Sums over ranks stay one call.

    Shape:
        - x: ``(..., N, D)``, N samples.
        - directions: ``(D, M)``.
        - output: scalar.

    Raises:
        ShapeError: If the sizes do not fit each other, or there is no sample.
        ConfigError: If there are fewer than 2 knots or ``t_max`` is not positive.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.sigreg import random_directions, sigreg
        >>> collapsed = torch.zeros(512, 64)
        >>> round(float(sigreg(collapsed, random_directions(64, 256, seed=0))), 2)
        205.85

    References:
        LeJEPA, 2025, https://arxiv.org/abs/2511.08544, and its code's grid of 17 knots on [0, 3]. The
        paper's Algorithm 1 takes 17 nodes on [-5, 5]: ``knots=9, t_max=5``.
    """
    if x.ndim < 2 or directions.ndim != 2 or x.shape[-1] != directions.shape[0]:
        cause = f"`x` {tuple(x.shape)} does not fit `directions` {tuple(directions.shape)}."
        raise ShapeError(cause, "Pass embeddings as (..., N, D) and directions as (D, M).")
    _check_grid(knots, t_max)
    _check_samples(x)
    with torch.autocast(x.device.type, enabled=False):
        dtype = torch.promote_types(x.dtype, torch.float32)
        flat = x.to(dtype).flatten(0, -3) if x.ndim > 2 else x.to(dtype)[None]
        sums = _projected_sums(flat, directions.to(dtype), (t_max / (knots - 1), knots, backend), chunk_size)
        return _statistic(sums, flat.shape[1], t_max / (knots - 1), reduce).mean()


def epps_pulley(
    projections: Tensor,
    *,
    knots: int = 17,
    t_max: float = 3.0,
    reduce: Callable[[Tensor], Tensor] | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return the Epps-Pulley statistic of each column against the standard normal distribution.

    Args:
        projections: One-dimensional samples.
        knots: As in :func:`sigreg`.
        t_max: As in :func:`sigreg`.
        reduce: As in :func:`sigreg`.
        backend: As in :func:`sigreg`.

    Shape:
        - projections: ``(..., N, M)``.
        - output: ``(..., M)``.

    Raises:
        ShapeError: If there is no sample.
        ConfigError: If there are fewer than 2 knots or ``t_max`` is not positive.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.sigreg import epps_pulley
        >>> epps_pulley(torch.linspace(-2, 2, 8, dtype=torch.float64)[:, None]).round(decimals=6).tolist()
        [0.994884]
    """
    _check_grid(knots, t_max)
    _check_samples(projections)
    dtype = torch.promote_types(projections.dtype, torch.float32)
    *leading, samples, columns = projections.shape
    flat = projections.to(dtype).reshape(-1, samples, columns)
    spacing = t_max / (knots - 1)
    sums: Tensor = dispatch("sigreg", BACKENDS, backend, projections=flat, spacing=spacing, knots=knots)
    return _statistic(sums, samples, spacing, reduce).view(*leading, columns)


def random_directions(dim: int, num: int, *, seed: int, device: str | torch.device = "cpu") -> Tensor:
    """Draw unit vectors uniformly: the same ones on every rank and device for the same seed.

    Args:
        dim: D.
        num: M.
        seed: Give every training step its own, e.g. the step.
        device: Where to put them; they are drawn on the CPU.

    Shape:
        - output: float32 ``(D, M)``.

    Example:
        >>> from ct_vlm.ops.sigreg import random_directions
        >>> random_directions(4, 3, seed=0).norm(dim=0).round(decimals=6).tolist()
        [1.0, 1.0, 1.0]
    """
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(dim, num, generator=generator)
    return torch.nn.functional.normalize(directions, dim=0).to(device)


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Sum a tensor over all ranks, with gradients; the tensor itself where there is one process.

    An in-place ``all_reduce`` gives the right loss and a gradient that is too small by the number of ranks.
    """
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return tensor
    from torch.distributed.nn.functional import all_reduce

    result: Tensor = all_reduce(tensor)
    return result


def example_inputs(device: str | torch.device) -> dict[str, Any]:
    """Return the inputs of a small typical call, for ``ct-vlm env``."""
    return {"projections": torch.zeros(1, 8, 4, device=device), "spacing": 0.1875, "knots": 17}


def _projected_sums(x: Tensor, directions: Tensor, grid: tuple[float, int, str], chunk_size: int | None) -> Tensor:
    """Return the characteristic sums of all projections, ``(2, V, M, knots)``, a chunk of directions at a time."""
    spacing, knots, backend = grid

    def sums(part: Tensor) -> Tensor:
        return dispatch("sigreg", BACKENDS, backend, projections=x @ part, spacing=spacing, knots=knots)

    if chunk_size is None or chunk_size >= directions.shape[1]:
        return sums(directions)
    from torch.utils.checkpoint import checkpoint

    parts = directions.split(chunk_size, dim=1)
    chunks = [checkpoint(sums, part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    return torch.cat(chunks, dim=2)


def _statistic(sums: Tensor, samples: int, spacing: float, reduce: Callable[[Tensor], Tensor] | None) -> Tensor:
    """Return the statistics ``(V, M)`` of characteristic sums ``(2, V, M, knots)``."""
    count = torch.tensor(float(samples), dtype=sums.dtype, device=sums.device)
    if reduce is not None:
        sums, count = reduce(sums), reduce(count)
    t = torch.arange(sums.shape[-1], dtype=sums.dtype, device=sums.device) * spacing
    normal = torch.exp(-t.square() / 2)
    # twice the trapezoid rule: half weights at the ends
    weights = torch.full_like(t, 2 * spacing)
    weights[[0, -1]] = spacing
    cos, sin = sums / count
    statistic: Tensor = count * (((cos - normal).square() + sin.square()) * (weights * normal)).sum(-1)
    return statistic


def _check_grid(knots: int, t_max: float) -> None:
    if knots < 2 or t_max <= 0:
        cause = f"Expected `knots` of at least 2 and a positive `t_max`, but got {knots} and {t_max}."
        raise ConfigError(cause, "The defaults are 17 and 3.")


def _check_samples(values: Tensor) -> None:
    if values.ndim < 2 or values.shape[-2] == 0:
        cause = f"Expected samples as (..., N, M) with N > 0, but got {tuple(values.shape)}."
        raise ShapeError(cause, "Skip the loss of an empty batch.")


def _sums_triton(projections: Tensor, spacing: float, knots: int) -> Tensor:
    from ct_vlm.ops.sigreg.kernel import characteristic_sums_triton

    return characteristic_sums_triton(projections, spacing, knots)


def _why_not_triton(projections: Tensor, **settings: Any) -> str | None:  # noqa: ARG001 (the op's signature)
    if projections.dtype != torch.float32:
        return f"the kernel works in float32, and projections are {projections.dtype}"
    return triton_usable(projections.device)


def _never(**inputs: Any) -> str | None:  # noqa: ARG001 (the op's signature)
    return None


BACKENDS = (
    Backend("triton", _sums_triton, _why_not_triton),
    Backend("torch", characteristic_sums_torch, _never),
    Backend("naive", characteristic_sums_naive, _never),
)
