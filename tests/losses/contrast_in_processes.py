"""Run by `run_alone`: two gloo processes give the loss and the gradient of one with the whole batch.

Batches of different size are refused in training and contrasted alone in evaluation.
"""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ct_vlm.errors import ShapeError
from ct_vlm.losses import InfoNCELoss, text_keys

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forked processes need Linux")
TEXTS = ["Normal.", "Effusion.", "Nodule.", "Normal.", "Hernia.", "Normal."]


def case() -> tuple[torch.nn.Linear, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    return torch.nn.Linear(4, 5).double(), torch.randn(6, 4).double(), torch.randn(6, 5).double(), text_keys(TEXTS)


def work(rank: int, port: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    head, scans, text, keys = case()
    rows = slice(3 * rank, 3 * rank + 3)
    loss = InfoNCELoss(symmetric=True)(head(scans[rows]), text[rows], keys[rows])
    loss.backward()
    assert head.weight.grad is not None
    # what DDP does
    mean = torch.cat([loss.detach().view(1), head.weight.grad.flatten()])
    dist.all_reduce(mean)
    if rank == 0:
        torch.save(mean / 2, f"{folder}/mean.pt")
    check_uneven(rank)
    dist.destroy_process_group()


def check_uneven(rank: int) -> None:
    head, scans, text, keys = case()
    rows = slice(0, 2) if rank == 0 else slice(2, 6)
    own = (head(scans[rows]), text[rows], keys[rows])
    with pytest.raises(ShapeError, match=r"\[2, 4\]"):
        InfoNCELoss()(*own)
    alone = InfoNCELoss(symmetric=True)(*own, gather=False)
    similar = torch.cosine_similarity(own[0][:, None], own[1][None], dim=-1) / 0.1
    # of these texts, the last of the second process is its second one, too
    similar = similar.masked_fill((own[2][:, None] == own[2]) & ~torch.eye(len(similar), dtype=torch.bool), -torch.inf)
    both = similar.log_softmax(1).diagonal().mean() + similar.log_softmax(0).diagonal().mean()
    torch.testing.assert_close(alone, -both / 2, rtol=1e-6, atol=1e-9)


def test_two_processes_equal_the_whole_batch(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(work, (port, str(tmp_path)), nprocs=2, start_method="fork")
    head, scans, text, keys = case()
    loss = InfoNCELoss(symmetric=True)(head(scans), text, keys)
    loss.backward()
    assert head.weight.grad is not None
    wanted = torch.cat([loss.detach().view(1), head.weight.grad.flatten()])
    torch.testing.assert_close(torch.load(tmp_path / "mean.pt"), wanted, rtol=1e-10, atol=1e-12)
