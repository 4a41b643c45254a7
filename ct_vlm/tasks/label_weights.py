"""Weights of positive labels: given as numbers, or taken from the training labels as a fit begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_vlm.errors import ConfigError
from ct_vlm.losses import positive_weights

if TYPE_CHECKING:
    from collections.abc import Sequence


def weights_of(given: float | Sequence[float] | str, num_labels: int) -> tuple[float, ...] | None:
    """Return one weight a label, or None where they are still to be taken from the training labels.

    Args:
        given: One number for all labels, one a label, or ``"balanced"``.
        num_labels: Number of labels.

    Raises:
        ConfigError: If it is another word, or the numbers are not one a label.

    Example:
        >>> from ct_vlm.tasks.label_weights import weights_of
        >>> weights_of(3, 2), weights_of("balanced", 2)
        ((3.0, 3.0), None)
    """
    if isinstance(given, str):
        if given != "balanced":
            cause = f"Expected `pos_weight` to be numbers or 'balanced', but got {given!r}."
            raise ConfigError(cause, "Use 'balanced' for negatives / positives of each label, at most 10.")
        return None
    weights = [given] * num_labels if isinstance(given, int | float) else list(given)
    if len(weights) != num_labels:
        cause = f"There are {len(weights)} weights of positives for {num_labels} labels."
        raise ConfigError(cause, "Pass one a label, or one for all.")
    return tuple(map(float, weights))


def training_weights(data: Any, num_labels: int) -> tuple[float, ...]:
    """Return negatives / positives of each training label, at most 10, as the paper of Ker-VLJEPA has it.

    Args:
        data: Data module with ``training_labels()``, set up for a fit.
        num_labels: Number of labels.

    Raises:
        ConfigError: If the data tell no labels, or labels of another number.

    Example:
        >>> from types import SimpleNamespace
        >>> from ct_vlm.tasks.label_weights import training_weights
        >>> data = SimpleNamespace(training_labels=lambda: [[1, 0], [0, 0], [0, 1], [0, 1]])
        >>> training_weights(data, 2)
        (3.0, 1.0)

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308: ``w_c = min(n_neg / n_pos, 10)``.
    """
    read = getattr(data, "training_labels", None)
    if read is None:
        cause = "`pos_weight='balanced'` needs a data module with `training_labels()`, and there is none."
        raise ConfigError(cause, "Fit with a data module of this library, or pass numbers.")
    weights = positive_weights(read()).tolist()
    if len(weights) != num_labels:
        cause = f"The training data have {len(weights)} labels, but the task has {num_labels}."
        raise ConfigError(cause, "Set `num_labels` to that of the data.")
    return tuple(weights)
