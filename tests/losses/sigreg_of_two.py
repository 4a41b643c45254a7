"""Two processes (gloo) give loss and gradients of one; run by `test_sigreg.py` in a process of its own."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from ct_vlm.losses import LeJEPALoss

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forked processes need Linux")
VIEWS = torch.randn(3, 12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SETTINGS: dict[str, Any] = {"num_directions": 32, "chunk_size": 10}


def model() -> nn.Module:
    layer = nn.Linear(5, 4, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.linspace(-1, 1, parameter.numel(), dtype=torch.float64).view_as(parameter))
    return layer


def run(layer: nn.Module, views: torch.Tensor) -> dict[str, torch.Tensor]:
    losses = LeJEPALoss(0.3, sigreg=SETTINGS)(layer(views), step=7)
    losses.loss.backward()
    return {"sigreg": losses.sigreg.detach(), **{name: p.grad for name, p in layer.named_parameters()}}


def rank_main(rank: int, store: str, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    found = run(model(), VIEWS[:, 6 * rank : 6 * rank + 6])
    for name in ("weight", "bias"):
        # what DistributedDataParallel does with gradients
        dist.all_reduce(found[name])
        found[name] /= 2
    torch.save(found, f"{out}{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    mp.start_processes(rank_main, (str(tmp_path / "store"), str(tmp_path / "out")), nprocs=2, start_method="fork")
    expected = run(model(), VIEWS)
    for rank in range(2):
        found = torch.load(tmp_path / f"out{rank}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9)
