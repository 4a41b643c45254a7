"""The data path's benchmarks compare like with like, on small cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.ops import _volumes, cached_volume, load_volume, resample_volume

SMALL = {"source": (12, 32, 40), "target": (9, 30, 38)}


@pytest.mark.parametrize("module", [load_volume, resample_volume], ids=["load", "resample"])
def test_everyone_but_monai_places_the_grid_alike(module) -> None:
    inputs = module.make_inputs({**module.CASES[0], **SMALL}, "cpu", torch.float32)
    expected = module.PROVIDERS["naive"](inputs)
    for name, provider in module.PROVIDERS.items():
        found = provider(inputs)
        assert found.shape == expected.shape, name
        difference = (found.double() - expected).abs().max()
        assert difference < (1.01 if "MONAI" not in name else 2000), name


def test_cached_forms_give_the_same_voxels(monkeypatch) -> None:
    grid = (30, 40, 50)
    monkeypatch.setattr(cached_volume, "GRID", grid)
    monkeypatch.setattr(cached_volume, "source_volume", lambda: _volumes.source_volume((10, 30, 40)))
    monkeypatch.setattr(cached_volume, "scratch", lambda name: _volumes.scratch(f"small_{name}"))
    for windowed in (False, True):
        case = {"name": "small", "region": (slice(3, 20), slice(5, 30), slice(0, 50)), "windowed": windowed}
        inputs = cached_volume.make_inputs(case, "cpu", torch.float32)
        expected = cached_volume.PROVIDERS["naive"](inputs)
        for name, provider in cached_volume.PROVIDERS.items():
            if windowed or "MONAI" not in name:
                assert torch.allclose(provider(inputs).double(), expected.double(), atol=1e-6), name


def test_the_reference_is_trilinear_at_voxel_centres() -> None:
    ramp = np.arange(8, dtype=np.int16).reshape(1, 1, 8)
    np.testing.assert_allclose(_volumes.trilinear(ramp, (1, 1, 4))[0, 0], [0.5, 2.5, 4.5, 6.5])
