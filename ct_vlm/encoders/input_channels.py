"""Folding one grey channel and its normalisation into a patch embedding made for colours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


def find_patch_convolution(model: nn.Module) -> tuple[nn.Module, str, nn.Conv2d]:
    """Return a vision transformer's first convolution, with its owner and the name there.

    Args:
        model: A vision transformer; its first 2D convolution embeds the patches.

    Raises:
        ConfigError: If it has none.

    Example:
        >>> owner, name, conv = find_patch_convolution(nn.Sequential(nn.Conv2d(3, 8, 4, 4)))
        >>> name, conv.in_channels
        ('0', 3)
    """
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            owner, _, name = path.rpartition(".")
            return model.get_submodule(owner), name, module
    cause = f"{type(model).__name__} has no 2D convolution that embeds patches."
    raise ConfigError(cause, "Give the encoder as many input channels as the model reads.")


def fold_channels(conv: nn.Conv2d, mean: Sequence[float], std: Sequence[float]) -> nn.Conv2d:
    """Return a one-channel convolution that equals another on a repeated and normalised channel.

    With ``x`` repeated to C channels, ``conv((x - mean) / std)`` is linear in ``x``: the weights are
    summed over channels after division by ``std``, and the means go into the bias. This is exact
    as patches are not padded.

    Args:
        conv: Convolution of C channels without padding.
        mean: Mean that is subtracted from each channel.
        std: Deviation that each channel is divided by.

    Shape:
        - mean, std: C numbers.

    Raises:
        ConfigError: If the convolution pads, is grouped, or has no bias to hold the means.

    Example:
        >>> import torch
        >>> conv = nn.Conv2d(3, 2, 4, 4)
        >>> x = torch.rand(1, 1, 8, 8)
        >>> folded = fold_channels(conv, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
        >>> torch.allclose(folded(x), conv((x.expand(-1, 3, -1, -1) - 0.5) / 0.2), atol=1e-5)
        True
    """
    shifts = any(value != 0 for value in mean)
    if conv.groups != 1 or (shifts and (conv.bias is None or _pads(conv))):
        cause = f"The patch embedding {conv} cannot hold the mean {tuple(mean)} in its weights."
        raise ConfigError(cause, "Pass `input_mode='repeat'`.")
    means, stds = (torch.tensor(v, dtype=torch.float64, device=conv.weight.device)[:, None, None] for v in (mean, std))
    scaled = conv.weight.detach().double() / stds
    bias = None if conv.bias is None else conv.bias.detach().double() - (scaled * means).sum((1, 2, 3))
    sizes: dict[str, Any] = {name: getattr(conv, name) for name in ("kernel_size", "stride", "padding", "dilation")}
    folded = nn.Conv2d(1, conv.out_channels, **sizes, bias=bias is not None, device=conv.weight.device)
    folded.to(conv.weight.dtype)
    with torch.no_grad():
        folded.weight.copy_(scaled.sum(1, keepdim=True))
        if folded.bias is not None and bias is not None:
            folded.bias.copy_(bias)
    return folded


def _pads(conv: nn.Conv2d) -> bool:
    return conv.padding not in {"valid", (0, 0)}
