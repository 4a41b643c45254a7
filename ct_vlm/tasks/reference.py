"""The model as it was when preference training began, without a second model in memory."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from ct_vlm.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn


class StartWeights:
    """A copy of the weights that train, put in their place while the reference is asked.

    Everything that does not train is the reference's as well as the policy's. With LoRA the copy is a
    fraction of the model; it holds the adapters of an earlier stage too, which switching adapters off
    would lose.

    Args:
        module: The model.
        weights: Values by parameter name; those of now, of all that train, unless given.

    Raises:
        CheckpointError: If a name is no parameter of the model, or its shape differs.

    Example:
        >>> import torch
        >>> from ct_vlm.tasks.reference import StartWeights
        >>> layer = torch.nn.Linear(1, 1, bias=False)
        >>> start, before = StartWeights(layer), layer.weight.item()
        >>> _ = torch.nn.init.constant_(layer.weight, 7.0)
        >>> with start.in_place(layer):
        ...     layer.weight.item() == before
        True
        >>> layer.weight.item()
        7.0
    """

    def __init__(self, module: nn.Module, weights: Mapping[str, Tensor] | None = None) -> None:
        own = dict(module.named_parameters())
        if weights is None:
            weights = {name: p.detach().clone() for name, p in own.items() if p.requires_grad}
        wrong = [name for name, value in weights.items() if name not in own or own[name].shape != value.shape]
        if wrong:
            cause = (
                f"The reference of the checkpoint has weights that this model lacks or has in another size: {wrong}."
            )
            raise CheckpointError(cause, "Continue with the model that the checkpoint was written for.")
        self.weights = dict(weights)

    @contextmanager
    def in_place(self, module: nn.Module) -> Iterator[None]:
        """Run a block, without gradients, on the copied weights.

        Args:
            module: The model.
        """
        own = {name: p for name, p in module.named_parameters() if name in self.weights}
        trained = {name: p.data for name, p in own.items()}
        try:
            with torch.no_grad():
                for name, parameter in own.items():
                    self.weights[name] = self.weights[name].to(parameter)
                    parameter.data = self.weights[name]
                # which holds weights that were cast before, by parameter
                torch.clear_autocast_cache()
                yield
        finally:
            for name, parameter in own.items():
                parameter.data = trained[name]
            torch.clear_autocast_cache()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the copy for a checkpoint."""
        return dict(self.weights)
