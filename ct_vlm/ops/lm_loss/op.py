"""The loss of a language model's head: hidden states and the head's weight in, one number out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from ct_vlm.errors import ShapeError
from ct_vlm.ops.dispatch import Backend, dispatch, runs_anywhere
from ct_vlm.ops.lm_loss.naive import lm_loss_naive, lm_losses_naive
from ct_vlm.ops.lm_loss.rows import lm_losses_torch
from ct_vlm.ops.lm_loss.torch_path import lm_loss_torch

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def lm_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    ignore_index: int | None = -100,
    reduction: Literal["mean", "sum", "none"] = "mean",
    backend: str = "auto",
) -> Tensor:
    """Take the cross-entropy of next tokens without holding the logits.

    Only rows that have a target are projected onto the vocabulary, a chunk of them at a time, and
    their gradients are found in the same pass. Without any target the loss is zero. Half precision
    gives a loss in single precision. It differentiates once.

    Args:
        hidden: Hidden states, the input of the head.
        weight: The head's weight; the head has no bias.
        targets: Id that each hidden state has to predict: labels that are shifted already.
        ignore_index: Target of rows without loss; None says that every row has one, which saves a
            wait for the device.
        reduction: ``"mean"`` over the rows that have a target, ``"sum"``, or ``"none"``: one loss a
            row, zero without a target.
        backend: ``auto``, ``torch`` or ``naive``.

    Shape:
        - hidden: ``(..., E)``; weight: ``(V, E)``; targets: ``(...)``.
        - Output: scalar, or ``(...)`` with ``"none"``.

    Raises:
        ShapeError: If shapes do not fit together.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.lm_loss import lm_loss
        >>> hidden, weight = torch.zeros(1, 3, 2), torch.zeros(4, 2)
        >>> lm_loss(hidden, weight, torch.tensor([[-100, 2, 0]])).exp()
        tensor(4.)
        >>> lm_loss(hidden, weight, torch.tensor([[-100, 2, 0]]), reduction="none").exp()
        tensor([[1., 4., 4.]])
    """
    if weight.ndim != 2 or hidden.shape[-1] != weight.shape[1] or hidden.shape[:-1] != targets.shape:
        cause = (
            f"Expected hidden states (..., E), a weight (V, E) and targets (...), but got {tuple(hidden.shape)}, "
            f"{tuple(weight.shape)} and {tuple(targets.shape)}."
        )
        raise ShapeError(cause, "Pass what goes into the head, and one target a row.")
    shape, rows = targets.shape, None
    hidden, targets = hidden.flatten(0, -2), targets.flatten()
    if ignore_index is not None:
        rows = (targets != ignore_index).nonzero().squeeze(1)
        if len(rows) < len(targets):
            hidden, targets = hidden.index_select(0, rows), targets[rows]
    if reduction == "none":
        return _losses(hidden, weight, targets, rows, shape, backend)
    if len(targets) == 0:
        return _zero(hidden, weight)
    loss: Tensor = dispatch("lm_loss", BACKENDS, backend, hidden, weight, targets, mean=reduction == "mean")
    return loss


def _losses(
    hidden: Tensor, weight: Tensor, targets: Tensor, rows: Tensor | None, shape: tuple[int, ...], backend: str
) -> Tensor:
    """Return one loss a row, at the places of those rows that have a target."""
    if len(targets) == 0:
        return _zero(hidden, weight).expand(shape)
    losses: Tensor = dispatch("lm_loss", ROW_BACKENDS, backend, hidden, weight, targets)
    if rows is None or len(rows) == math.prod(shape):
        return losses.view(shape)
    return losses.new_zeros(math.prod(shape)).index_copy(0, rows, losses).view(shape)


def _zero(hidden: Tensor, weight: Tensor) -> Tensor:
    """Return zero, with gradients."""
    return (hidden.sum() + weight[:1].sum()) * 0.0


BACKENDS = (
    Backend("torch", lm_loss_torch, runs_anywhere),
    Backend("naive", lm_loss_naive, runs_anywhere),
)
"""In order of preference."""

ROW_BACKENDS = (
    Backend("torch", lm_losses_torch, runs_anywhere),
    Backend("naive", lm_losses_naive, runs_anywhere),
)
"""The same, for one loss a row."""


def example_inputs(device: str | torch.device) -> dict[str, Any]:
    """Return a small typical call for :func:`ct_vlm.ops.dispatch.explain`: bf16 on CUDA, fp32 elsewhere."""
    import torch

    dtype = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
    hidden = torch.zeros(8, 16, device=device, dtype=dtype)
    targets = torch.zeros(8, dtype=torch.long, device=device)
    return {
        "hidden": hidden,
        "weight": torch.zeros(32, 16, device=device, dtype=dtype),
        "targets": targets,
        "mean": True,
    }
