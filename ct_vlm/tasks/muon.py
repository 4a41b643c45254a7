"""Muon for weight matrices and convolutions, AdamW for everything else, as one optimizer."""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Optimizer
from torch.optim.adamw import adamw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, Jordan et al.
_TABLES = ("wte", "wpe", "lm_head")  # names of embeddings and output heads that do not say so


class Muon(Optimizer):
    """Momentum whose matrix updates are orthogonalised, so that every direction learns equally fast.

    ``torch.optim.Muon`` takes matrices only and iterates in bfloat16, which a CPU without bfloat16
    units emulates: a step of a small decoder took four times as long with it. This one iterates
    matrices of the same shape together, in float32 on a CPU, and steps the other parameters with
    AdamW, so that one learning rate, one schedule and one state cover a model.

    Args:
        params: Parameters or groups. A group with ``use_muon=True`` holds weights of two or more
            axes; the first is the output, the others are taken together (convolutions).
        lr: Learning rate. Updates have the root mean square of AdamW's, so its rates carry over.
        weight_decay: Decoupled weight decay.
        momentum: Momentum of Muon (Nesterov's form).
        betas: Betas of AdamW.
        eps: Denominator of AdamW.
        steps: Newton-Schulz iterations.

    Example:
        >>> import torch
        >>> from ct_vlm.tasks.muon import Muon
        >>> layer = torch.nn.Linear(4, 3)
        >>> optimizer = Muon([{"params": [layer.weight], "use_muon": True}, {"params": [layer.bias]}], lr=1e-2)
        >>> layer(torch.ones(2, 4)).sum().backward()
        >>> optimizer.step()

    References:
        Keller Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024);
        scale of the update: Liu et al., "Muon is scalable for LLM training", arXiv 2502.16982, 2.2.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        steps: int = 5,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "betas": betas,
            "eps": eps,
            "steps": steps,
            "use_muon": False,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            present = [p for p in group["params"] if p.grad is not None]
            if not group["use_muon"]:
                self._adamw(group, present)
                continue
            for _, same in groupby(sorted(present, key=_matrix_shape), key=_matrix_shape):
                self._muon(group, list(same))
        return loss

    def _adamw(self, group: dict[str, Any], params: list[Tensor]) -> None:
        """Step the parameters that are no matrices, as ``torch.optim.AdamW`` does."""
        states = [self.state[p] for p in params]
        for p, state in zip(params, states, strict=True):
            if not state:
                state["step"] = torch.zeros((), device=p.device)  # where the fused step wants it
                state.update(exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
        adamw(
            params,
            [p.grad for p in params if p.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
            fused=all(p.device.type in ("cpu", "cuda") for p in params),
        )

    def _muon(self, group: dict[str, Any], params: list[Tensor]) -> None:
        """Step matrices of one shape together."""
        directions = []
        for p in params:
            grad: Tensor = p.grad  # type: ignore[assignment]
            buffer = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
            buffer.lerp_(grad, 1 - group["momentum"])
            directions.append(grad.lerp(buffer, group["momentum"]).flatten(1))
        updates = orthogonalize(torch.stack(directions), group["steps"])
        scale = 0.2 * math.sqrt(max(updates.shape[1:]))
        for p, update in zip(params, updates, strict=True):
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(update.view_as(p), alpha=-group["lr"] * scale)


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Bring the singular values of matrices near 1 by Newton-Schulz iteration.

    Args:
        matrices: Matrices; float32 on a CPU, bfloat16 on an accelerator is the working precision.
        steps: Iterations; after five, values of a matrix that is not nearly singular lie in 0.7 to 1.2.

    Shape:
        - matrices: ``(B, M, N)``.
        - Output: ``(B, M, N)``.

    Example:
        >>> import torch
        >>> from ct_vlm.tasks.muon import orthogonalize
        >>> values = torch.linalg.svdvals(orthogonalize(torch.tensor([[[3.0, 0.0], [0.0, 1.0]]])))
        >>> bool((values > 0.6).all() and (values < 1.3).all())
        True
    """
    dtype = torch.float32 if matrices.device.type == "cpu" else torch.bfloat16
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(dtype)
    # the Frobenius norm bounds the largest singular value, which must not exceed 1
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


def takes_muon(name: str, parameter: Tensor) -> bool:
    """Tell whether a parameter is a weight matrix or convolution, not a table of vectors or an output head.

    Args:
        name: Full name, such as ``decoder.lm.model.layers.0.fc1.weight``.
        parameter: The parameter.
    """
    parts = name.split(".")
    tables = any("embed" in part or part in _TABLES for part in parts)
    return parameter.ndim >= 2 and parts[-1] in ("weight", "in_proj_weight") and not tables


def _matrix_shape(parameter: Tensor) -> tuple[int, int]:
    return parameter.shape[0], parameter[0].numel()
