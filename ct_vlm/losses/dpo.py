"""Direct preference optimisation: a better text is to gain more over the reference than a worse one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch.nn import functional as F

from ct_vlm.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from torch import Tensor

Length = Literal["sum", "mean", "sample"]
"""What a text's log-probability is divided by: nothing, its own length, or the mean length of its pair."""


@dataclass(frozen=True)
class DPOResult:
    """What :func:`dpo_loss` returns; all but the loss are without gradients.

    Args:
        loss: Mean over the pairs.
        chosen_rewards: β times what the better text gained over the reference.
        rejected_rewards: The same of the worse text.
        margins: Their difference.
        accuracies: 1 where the better text has the higher reward, ½ where they are equal, else 0.
        kl: Half of the squared log-ratios of both texts, in the mean: how far the policy went from the
            reference.

    Shape:
        - loss, kl: scalar.
        - chosen_rewards, rejected_rewards, margins, accuracies: ``(B,)``.
    """

    loss: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor
    margins: Tensor
    accuracies: Tensor
    kl: Tensor


def dpo_loss(
    log_probs: Tensor,
    reference: Tensor,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    length: Length = "sum",
    num_tokens: Tensor | None = None,
) -> DPOResult:
    """Compute the DPO loss of pairs from log-probabilities of whole texts.

    Args:
        log_probs: Sums of the tokens' log-probabilities under the model that trains: better text,
            worse text.
        reference: The same under the reference.
        beta: How much the model is held to the reference; the larger, the nearer it stays.
        label_smoothing: Probability that a pair is the wrong way round (conservative DPO).
        length: ``"sum"`` takes log-ratios as they are, ``"mean"`` divides those of each text by its number
            of tokens, ``"sample"`` those of both by the pair's mean number: long reports then weigh
            no more than short ones, and the lengths within a pair still count.
        num_tokens: Tokens of each text; needed unless ``length`` is ``"sum"``.

    Shape:
        - log_probs, reference, num_tokens: ``(B, 2)``.

    Raises:
        ConfigError: If a setting is out of range.
        ShapeError: If shapes differ, or ``num_tokens`` is missing.

    Example:
        >>> import torch
        >>> from ct_vlm.losses import dpo_loss
        >>> log_probs = torch.tensor([[-3.0, -9.0]])
        >>> result = dpo_loss(log_probs, torch.tensor([[-4.0, -8.0]]), beta=0.5)
        >>> result.margins, result.accuracies
        (tensor([1.]), tensor([1.]))
        >>> dpo_loss(log_probs, log_probs).accuracies
        tensor([0.5000])

    References:
        DPO, https://arxiv.org/abs/2305.18290. Conservative DPO is its authors' note on noisy labels. β = 0.1 is
        inferred (it is TRL's default); AbSteering, https://arxiv.org/abs/2603.12469, gives none, and prints
        the loss without its minus sign. ``"sample"`` is ours. The estimate of the KL divergence is k2 of
        http://joschu.net/blog/kl-approx.html, though the texts are drawn from neither model. Differs from
        TRL: pairs with equal rewards count as half right, so an untrained policy has an accuracy of ½.
    """
    _check(log_probs, reference, num_tokens, beta, label_smoothing, length)
    ratios = log_probs - reference
    scores = _normalised(ratios, length, num_tokens)
    logits = beta * (scores[:, 0] - scores[:, 1])
    losses = -F.logsigmoid(logits) * (1 - label_smoothing) - F.logsigmoid(-logits) * label_smoothing
    rewards = beta * scores.detach()
    margins = rewards[:, 0] - rewards[:, 1]
    return DPOResult(
        loss=losses.mean(),
        chosen_rewards=rewards[:, 0],
        rejected_rewards=rewards[:, 1],
        margins=margins,
        accuracies=(margins.sign() + 1) / 2,
        kl=ratios.detach().square().mean() / 2,
    )


def _normalised(ratios: Tensor, length: Length, num_tokens: Tensor | None) -> Tensor:
    """Divide log-ratios by the length that is asked for."""
    if length == "sum" or num_tokens is None:
        return ratios
    count = num_tokens.to(ratios.dtype).clamp(min=1)
    return ratios / (count if length == "mean" else count.mean(dim=1, keepdim=True))


def _check(
    log_probs: Tensor,
    reference: Tensor,
    num_tokens: Tensor | None,
    beta: float,
    label_smoothing: float,
    length: str,
) -> None:
    """Raise where shapes or settings cannot be right."""
    check_dpo_settings(beta, label_smoothing, length)
    shapes = [tuple(x.shape) for x in (log_probs, reference, num_tokens) if x is not None]
    if log_probs.ndim != 2 or log_probs.shape[1] != 2 or len(set(shapes)) > 1:
        cause = f"Expected log-probabilities (B, 2) of better and worse texts, but got {shapes}."
        raise ShapeError(cause, "Stack them as `torch.stack([chosen, rejected], 1)`.")
    if length != "sum" and num_tokens is None:
        cause = f"`length={length!r}` needs `num_tokens`."
        raise ShapeError(cause, "Pass the number of tokens of each text, or `length='sum'`.")
    if torch.is_grad_enabled() and reference.requires_grad:
        msg = "The reference's log-probabilities carry gradients."
        raise ShapeError(msg, "Compute them under `torch.no_grad()`.")


def check_dpo_settings(beta: float, label_smoothing: float, length: str) -> None:
    """Raise unless the settings of :func:`dpo_loss` are in their range.

    Args:
        beta: Must be above zero.
        label_smoothing: Must be at least zero and below one half.
        length: Must be known.

    Raises:
        ConfigError: If one of them is not.
    """
    if not beta > 0 or not 0 <= label_smoothing < 0.5:
        cause = f"Expected beta > 0 and 0 <= label_smoothing < 0.5, but got {beta} and {label_smoothing}."
        raise ConfigError(cause, "Usual values are beta=0.1 and label_smoothing=0.")
    if length not in get_args(Length):
        cause = f"Expected `length` to be one of {', '.join(get_args(Length))}, but got {length!r}."
        raise ConfigError(cause, "The loss as published takes sums.")
