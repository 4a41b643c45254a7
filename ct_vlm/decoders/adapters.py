"""Switching LoRA adapters off for a while: the model that they were put on, in the same memory."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


def adapter_layers(module: nn.Module) -> list[Any]:
    """Return the layers of a module that peft has put adapters on.

    Args:
        module: Any module.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [layer for layer in module.modules() if isinstance(layer, BaseTunerLayer)]


def adapters_are_neutral(module: nn.Module) -> bool:
    """Tell whether LoRA adapters change nothing yet, as fresh ones do: one of their two matrices is zero.

    Args:
        module: Any module; one without adapters has none that change anything.
    """
    ups = [matrix for layer in adapter_layers(module) for matrix in getattr(layer, "lora_B", {}).values()]
    return not any(bool(matrix.weight.any()) for matrix in ups)


@contextmanager
def adapters_off(module: nn.Module) -> Iterator[None]:
    """Run a block without the adapters of a module; what trains stays as it was.

    Args:
        module: Any module.

    Example:
        >>> import torch
        >>> from peft import LoraConfig, inject_adapter_in_model
        >>> from ct_vlm.decoders.adapters import adapters_off
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2))
        >>> x, before = torch.ones(1, 2), model(torch.ones(1, 2))
        >>> config = LoraConfig(target_modules=["0"], init_lora_weights=False)
        >>> _ = inject_adapter_in_model(config, model)
        >>> with adapters_off(model):
        ...     torch.equal(model(x), before)
        True
        >>> torch.equal(model(x), before)
        False
    """
    layers = [layer for layer in adapter_layers(module) if not layer.disable_adapters]
    trains = [(parameter, parameter.requires_grad) for layer in layers for parameter in layer.parameters()]
    try:
        for layer in layers:
            layer.enable_adapters(False)
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        # peft switches the adapters' gradients as well
        for parameter, value in trains:
            parameter.requires_grad_(value)
