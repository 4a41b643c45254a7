"""Cubes against loops, and the folded embedding against the RGB model's own convolution."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.ops.video_cubes import embedding, fold_patch_embedding, gray_patch_embedding, volume_to_cubes

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


def _volume(*shape: int, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def _loops(volume: torch.Tensor, temporal: int, patch: int, merge: int) -> torch.Tensor:
    """Cut one volume cube by cube."""
    depth, height, width = volume.shape
    side = patch * merge
    cubes = [
        volume[d : d + temporal, y : y + patch, x : x + patch].flatten()
        for d in range(0, depth, temporal)
        for top in range(0, height, side)
        for left in range(0, width, side)
        for y in range(top, top + side, patch)
        for x in range(left, left + side, patch)
    ]
    return torch.stack(cubes)


@pytest.mark.parametrize("backend", ["torch", "naive"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("temporal", "patch", "merge"), [(2, 3, 1), (1, 2, 2), (2, 1, 3), (4, 6, 1)])
def test_cubes(backend: str, dtype: torch.dtype, temporal: int, patch: int, merge: int) -> None:
    volume = _volume(4, 12, 12, dtype=dtype)
    cubes = volume_to_cubes(volume, temporal=temporal, patch=patch, merge=merge, backend=backend)
    assert torch.equal(cubes, _loops(volume, temporal, patch, merge))


@pytest.mark.parametrize("backend", ["torch", "naive"])
def test_views_and_leading_axes(backend: str) -> None:
    # a crop of a batch, every other slice
    volume = _volume(2, 3, 8, 9, 11)[:, 1:, ::2, 1:7, 2:8]
    cubes = volume_to_cubes(volume, temporal=2, patch=3, backend=backend)
    assert cubes.shape == (2, 2, 8, 18)
    assert torch.equal(cubes[1, 0], _loops(volume[1, 0], 2, 3, 1))


def test_expanded_volume() -> None:
    volume = _volume(1, 2, 4, 4).expand(3, 2, 4, 4)
    assert torch.equal(volume_to_cubes(volume, patch=2)[2], _loops(volume[0], 2, 2, 1))


def test_result_is_a_copy() -> None:
    volume = _volume(1, 2, 2)
    cubes = volume_to_cubes(volume, temporal=1, patch=2)
    cubes.zero_()
    assert volume.any()


def test_rows_that_are_not_adjacent_are_permuted() -> None:
    volume = _volume(2, 4, 4).transpose(1, 2)
    assert torch.equal(volume_to_cubes(volume, patch=2), _loops(volume, 2, 2, 1))
    with pytest.raises(ConfigError, match="not adjacent"):
        volume_to_cubes(volume, patch=2, backend="torch")


def test_gradient_flows_through_the_permutation() -> None:
    volume = torch.randn(2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: volume_to_cubes(x, patch=2), (volume,))
    with pytest.raises(ConfigError, match="gradient"):
        volume_to_cubes(volume, patch=2, backend="torch")


@pytest.mark.parametrize("has_bias", [True, False])
def test_folded_embedding_is_that_of_equal_channels(has_bias: bool) -> None:
    volume = _volume(4, 6, 6)
    weight = torch.randn(5, 3, 2, 3, 3, dtype=torch.float64)
    bias = torch.randn(5, dtype=torch.float64) if has_bias else None
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None, None] for values in (MEAN, STD))
    rgb = (volume.double().expand(3, -1, -1, -1) / 255 - mean) / std
    expected = torch.nn.functional.conv3d(rgb[None], weight, bias, stride=(2, 3, 3))[0].flatten(1).T
    folded = fold_patch_embedding(weight, bias, MEAN, STD)
    cubes = volume_to_cubes(volume, temporal=2, patch=3)
    torch.testing.assert_close(gray_patch_embedding(cubes, *folded), expected)


def test_embedding_in_parts_equals_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "ROWS", 3)
    cubes = _volume(2, 4, 6)
    weight, bias = torch.randn(5, 6, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    expected = torch.nn.functional.linear(cubes.double(), weight, bias)
    torch.testing.assert_close(gray_patch_embedding(cubes, weight, bias), expected)


def test_embedding_is_differentiable_in_its_weights() -> None:
    cubes = _volume(4, 6)
    weight = torch.randn(5, 6, requires_grad=True)
    gray_patch_embedding(cubes, weight).sum().backward()
    torch.testing.assert_close(weight.grad, cubes.float().sum(0).expand(5, 6))


def test_half_precision_weights_fold_in_float64() -> None:
    weight = torch.randn(4, 3, 8).bfloat16()
    folded, _ = fold_patch_embedding(weight, None, MEAN, STD)
    exact, _ = fold_patch_embedding(weight.double(), None, MEAN, STD)
    # one rounding to bfloat16: half an ulp
    torch.testing.assert_close(folded.double(), exact, rtol=2**-8, atol=0)


def test_wrong_inputs_are_named() -> None:
    with pytest.raises(ShapeError, match=r"\(2, 14, 14\)"):
        volume_to_cubes(_volume(2, 14, 15))
    with pytest.raises(ShapeError, match=r"\(2, 28, 28\)"):
        volume_to_cubes(_volume(2, 14, 28), merge=2)
    with pytest.raises(ConfigError, match="patch=0"):
        volume_to_cubes(_volume(2, 14, 14), patch=0)
    with pytest.raises(ShapeError, match="channels"):
        fold_patch_embedding(torch.zeros(2, 1, 4), None, MEAN, STD)
