"""A tiny tree of phantoms and a tiny untrained checkpoint for the commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms in CT-RATE's layout."""
    from ct_vlm.phantoms import write_ct_rate

    folder = tmp_path_factory.mktemp("tree")
    write_ct_rate(folder, 4, shape=(16, 24, 24), workers=0, progress=False)
    return folder


@pytest.fixture(scope="session")
def scan(tree: Path) -> Path:
    """One volume of the tree."""
    return sorted(tree.rglob("valid_*.nii.gz"))[0]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained tiny U-VLM, saved."""
    import torch

    from ct_vlm.decoders import train_bpe_tokenizer
    from ct_vlm.models import u_vlm

    torch.manual_seed(0)
    model = u_vlm("tiny", tokenizer=train_bpe_tokenizer(["The heart is of normal size."] * 4, vocab_size=300))
    return model.save_pretrained(tmp_path_factory.mktemp("checkpoint"))
