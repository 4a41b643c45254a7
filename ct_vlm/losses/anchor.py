"""Holding weights near where a phase began: L2-SP, and EWC with a diagonal Fisher matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor, nn


class AnchorPenalty:
    """``sum_i F_i (theta_i - anchor_i)^2`` over named parameters.

    With all F = 1 this is L2-SP, and what Ker-VLJEPA-3B calls EWC (its equation has no Fisher matrix);
    with :func:`fisher_diagonal` it is elastic weight consolidation. Anchors are kept in float32 or
    better, off the graph.

    Args:
        parameters: Name to parameter: what is held, as it is now.
        fisher: Name to importance; 1 everywhere unless given.

    Raises:
        ConfigError: If there is no parameter, or the importance is not that of these parameters.

    Example:
        >>> import torch
        >>> from ct_vlm.losses import AnchorPenalty
        >>> layer = torch.nn.Linear(2, 1, bias=False)
        >>> penalty = AnchorPenalty(dict(layer.named_parameters()))
        >>> _ = layer.weight.data.add_(3.0)
        >>> penalty(dict(layer.named_parameters())).item()
        18.0

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308, equation 13 (a sum, not a mean); EWC, arXiv 1612.00796;
        L2-SP, arXiv 1802.01483.
    """

    def __init__(self, parameters: Mapping[str, Tensor], fisher: Mapping[str, Tensor] | None = None) -> None:
        if not parameters:
            cause = "No parameter is left to hold near its anchor."
            raise ConfigError(cause, "Train the part whose anchors are wanted, e.g. LoRA, or leave the penalty out.")
        self.anchors = {name: _kept(tensor) for name, tensor in parameters.items()}
        self.fisher = None if fisher is None else {name: _kept(tensor) for name, tensor in fisher.items()}
        shapes = {name: tensor.shape for name, tensor in self.anchors.items()}
        if self.fisher is not None and {name: tensor.shape for name, tensor in self.fisher.items()} != shapes:
            cause = "The Fisher matrix is not of the parameters that are held."
            raise ConfigError(cause, "Compute it with `fisher_diagonal` over the same names.")

    def __call__(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the penalty, a scalar with gradients for the parameters.

        Args:
            parameters: Name to parameter, as it is by now.

        Raises:
            ConfigError: If a held parameter is missing.
        """
        missing = sorted(set(self.anchors) - set(parameters))
        if missing:
            cause = f"{len(missing)} held parameters are gone, e.g. {missing[:3]}."
            raise ConfigError(cause, "Make a new `AnchorPenalty` after parts were swapped.")
        terms = []
        for name in self.anchors:
            parameter = parameters[name]
            anchor = self._on(name, parameter.device)
            squared = (parameter.to(anchor.dtype) - anchor).square()
            terms.append((squared if self.fisher is None else squared * self.fisher[name]).sum())
        return torch.stack(terms).sum()

    def _on(self, name: str, device: torch.device) -> Tensor:
        """Return an anchor on a device; it and its importance stay there."""
        if self.anchors[name].device != device:
            self.anchors[name] = self.anchors[name].to(device)
            if self.fisher is not None:
                self.fisher[name] = self.fisher[name].to(device)
        return self.anchors[name]

    def state_dict(self) -> dict[str, Any]:
        """Return anchors and importance, for a checkpoint."""
        return {"anchors": dict(self.anchors), "fisher": None if self.fisher is None else dict(self.fisher)}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> AnchorPenalty:
        """Build a penalty from what :meth:`state_dict` returned.

        Args:
            state: The dict.

        Raises:
            CheckpointError: If it is none.
        """
        if not isinstance(state, dict) or set(state) != {"anchors", "fisher"}:
            cause = "The checkpoint's anchors cannot be read."
            raise CheckpointError(cause, "Resume from a checkpoint of the same phase.")
        return cls(state["anchors"], state["fisher"])


def fisher_diagonal(
    parameters: Mapping[str, nn.Parameter], losses: Iterable[Callable[[], Tensor]]
) -> dict[str, Tensor]:
    """Return the mean squared gradient of each parameter, the diagonal of the empirical Fisher matrix.

    Args:
        parameters: Name to parameter; each must require gradients.
        losses: Callables that each return the negative log-likelihood of **one** sample: squares
            of a batch's mean gradient are not what EWC asks for.

    Returns:
        Name to importance, in float32 or better.

    Raises:
        ConfigError: If there is no loss.

    Example:
        >>> import torch
        >>> from ct_vlm.losses import fisher_diagonal
        >>> weight = torch.nn.Parameter(torch.tensor([1.0]))
        >>> fisher_diagonal({"w": weight}, [lambda: weight.sum(), lambda: 3 * weight.sum()])
        {'w': tensor([5.])}
    """
    named = list(parameters.items())
    total = {name: torch.zeros_like(_kept(tensor)) for name, tensor in named}
    count = 0
    for loss in losses:
        with torch.enable_grad():
            gradients = torch.autograd.grad(loss(), [tensor for _, tensor in named], allow_unused=True)
        for (name, _), gradient in zip(named, gradients, strict=True):
            if gradient is not None:
                total[name] += gradient.detach().to(total[name].dtype).square()
        count += 1
    if not count:
        cause = "No sample was given to compute the Fisher matrix from."
        raise ConfigError(cause, "Pass one loss a sample.")
    return {name: tensor / count for name, tensor in total.items()}


def _kept(tensor: Tensor) -> Tensor:
    kept = tensor.detach().clone()
    return kept.float() if kept.dtype.itemsize < 4 else kept
