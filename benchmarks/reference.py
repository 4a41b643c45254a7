"""How far every provider is from the reference in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.calls import Bench, why_not

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from benchmarks.registry import Case, Inputs, Op


class Difference(NamedTuple):
    """Largest difference, and the largest absolute value of the reference beside it."""

    largest: float
    scale: float


class Exact(NamedTuple):
    """Results and gradients of the reference."""

    results: tuple[Tensor, ...]
    gradients: Mapping[str, Tensor]


class Findings(NamedTuple):
    """What a provider's first calls showed: differences, and why it cannot run, by mode."""

    differences: dict[str, Difference]
    reasons: dict[str, str]


def has_backward(op: Op, case: Case) -> bool:
    """Tell whether a case is differentiated."""
    return bool(op.gradients) and case["name"] not in op.forward_only


def run_exact(op: Op, case: Case, rounded: Bench, device: torch.device) -> Exact:
    """Run the reference in float64, on the numbers as the timed data type rounds them."""
    bench = Bench.of(op, _widened(op, case, rounded.inputs, device), rounded.clock)
    provider = op.providers[op.reference]
    results = bench.forward(provider)
    if not has_backward(op, case):
        return Exact(results, {})
    bench.time_full(provider)
    return Exact(results, bench.gradients())


def _widened(op: Op, case: Case, inputs: Inputs, device: torch.device) -> dict[str, Any]:
    widened = op.make_inputs(case, device, torch.float64)
    for name, rounded in inputs.items():
        if isinstance(rounded, Tensor) and rounded.is_floating_point():
            widened[name] = rounded.detach().double()
    return widened


def inspect(op: Op, case: Case, name: str, bench: Bench, exact: Exact | None) -> Findings:
    """Call a provider for the first time, forward and then in full.

    Args:
        op: The op.
        case: The case of the bench's inputs.
        name: The provider.
        bench: Its inputs.
        exact: What to compare with; nothing is compared without it.

    Returns:
        Differences, and the reasons why a mode cannot run.
    """
    found = Findings({}, {})
    provider = op.providers[name]
    try:
        results = bench.forward(provider)
        if exact is not None:
            found.differences["forward"] = largest_difference(zip(results, exact.results, strict=True))
        del results
    except Exception as error:  # any failure of a peer is a row with its reason
        return Findings({}, dict.fromkeys(("forward", "full"), why_not(error)))
    if not has_backward(op, case):
        return found
    if name in op.forward_only:
        found.reasons["full"] = op.forward_only[name]
        return found
    try:
        bench.time_full(provider)
        if exact is not None:
            gradients = bench.gradients()
            shared = [(gradients[leaf], exact.gradients[leaf]) for leaf in gradients if leaf in exact.gradients]
            found.differences["full"] = largest_difference(shared)
    except Exception as error:
        found.reasons["full"] = why_not(error)
    return found


def largest_difference(pairs: Iterable[tuple[Tensor, Tensor]]) -> Difference:
    """Compare tensors with exact ones.

    Raises:
        ValueError: If two shapes differ.

    Example:
        >>> import torch
        >>> from benchmarks.reference import largest_difference
        >>> largest_difference([(torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0]))])
        Difference(largest=0.5, scale=2.0)
    """
    largest = scale = torch.zeros((), dtype=torch.float64)
    for found, expected in pairs:
        if found.shape != expected.shape:
            msg = f"a result has shape {tuple(found.shape)}, that of the reference {tuple(expected.shape)}"
            raise ValueError(msg)
        if found.numel() == 0:
            continue
        error = (found.double() - expected.double()).abs().max().cpu()
        # torch's maximum, unlike Python's, keeps NaN
        largest = torch.maximum(largest, error)
        scale = torch.maximum(scale, expected.double().abs().max().cpu())
    return Difference(float(largest), float(scale))
