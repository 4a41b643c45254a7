"""Windows on the host give the values of the device, from memory and from the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from ct_vlm.cache import read_entry
from ct_vlm.cache.writing import write_entry
from ct_vlm.datasets import windowed
from ct_vlm.datasets.windowed import window_into
from ct_vlm.errors import ShapeError
from ct_vlm.transforms import CTPreset, apply_windows, window_tables
from ct_vlm.transforms.presets import PRESETS

if TYPE_CHECKING:
    from pathlib import Path

HU = np.random.default_rng(0).integers(-3000, 4000, (60, 40, 50)).astype(np.int16)
REGION = np.s_[5:55, 3:33, 10:]


def expected(preset: CTPreset, hu: np.ndarray) -> np.ndarray:
    # by arithmetic: large volumes on a CPU are looked up by `preset.window` too
    volume = torch.from_numpy(np.ascontiguousarray(hu))[None, None]
    result = apply_windows(volume, preset.windows, preset.norm, offset=preset.offset, scale=preset.scale)
    return result.repeat_interleave(preset.repeat, dim=1)[0].numpy()


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_gives_the_same_values(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windowed, "_SLAB_READ", 2 * 7 * 40 * 50)  # slabs that do not divide the volume
    monkeypatch.setattr(window_tables, "_LOOK_UP", 3001)
    preset = PRESETS[name]
    want = expected(preset, HU)
    out = np.full(want.shape, np.nan, np.float32)
    window_into(HU, preset, out)
    np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize("norm", ["unit", "symmetric", "affine", "zscore", "minmax"])
def test_channels_repeats_and_fractional_windows(norm: str) -> None:
    preset = CTPreset("p", windows=((-160.5, 240.25), (-1000, 1000)), norm=norm, repeat=2, offset=12.5, scale=300)
    want = expected(preset, HU[REGION])
    out = np.full(want.shape, np.nan, np.float32)
    window_into(HU, preset, out, REGION)
    np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize("codec", ["zstd", "lz4", "uncompressed"])
@pytest.mark.parametrize("slab", [1, 2**20])
def test_entries_are_windowed_without_being_held(
    tmp_path: Path, codec: str, slab: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windowed, "_SLAB_READ", slab)
    write_entry(tmp_path / "a.ctcache", {"image": HU}, codec=codec)
    preset = CTPreset("p", windows=((-1000, 1000),))
    out = np.empty((1, *HU.shape), np.float32)
    part = np.empty((1, *HU[REGION].shape), np.float32)
    with read_entry(tmp_path / "a.ctcache") as entry:
        window_into(entry["image"], preset, out)
        window_into(entry["image"], preset, part, REGION)
    np.testing.assert_array_equal(out, expected(preset, HU))
    np.testing.assert_array_equal(part, expected(preset, HU[REGION]))


def test_memory_that_cannot_be_written_is_only_read(recwarn: pytest.WarningsRecorder) -> None:
    hu = HU.copy()
    hu.flags.writeable = False
    preset = CTPreset("p", windows=((-1000, 1000),))
    out = np.empty((1, *HU.shape), np.float32)
    window_into(hu, preset, out)
    np.testing.assert_array_equal(out, expected(preset, HU))
    assert not recwarn.list


def test_a_buffer_of_any_layout_is_filled() -> None:
    preset = CTPreset("p", windows=((-1000, 1000), (-160, 240)), repeat=2)
    memory = np.full((40, 50, 60, 4), np.nan, np.float32)
    window_into(HU, preset, memory.transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(memory.transpose(3, 2, 0, 1), expected(preset, HU))


def test_every_value_is_looked_up() -> None:
    every = np.arange(-(2**15), 2**15, dtype=np.int16).reshape(4, 128, 128)
    for preset in (CTPreset("a", norm="affine", offset=0.5, scale=-3, windows=((-40000, 40000),)), CTPreset("b")):
        out = np.empty((1, *every.shape), np.float32)
        window_into(every, preset, out)
        np.testing.assert_array_equal(out, expected(preset, every))


def test_values_of_other_types_are_refused() -> None:
    with pytest.raises(ShapeError, match="Expected HU as int16, but got float32"):
        window_into(HU.astype(np.float32), CTPreset("p"), np.empty((1, *HU.shape), np.float32))


def test_buffers_that_do_not_fit_are_refused() -> None:
    preset = CTPreset("p", windows=((-1000, 1000),))
    for out in (np.empty((2, *HU.shape), np.float32), np.empty((1, *HU.shape)), np.empty(HU.shape, np.float32)):
        with pytest.raises(ShapeError, match="Expected a float32 buffer"):
            window_into(HU, preset, out)
    with pytest.raises(ShapeError):
        window_into(HU, preset, np.empty((1, 40, 50), np.float32), 3)
