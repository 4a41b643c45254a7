"""The loss of a language model's targets, without logits where the head allows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.nn import functional as F

from ct_vlm.ops.lm_loss import lm_loss

if TYPE_CHECKING:
    from torch import Tensor

_PROBE = 100.0
"""Largest logit of the trial; no soft cap leaves it as it is."""


def target_loss(
    lm: Any,
    inputs: dict[str, Any],
    rows: Tensor,
    targets: Tensor,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """Return the mean cross-entropy of the rows that predict a target; zero without targets.

    Where the logits are the product of hidden states and the head's weight and nothing else, they
    are never held all at once. Any other head is run, for the target rows.

    Args:
        lm: A causal LM prepared by ``make_visual``.
        inputs: Its keyword arguments.
        rows: Flat indices of the rows that predict a target.
        targets: What they predict.
        reduction: ``"none"`` returns the cross-entropy of each row.

    Shape:
        - rows, targets: ``(M,)``.
        - Output: scalar, or ``(M,)``.
    """
    settings, head = lm.visual_settings, lm.get_output_embeddings()
    if skips_head(lm):
        probe = None if settings.plain_head else _probe(head.weight)
        with settings.rows.taking(probe):
            logits = lm(**inputs, logit_rows=rows, use_cache=False).logits
            hidden = settings.rows.taken
        if probe is not None:
            settings.plain_head = _is_product(logits, probe, head.weight)
        if settings.plain_head:
            return lm_loss(hidden, head.weight, targets, ignore_index=None, reduction=reduction)
    logits = lm(**inputs, logit_rows=rows, use_cache=False).logits[0]
    if reduction == "none":
        return F.cross_entropy(logits.float() if logits.itemsize < 4 else logits, targets, reduction="none")
    return mean_loss(logits, targets)


def mean_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy in single precision; zero with a gradient if there is no target."""
    return F.cross_entropy(logits.float(), targets, reduction="sum") / max(targets.numel(), 1)


def skips_head(lm: Any) -> bool:
    """Tell whether the head's own forward may be left out for the loss.

    The class of the head says that it has no bias and no adapter, its hooks whether somebody watches
    it. What the model does to the logits afterwards (a soft cap, a factor) is seen in the first pass,
    in which one row of large numbers goes through the head in place of the hidden states.

    Args:
        lm: A causal LM prepared by ``make_visual``.
    """
    head = lm.get_output_embeddings()
    # a distributed weight is whole only while the head runs
    plain = type(head) is nn.Linear and head.bias is None and type(head.weight) is nn.Parameter
    # ours is one of the hooks in front
    watched = len(head._forward_pre_hooks) + len(head._forward_hooks) + len(head._backward_hooks) > 1
    if not plain or head.weight.ndim != 2 or watched or head._backward_pre_hooks:
        return False
    return lm.visual_settings.plain_head is not False


@torch.no_grad()
def _probe(weight: Tensor) -> Tensor:
    """Return hidden states with a large logit, ``(1, E)``."""
    norms = weight.norm(dim=-1, dtype=torch.float32 if weight.itemsize < 4 else None)
    longest = norms.argmax()
    return (weight[longest].float() * (_PROBE / norms[longest] ** 2)).to(weight.dtype)[None]


@torch.no_grad()
def _is_product(logits: Tensor, probe: Tensor, weight: Tensor) -> bool:
    """Tell whether the logits of the probe are its product with the weight; not if all numbers are zero."""
    expected = F.linear(probe, weight)[None].float()
    return logits.shape == expected.shape and torch.equal(logits.float(), expected) and bool(expected.any())
