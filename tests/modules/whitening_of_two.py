"""Run in a process of its own: two processes fit one whitening and calibrate one norm."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ct_vlm.decoders import CausalLMDecoder, train_bpe_tokenizer
from ct_vlm.models import TextEmbedder, fit_text_whitening
from ct_vlm.modules import NormCalibrator, PCAWhitening

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = [f"{size} {thing}." for size in ("Small", "Large", "Tiny") for thing in ("effusion", "node", "cyst", "mass")]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forked processes need Linux")


def rows() -> torch.Tensor:
    return torch.randn(301, 6, generator=torch.Generator().manual_seed(3)) * torch.arange(1.0, 7.0) + 2.0


def language_model() -> CausalLMDecoder:
    torch.manual_seed(0)
    config = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    return CausalLMDecoder({**config, "num_attention_heads": 2}, train_bpe_tokenizer(TEXTS, 280))


def work(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    part = rows()[:200] if rank == 0 else rows()[200:]
    whitening = PCAWhitening(6, 3).fit(part)
    calibrator = NormCalibrator(6, target_norm=2.0)
    calibrator.calibrate(part)
    # every process is given all texts and embeds its share
    texts = fit_text_whitening(language_model(), TEXTS, layer=1, output_dim=3, batch_size=2, progress=False)
    state = {f"text.{name}": value for name, value in texts.whitening.state_dict().items()}
    torch.save({**whitening.state_dict(), **state, "alpha": calibrator.alpha.detach()}, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_both_end_with_the_fit_of_all_rows(tmp_path: Path) -> None:
    mp.start_processes(work, args=(tmp_path,), nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    alone = PCAWhitening(6, 3).fit(rows()).state_dict()
    texts = TextEmbedder(language_model(), PCAWhitening(16, 3), 1).fit(TEXTS, progress=False)
    alone |= {f"text.{name}": value for name, value in texts.whitening.state_dict().items()}
    assert int(alone["text.count"]) == len(TEXTS)
    for name, value in alone.items():
        assert torch.equal(first[name], second[name]), name
        # batches of other texts are padded otherwise, which moves the last bits of their embeddings
        tolerance = 1e-4 if name.startswith("text.") else 1e-6
        torch.testing.assert_close(first[name], value, rtol=tolerance, atol=tolerance)
    assert int(first["count"]) == 301
    torch.testing.assert_close(first["alpha"], torch.tensor(2.0) / rows().norm(dim=1).mean())
    assert torch.equal(first["alpha"], second["alpha"])
