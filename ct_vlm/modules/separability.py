"""How well embeddings tell texts apart: mean cosine and d'."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch

from ct_vlm.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass(frozen=True)
class Separability:
    """Cosines of pairs that belong together and of pairs that do not.

    Args:
        mean_cosine: Mean over all pairs of two rows.
        same_mean: Mean over pairs that belong together.
        same_std: Their standard deviation.
        different_mean: Mean over pairs that do not.
        different_std: Their standard deviation.
        d_prime: ``(same_mean - different_mean) / sqrt((same_std**2 + different_std**2) / 2)``.
    """

    mean_cosine: float
    same_mean: float
    same_std: float
    different_mean: float
    different_std: float
    d_prime: float

    def to_dict(self) -> dict[str, float]:
        """Return the values by name."""
        return asdict(self)


def separability(rows: Tensor, groups: Sequence[object] | None = None) -> Separability:
    """Measure how far apart embeddings of different texts are.

    Exact over all pairs, without a matrix of pairs: the sums of cosines and of their squares come from
    the sum and the second moment of the unit vectors.

    Args:
        rows: Embeddings, one a text.
        groups: What a text says, e.g. its scan or its set of findings; two different rows of one group
            belong together. Without groups, a row belongs together with itself only, at cosine 1.

    Shape:
        - rows: ``(M, D)``.

    Raises:
        ShapeError: If there are fewer than two rows, a row is zero, groups and rows differ in number, or
            there is no pair of one kind.

    Example:
        >>> import torch
        >>> from ct_vlm.modules import separability
        >>> found = separability(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), ["a", "a", "b"])
        >>> found.same_mean, found.different_mean
        (1.0, 0.0)

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308, Table I, gives mean cosine and d' without a formula: this one,
        and that a text pairs with itself, are inferred.
    """
    if rows.ndim != 2 or len(rows) < 2:
        cause = f"Expected at least two rows as (M, D), but got {tuple(rows.shape)}."
        raise ShapeError(cause, "Pass one embedding a text.")
    values = rows.detach().to("cpu", torch.float64)
    norms = values.norm(dim=1, keepdim=True)
    if not bool((norms > 0).all()):
        cause = "A row is zero or not finite, so it has no cosine with others."
        raise ShapeError(cause, "Leave empty texts out.")
    unit = values / norms
    everything = _ordered_pairs(unit)
    if groups is None:
        return _result(everything, (1.0, 1.0, 1.0), everything)
    if len(groups) != len(rows):
        cause = f"Expected one group a row, but got {len(groups)} for {len(rows)} rows."
        raise ShapeError(cause, "Pass as many groups as texts.")
    members: dict[object, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    parts = [_ordered_pairs(unit[index]) for index in members.values() if len(index) > 1]
    same = _total(parts)
    different = tuple(a - b for a, b in zip(everything, same, strict=True))
    if same[0] == 0 or different[0] == 0:
        cause = f"{len(rows)} rows in {len(members)} groups leave no pair of one kind to compare with the other."
        raise ShapeError(cause, "Pass at least two groups, one of them with two rows; or no groups.")
    return _result(everything, same, (different[0], different[1], different[2]))


def _ordered_pairs(unit: Tensor) -> tuple[float, float, float]:
    """Return number, sum and sum of squares of the cosines of all ordered pairs of different rows."""
    count = len(unit)
    moment = unit.T @ unit if unit.shape[1] < count else unit @ unit.T
    total = unit.sum(0).square().sum().item() - count
    return float(count * (count - 1)), total, moment.square().sum().item() - count


def _total(parts: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    return sum(p[0] for p in parts), sum(p[1] for p in parts), sum(p[2] for p in parts)


def _moments(sums: tuple[float, float, float]) -> tuple[float, float]:
    """Return mean and variance from number, sum and sum of squares."""
    mean = sums[1] / sums[0]
    return mean, max(sums[2] / sums[0] - mean**2, 0.0)


def _result(
    everything: tuple[float, float, float], same: tuple[float, float, float], different: tuple[float, float, float]
) -> Separability:
    (same_mean, same_var), (other_mean, other_var) = _moments(same), _moments(different)
    spread = math.sqrt((same_var + other_var) / 2)
    gap = same_mean - other_mean
    d_prime = gap / spread if spread > 0 else math.copysign(math.inf, gap) if gap else 0.0
    return Separability(
        _moments(everything)[0], same_mean, math.sqrt(same_var), other_mean, math.sqrt(other_var), d_prime
    )
