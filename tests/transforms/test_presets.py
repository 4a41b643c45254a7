"""Presets: data that round-trips, geometry, windows."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from ct_vlm.component import Component, build_from_config
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.transforms import CTPreset, Volume, apply_windows, get_preset, list_presets
from ct_vlm.transforms.orientation import affine_from_spacing


def volume(array: np.ndarray, spacing: tuple[float, float, float] = (5.0, 4.0, 4.0), axcodes: str = "IPL") -> Volume:
    codes = tuple(axcodes)
    return Volume(np.ascontiguousarray(array), spacing, affine_from_spacing(spacing, codes), axcodes=codes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list_presets())
def test_json_round_trip(name: str) -> None:
    preset = get_preset(name)
    config = json.loads(json.dumps(preset.to_config()))
    assert build_from_config(config) == preset
    assert get_preset(config) == preset
    assert get_preset(config["init_args"]) == preset
    assert get_preset(preset) is preset
    assert preset.notes


def test_the_named_presets_exist() -> None:
    wanted = {"ct_clip", "ct2rep", "reg2rg", "radgenome", "uvlm", "absteering", "medregion", "ker_vljepa", "phantom"}
    assert wanted <= set(list_presets())


class Model(Component):
    """A component with a preset."""

    def __init__(self, preset: CTPreset) -> None:
        super().__init__()
        self.preset = preset


def test_a_component_keeps_its_preset() -> None:
    config = Model(get_preset("uvlm")).to_config()
    assert build_from_config(json.loads(json.dumps(config["init_args"]["preset"]))) == get_preset("uvlm")


@pytest.mark.parametrize(
    "change",
    [
        {"windows": ()},
        {"windows": ((100, 100),)},
        {"norm": "best"},
        {"interpolation": "cubic"},
        {"size": (1, 2)},
        {"size": (0, 2, 2)},
        {"spacing": (-1, 1, 1)},
        {"axcodes": ("L", "R", "S")},
        {"crop_pad": "left"},
        {"scale": 0},
        {"repeat": 0},
        {"sise": (1, 1, 1)},
    ],
)
def test_wrong_values(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        CTPreset.from_config({"name": "x", **change})


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="ct_clip"):
        get_preset("ct_klip")


def test_ct_clip_grid_and_values() -> None:
    preset = get_preset("ct_clip")
    array = np.full((8, 20, 24), 40, np.int16)
    source = volume(array, (3.0, 1.5, 0.75), "SLP")
    result = preset.resample(source)
    assert result.shape == (240, 480, 480)
    inside = result > -1000
    assert inside.any(axis=(1, 2)).sum() == 16
    assert inside.any(axis=(0, 2)).sum() == 40
    assert inside.any(axis=(0, 1)).sum() == 24
    first = np.flatnonzero(inside.any(axis=(1, 2)))[0]
    assert first == (240 - 16) // 2
    windowed = preset.window(torch.tensor([-5000, -1000, 0, 500, 3000], dtype=torch.int16).view(1, 1, 1, 1, 5))
    assert windowed.flatten().tolist() == [-1, -1, 0, 0.5, 1]


def test_ct2rep_values() -> None:
    hu = torch.tensor([-1000, -400, 200, 900], dtype=torch.int16).view(1, 1, 1, 1, 4)
    torch.testing.assert_close(get_preset("ct2rep").window(hu).flatten(), torch.tensor([-1.0, 0, 1, 1]))


def test_ker_vljepa_is_the_published_zscore_and_keeps_slices(chest: np.ndarray) -> None:
    preset = get_preset("ker_vljepa")
    assert preset.resample(volume(chest.transpose(2, 1, 0))).shape == (16, 504, 504)
    hu = torch.tensor([-142.39, 888.0, -5000.0]).view(1, 1, 1, 1, 3)
    torch.testing.assert_close(preset.window(hu).flatten(), torch.tensor([0.0, 1030.39, -854.61]) / 360.97)


def test_fixed_size_changes_spacing_and_keeps_extent(chest: np.ndarray) -> None:
    source = volume(chest.transpose(2, 1, 0))
    preset = CTPreset("x", size=(32, 10, 24))
    assert preset.resample(source).shape == (32, 10, 24)
    assert preset.resampled_spacing(source) == (2.5, 8.0, 4.0)


def test_spacing_alone_keeps_the_body_size(chest: np.ndarray) -> None:
    source = volume(chest.transpose(2, 1, 0))
    preset = CTPreset("x", spacing=(2.5, 8.0, None))
    assert preset.resample(source).shape == (32, 10, 24)


def test_identity_geometry_is_not_copied(chest: np.ndarray) -> None:
    source = volume(chest.transpose(2, 1, 0))
    for preset in (CTPreset("x"), CTPreset("x", size=(16, 20, 24)), CTPreset("x", spacing=(5, 4, 4))):
        assert preset.resample(source) is source.array


def test_foreground_box_is_cut_for_image_and_labels_alike(chest: np.ndarray) -> None:
    array = np.full((10, 12, 14), -1000, np.int16)
    array[2:6, 3:9, 4:12] = 30
    labels = (array > 0).astype(np.uint8)
    preset = CTPreset("x", size=(4, 6, 8), foreground_hu=-1000)
    source = volume(array)
    assert (preset.resample(source) == 30).all()
    assert (preset.resample_labels(labels, source) == 1).all()
    empty = volume(np.full((4, 6, 8), -1000, np.int16))
    assert preset.resample(empty).shape == (4, 6, 8)


def test_labels_of_another_shape_are_refused(chest: np.ndarray) -> None:
    with pytest.raises(ShapeError, match="differ in shape"):
        get_preset("phantom").resample_labels(np.zeros((2, 2, 2), np.uint8), volume(chest))


def test_wrong_orientation_is_refused(chest: np.ndarray) -> None:
    with pytest.raises(ShapeError, match="needs axes"):
        get_preset("ct_clip").resample(volume(chest))


def test_geometry_hash_ignores_windows_and_nothing_else() -> None:
    base = CTPreset("a", size=(8, 8, 8))
    assert base.geometry_hash() == CTPreset("b", size=(8, 8, 8), windows=((0, 1),), norm="zscore").geometry_hash()
    others = [
        CTPreset("a", size=(8, 8, 9)),
        CTPreset("a", size=(8, 8, 8), pad_hu=-1000),
        CTPreset("a", size=(8, 8, 8), spacing=1.0),
        CTPreset("a", size=(8, 8, 8), axcodes=("S", "L", "P")),
        CTPreset("a", size=(8, 8, 8), interpolation="area"),
        CTPreset("a", size=(8, 8, 8), interpolation="antialias"),
        CTPreset("a", size=(8, 8, 8), crop_pad="end"),
        CTPreset("a", size=(8, 8, 8), foreground_hu=0),
    ]
    assert len({base.geometry_hash(), *(other.geometry_hash() for other in others)}) == len(others) + 1


def test_geometry_hash_changes_with_the_resampler(monkeypatch: pytest.MonkeyPatch) -> None:
    before = CTPreset("a").geometry_hash()
    monkeypatch.setattr("ct_vlm.transforms.presets.RESAMPLER_VERSION", 10**6)
    assert CTPreset("a").geometry_hash() != before


@pytest.mark.parametrize("dtype", [torch.int16, torch.float32, torch.float64])
def test_one_channel_a_window(dtype: torch.dtype) -> None:
    hu = torch.randint(-1100, 2000, (2, 1, 3, 4, 5)).to(dtype)
    kept = hu.clone()
    result = get_preset("phantom").window(hu)
    assert result.shape == (2, 3, 3, 4, 5)
    for channel, (low, high) in enumerate(get_preset("phantom").windows):
        expected = ((hu.double() - low) / (high - low)).clamp(0, 1)
        torch.testing.assert_close(result[:, channel : channel + 1].double(), expected, atol=1e-6, rtol=0)
    assert torch.equal(hu, kept)


def test_zscore_and_minmax_go_by_volume() -> None:
    hu = torch.randint(-900, 900, (2, 1, 4, 4, 4)).short()
    hu[1] = hu[1] // 3
    z = apply_windows(hu, [(-1000, 1000)], "zscore")
    torch.testing.assert_close(z.mean(dim=(1, 2, 3, 4)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(dim=(1, 2, 3, 4), correction=0), torch.ones(2), atol=1e-5, rtol=0)
    m = apply_windows(hu, [(-1000, 1000)], "minmax")
    assert m.amin(dim=(1, 2, 3, 4)).tolist() == [0, 0]
    assert m.amax(dim=(1, 2, 3, 4)).tolist() == [1, 1]
    flat = torch.full((1, 1, 2, 2, 2), 50, dtype=torch.int16)
    for norm in ("zscore", "minmax"):
        assert apply_windows(flat, [(-1000, 1000)], norm).abs().max() == 0  # type: ignore[arg-type]


def test_window_passes_gradients() -> None:
    hu = torch.zeros(1, 1, 2, 2, 2, requires_grad=True)
    get_preset("phantom").window(hu).sum().backward()
    assert hu.grad is not None
    assert hu.grad.abs().sum() > 0


@pytest.mark.parametrize("shape", [(1, 4, 4, 4), (1, 3, 4, 4, 4)])
def test_window_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"\(B, 1, D, H, W\)"):
        get_preset("phantom").window(torch.zeros(shape))
