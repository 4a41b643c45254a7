"""A plain training loop over random batches, for the parts of the stand-in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.progress import track

from ct_vlm.tasks import OptimizerConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from benchmarks.studies.medregion.recipe import TrainRecipe

_CLIP = 12.0


def train(
    parts: Mapping[str, nn.Module],
    loss_of: Callable[[Tensor], Tensor],
    count: int,
    stage: TrainRecipe,
    name: str,
    *,
    progress: bool,
) -> None:
    """Train with Muon.

    Args:
        parts: What is trained.
        loss_of: Loss of some examples, by their numbers.
        count: Number of examples.
        stage: Steps, batch size and rate.
        name: Of the progress bar.
        progress: Whether there is one.
    """
    rng = np.random.default_rng(0)
    named = [pair for prefix, part in parts.items() for pair in part.named_parameters(prefix)]
    settings: dict[str, Any] = OptimizerConfig("muon", lr=stage.lr).build(named, stage.steps)
    optimizer, schedule = settings["optimizer"], settings["lr_scheduler"]["scheduler"]
    for _ in track(range(stage.steps), name, disable=not progress, transient=True):
        loss: Any = loss_of(torch.from_numpy(rng.integers(count, size=stage.batch_size)))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([parameter for _, parameter in named], _CLIP)
        optimizer.step()
        schedule.step()
