"""Weights of the losses of a phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def check_weights(weights: Mapping[str, float], known: Sequence[str]) -> dict[str, float]:
    """Return loss weights as floats, of which a weight of zero is left out.

    Args:
        weights: Name of a loss to its weight.
        known: Names that there are.

    Raises:
        ConfigError: If a name is unknown or a weight is negative.

    Example:
        >>> from ct_vlm.losses.weights import check_weights
        >>> check_weights({"bce": 1.5, "mmd": 0}, ["bce", "mil", "mmd"])
        {'bce': 1.5}
    """
    unknown = sorted(set(weights) - set(known))
    if unknown:
        cause = f"Unknown losses {unknown}."
        raise ConfigError(cause, f"Choose from {sorted(known)}.")
    negative = {name: weight for name, weight in weights.items() if not weight >= 0}
    if negative:
        cause = f"Expected weights of 0 or more, but got {negative}."
        raise ConfigError(cause, "A weight of 0 leaves a loss out.")
    return {name: float(weight) for name, weight in weights.items() if weight > 0}
