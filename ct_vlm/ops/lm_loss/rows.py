"""One loss a row of a language model's head, chunk by chunk, for losses that weigh rows or texts.

What a row's gradient is to be multiplied by is known only when the backward pass comes. The gradient
of hidden states is found in the forward pass all the same, where the head is frozen, since a factor
of a row scales that row alone. A head that trains gets its gradient from logits made once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from ct_vlm.ops.lm_loss.torch_path import add_product, chunk_rows, product
from ct_vlm.ops.memory import empty_large

if TYPE_CHECKING:
    from torch import Tensor


def lm_losses_torch(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of each row.

    Shape:
        - hidden: ``(M, E)``; weight: ``(V, E)``; targets: ``(M,)``.
        - Output: ``(M,)``.
    """
    # outside of the function below, where autograd casts gradients back
    if torch.is_autocast_enabled(hidden.device.type):
        kind = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(kind), weight.to(kind)
    with torch.autocast(hidden.device.type, enabled=False):
        losses: Tensor = _RowLosses.apply(hidden, weight, targets, torch.is_grad_enabled())
        return losses


class _RowLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, differentiates: bool) -> Tensor:
        early = differentiates and ctx.needs_input_grad[0] and not ctx.needs_input_grad[1]
        losses, ctx.grad_hidden, _ = _pass(hidden, weight, targets, None, (early, False))
        ctx.save_for_backward(*((targets,) if early else (hidden, weight, targets)))
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.grad_hidden is not None:
            # not in place: the graph may be retained
            return (ctx.grad_hidden * grad.to(ctx.grad_hidden.dtype)[:, None], None, None, None)
        hidden, weight, targets = ctx.saved_tensors
        _, grad_hidden, grad_weight = _pass(hidden, weight, targets, grad, ctx.needs_input_grad[:2])
        return (grad_hidden, grad_weight, None, None)


def _pass(
    hidden: Tensor, weight: Tensor, targets: Tensor, factors: Tensor | None, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Go over the chunks; return the losses and the gradients of hidden states and weight, each only if wanted."""
    kind = torch.float32 if hidden.itemsize < 4 else hidden.dtype
    grad_hidden = torch.empty_like(hidden) if wanted[0] else None
    grad_weight = empty_large(*weight.shape, dtype=kind, device=hidden.device) if wanted[1] else None
    rows = chunk_rows(len(hidden), len(weight) * kind.itemsize)
    buffer = empty_large(rows, len(weight), dtype=kind, device=hidden.device)
    losses = torch.empty(len(hidden), dtype=kind, device=hidden.device)
    for first in range(0, len(hidden), rows):
        chunk = slice(first, first + rows)
        part = hidden[chunk]
        logits = product(part, weight.t(), buffer[: len(part)])
        factor = None if factors is None else factors[chunk].to(kind)
        losses[chunk] = _differentiate(logits, targets[chunk], factor, keep=any(wanted))
        logits = logits.to(hidden.dtype)
        if grad_hidden is not None:
            torch.mm(logits, weight, out=grad_hidden[chunk])
        if grad_weight is not None:
            add_product(grad_weight, logits.t(), part, is_first=first == 0)
    return losses, grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype)


def _differentiate(logits: Tensor, targets: Tensor, factor: Tensor | None, *, keep: bool) -> Tensor:
    """Return the losses of logits, which are overwritten by their gradient (or by nothing of use)."""
    own = targets.unsqueeze(1)
    picked = logits.gather(1, own)
    top = logits.amax(1, keepdim=True)
    sums = logits.sub_(top).exp_().sum(1, keepdim=True)
    if keep:
        scale = torch.ones_like(picked) if factor is None else factor[:, None]
        logits.mul_(scale / sums)
        logits.scatter_add_(1, own, -scale)
    return (sums.log() + top - picked).squeeze(1)
