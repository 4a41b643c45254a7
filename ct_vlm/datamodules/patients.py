"""Splitting by patient, so that no patient is on both sides."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable


def split_patients(patients: Iterable[str], fraction: float, seed: int = 0) -> tuple[list[str], list[str]]:
    """Divide patients into a training and a validation part.

    The choice goes by a hash of seed and patient, so a patient added later changes it for few
    others.

    Args:
        patients: Patient ids; repeats count once.
        fraction: Share of the second part; above 0 it gets at least one patient.
        seed: Decides the choice.

    Returns:
        Both parts, sorted.

    Raises:
        ConfigError: If the share is not in [0, 1), or leaves a part empty that should not be.

    Example:
        >>> from ct_vlm.datamodules import split_patients
        >>> train, val = split_patients([f"train_{n}" for n in range(1, 11)], 0.2)
        >>> len(train), len(val), set(train) & set(val)
        (8, 2, set())
    """
    if not 0 <= fraction < 1:
        cause = f"Expected `val_fraction` in [0, 1), but got {fraction}."
        raise ConfigError(cause, "Pass e.g. 0.05.")
    unique = sorted(set(patients))
    ranked = sorted(unique, key=lambda patient: hashlib.sha256(f"{seed}/{patient}".encode()).digest())
    count = 0 if fraction == 0 else max(1, round(fraction * len(unique)))
    if unique and count >= len(unique):
        cause = f"A share of {fraction} leaves none of {len(unique)} patients for training."
        raise ConfigError(cause, "Use a smaller `val_fraction` or more patients.")
    return sorted(ranked[count:]), sorted(ranked[:count])
