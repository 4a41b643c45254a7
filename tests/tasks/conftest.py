from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ct_vlm.phantoms import write_ct_rate

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory) -> Path:
    """A small tree of phantoms in CT-RATE layout with masks."""
    root = tmp_path_factory.mktemp("phantoms")
    write_ct_rate(root, 20, shape=(16, 32, 32), seed=3, valid_fraction=0.3, workers=0, progress=False)
    return root
