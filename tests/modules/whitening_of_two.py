"""Run in a process of its own: two processes fit one whitening and calibrate one norm."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ct_vlm.modules import NormCalibrator, PCAWhitening

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forked processes need Linux")


def rows() -> torch.Tensor:
    return torch.randn(301, 6, generator=torch.Generator().manual_seed(3)) * torch.arange(1.0, 7.0) + 2.0


def work(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    part = rows()[:200] if rank == 0 else rows()[200:]
    whitening = PCAWhitening(6, 3).fit(part)
    calibrator = NormCalibrator(6, target_norm=2.0)
    calibrator.calibrate(part)
    torch.save({**whitening.state_dict(), "alpha": calibrator.alpha.detach()}, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_both_end_with_the_fit_of_all_rows(tmp_path: Path) -> None:
    mp.start_processes(work, args=(tmp_path,), nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    alone = PCAWhitening(6, 3).fit(rows())
    for name, value in alone.state_dict().items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=1e-6, atol=1e-6)
    assert int(first["count"]) == 301
    torch.testing.assert_close(first["alpha"], torch.tensor(2.0) / rows().norm(dim=1).mean())
    assert torch.equal(first["alpha"], second["alpha"])
