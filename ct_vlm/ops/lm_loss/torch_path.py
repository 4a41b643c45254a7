"""The loss of a language model's head with gradients found in the forward pass, chunk by chunk.

The logits of a chunk of rows are turned into their own gradient in place, and both products with it
follow at once: three products with the vocabulary, as many as without chunks, and no logits are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ct_vlm.ops.memory import empty_large

if TYPE_CHECKING:
    from torch import Tensor

CHUNK_BYTES = 96 * 2**20
"""Most bytes of logits at a time. Every chunk reads the whole weight, so small chunks cost time."""


def lm_loss_torch(hidden: Tensor, weight: Tensor, targets: Tensor, *, mean: bool) -> Tensor:
    """Call PyTorch's own chunked function on accelerators where it has one (2.13 and newer), else ours.

    On the CPU its chunks are a few rows high, and every one of them reads the whole weight.

    Shape:
        - hidden: ``(M, E)``; weight: ``(V, E)``; targets: ``(M,)``.
        - Output: scalar.
    """
    # outside of the function below, where autograd casts gradients back
    if torch.is_autocast_enabled(hidden.device.type):
        kind = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(kind), weight.to(kind)
    with torch.autocast(hidden.device.type, enabled=False):
        if hidden.device.type != "cpu" and hasattr(F, "linear_cross_entropy"):
            return _library(hidden, weight, targets, mean=mean)
        loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets, mean, torch.is_grad_enabled())
        return loss


def _library(hidden: Tensor, weight: Tensor, targets: Tensor, *, mean: bool) -> Tensor:
    options = torch.nn.LinearCrossEntropyOptions(allow_retain_graph=True)
    return F.linear_cross_entropy(hidden, weight, targets, reduction="mean" if mean else "sum", options=options)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, mean: bool, differentiates: bool) -> Tensor:
        ctx.factor = 1.0 / len(targets) if mean else 1.0
        wanted = tuple(needed and differentiates for needed in ctx.needs_input_grad[:2])
        loss, ctx.grads = _loss_and_grads(hidden, weight, targets, ctx.factor, wanted)
        ctx.save_for_backward(hidden, weight, targets)
        return loss.float() if hidden.itemsize < 4 else loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # the gradients are handed over: a second pass over a retained graph finds them again
        found, ctx.grads = ctx.grads, None
        if found is None:
            hidden, weight, targets = ctx.saved_tensors
            _, found = _loss_and_grads(hidden, weight, targets, ctx.factor, ctx.needs_input_grad[:2])
        return (*(_scaled(tensor, grad) for tensor in found), None, None, None)


def _loss_and_grads(
    hidden: Tensor, weight: Tensor, targets: Tensor, factor: float, wanted: tuple[bool, ...]
) -> tuple[Tensor, tuple[Tensor | None, Tensor | None]]:
    """Return the loss and the gradients of hidden states and weight, each only if wanted."""
    kind = torch.float32 if hidden.itemsize < 4 else hidden.dtype
    device = hidden.device
    grad_hidden = torch.empty_like(hidden) if wanted[0] else None
    grad_weight = empty_large(*weight.shape, dtype=kind, device=device) if wanted[1] else None
    rows = chunk_rows(len(hidden), len(weight) * kind.itemsize)
    buffer = empty_large(rows, len(weight), dtype=kind, device=device)
    loss = torch.zeros((), dtype=kind, device=device)
    for first in range(0, len(hidden), rows):
        part, target = hidden[first : first + rows], targets[first : first + rows]
        logits = product(part, weight.t(), buffer[: len(part)])
        loss += _differentiate(logits, target, factor, keep=any(wanted))
        logits = logits.to(hidden.dtype)
        if grad_hidden is not None:
            torch.mm(logits, weight, out=grad_hidden[first : first + rows])
        if grad_weight is not None:
            add_product(grad_weight, logits.t(), part, is_first=first == 0)
    return loss, (grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype))


def _differentiate(logits: Tensor, targets: Tensor, factor: float, *, keep: bool) -> Tensor:
    """Return the loss of logits, which are overwritten by their gradient (or by nothing of use)."""
    own = targets.unsqueeze(1)
    picked = logits.gather(1, own)
    top = logits.amax(1, keepdim=True)
    sums = logits.sub_(top).exp_().sum(1, keepdim=True)
    if keep:
        logits.mul_(factor / sums)
        logits.scatter_add_(1, own, torch.full_like(picked, -factor))
    return (sums.log() + top - picked).sum() * factor


def product(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    """Multiply into ``out``, which is wider than half precision."""
    return torch.mm(left, right, out=out) if left.dtype == out.dtype else out.copy_(torch.mm(left, right))


def add_product(total: Tensor, left: Tensor, right: Tensor, *, is_first: bool) -> None:
    """Add a product to a sum, or begin the sum with it."""
    if left.dtype != total.dtype:
        # chunks are summed in single precision
        summand = torch.mm(left, right)
        total.copy_(summand) if is_first else total.add_(summand)
    else:
        torch.addmm(total, left, right, beta=0 if is_first else 1, out=total)


def chunk_rows(rows: int, row_bytes: int) -> int:
    """Return the height of chunks that are about equally high."""
    chunks = -(-rows * row_bytes // CHUNK_BYTES)
    return -(-rows // max(1, min(chunks, rows)))


def _scaled(found: Tensor | None, grad: Tensor) -> Tensor | None:
    """Multiply by the gradient of the loss; on the CPU it costs nothing to see that this is one."""
    if found is None or (grad.device.type == "cpu" and float(grad) == 1.0):
        return found
    return found.mul_(grad)
