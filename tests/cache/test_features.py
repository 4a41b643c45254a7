"""Features on disk: the same bits, under the model that made them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import torch

from ct_vlm.cache import FeatureCache, collect, model_identity, source_identity
from ct_vlm.encoders import ResidualUNetEncoder
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.features import Features

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


def features(seed: int = 0, size: int = 1) -> Features:
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    position, padding = noise(size, 4), noise(size, 4) > 0
    return Features([noise(size, 64, 6), noise(size, 8, 90)], [(4, 4, 4), (2, 2, 2)], position, padding)


@pytest.mark.parametrize("codec", ["zstd", "lz4", "uncompressed"])
@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
def test_bits_come_back(tmp_path: Path, name: str, codec: str) -> None:
    cache, made, dtype = FeatureCache(tmp_path, "m", {}, dtype=name, codec=codec), features(), getattr(torch, name)
    made.levels[0][0, 0, :3] = torch.tensor([float("nan"), float("inf"), -0.0])
    assert cache.store("a", made, extra={"spacing": torch.tensor([1.5, 0.75, 0.7])})
    found, extra = cache.load_all("a")
    assert found.grids == made.grids
    for have, want in zip(found.levels, made.levels, strict=True):
        assert have.dtype == dtype
        bits = torch.int32 if name == "float32" else torch.int16
        assert have.view(bits).equal(want.to(dtype).view(bits))
    assert found.slice_position_mm.equal(made.slice_position_mm)
    assert found.padding_mask.equal(made.padding_mask)
    assert extra["spacing"].equal(torch.tensor([1.5, 0.75, 0.7]))


def test_levels_that_are_not_wanted_take_no_place(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "m", {}, dtype="float32", levels=(-1,))
    cache.store("a", features())
    found = cache.load("a")
    assert [tuple(level.shape) for level in found.levels] == [(1, 64, 0), (1, 8, 90)]
    assert found.levels[1].equal(features().levels[1])


def test_every_setting_has_entries_of_its_own(tmp_path: Path) -> None:
    caches = [
        FeatureCache(tmp_path, "m", {"windows": [1]}),
        FeatureCache(tmp_path, "n", {"windows": [1]}),
        FeatureCache(tmp_path, "m", {"windows": [2]}),
        FeatureCache(tmp_path, "m", {"windows": [1]}, dtype="float32"),
        FeatureCache(tmp_path, "m", {"windows": [1]}, levels=(0,)),
    ]
    caches[0].store("../a", features())
    assert [cache.contains("../a") for cache in caches] == [True, False, False, False, False]
    assert not caches[0].contains("a")
    assert len({cache.path("a") for cache in caches}) == 5
    assert all(tmp_path in cache.path("../../a").parents for cache in caches)
    assert FeatureCache(tmp_path, "m", {"windows": [1]}, codec="lz4").contains("../a")


def test_a_changed_source_counts_and_a_missing_one_does_not(tmp_path: Path) -> None:
    source = tmp_path / "scan.nii.gz"
    source.write_text("voxels")
    cache = FeatureCache(tmp_path / "cache", "m", {})
    cache.store("a", features(), source=source_identity(source))
    before = source.stat()
    assert cache.contains("a")
    os.utime(source, ns=(1, 1))
    assert not cache.contains("a")
    assert cache.load("a") is None
    assert list(collect(tmp_path / "cache", dry_run=True, progress=False).removed.values()) == ["its source changed"]
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    source.unlink()
    assert cache.load("a") is not None
    assert collect(tmp_path / "cache", progress=False).removed == {}


def test_batches_unknown_types_and_absent_samples(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="float16, bfloat16, float32"):
        FeatureCache(tmp_path, "m", {}, dtype="int8")
    cache = FeatureCache(tmp_path, "m", {})
    with pytest.raises(ShapeError, match="one sample"):
        cache.store("a", features(size=2))
    assert cache.load("a") is None


def test_damaged_features_count_as_absent(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "m", {})
    cache.store("a", features())
    path = cache.path("a")
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
    assert cache.load("a") is None


def test_identity_follows_weights_and_configuration() -> None:
    def encoder(**change: object) -> ResidualUNetEncoder:
        torch.manual_seed(0)
        return ResidualUNetEncoder(1, **{"features": (4, 6), "blocks": (1, 1), "strides": (1, 2), **change})

    first = model_identity(encoder())
    assert model_identity(encoder().eval()) == first
    assert model_identity(encoder(strides=(2, 2))) != first
    other = encoder()
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1e-3
    assert model_identity(other) != first
    assert model_identity(encoder().to(torch.bfloat16)) != first
    assert model_identity(torch.nn.ReLU()) != model_identity(torch.nn.GELU())
