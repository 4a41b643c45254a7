"""Windows by look-up are those of arithmetic, value for value."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.transforms import CTPreset, apply_windows, get_preset, list_presets, window_tables

HU = torch.arange(-(2**15), 2**15, dtype=torch.int16).repeat(4).view(2, 1, 8, 128, 128)
PRESETS = [
    *map(get_preset, list_presets()),
    CTPreset(
        "fractions", windows=((-997.5, 888.25), (-160, 240)), norm="affine", offset=142.39, scale=360.97, repeat=2
    ),
    CTPreset("statistics", norm="zscore"),
]


def by_arithmetic(hu: torch.Tensor, preset: CTPreset) -> torch.Tensor:
    result = apply_windows(hu, preset.windows, preset.norm, offset=preset.offset, scale=preset.scale)
    return result.repeat_interleave(preset.repeat, dim=1)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_every_value_is_that_of_arithmetic(preset: CTPreset) -> None:
    assert torch.equal(preset.window(HU), by_arithmetic(HU, preset))
    strided = HU.transpose(2, 4)
    assert torch.equal(preset.window(strided), by_arithmetic(strided, preset))


def test_only_large_int16_volumes_on_a_cpu_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Size] = []
    look_up = window_tables.look_up
    monkeypatch.setattr(window_tables, "look_up", lambda hu, *rest: (seen.append(hu.shape), look_up(hu, *rest)))
    preset = get_preset("ct_clip")
    preset.window(HU.int())
    preset.window(HU.float())
    preset.window(HU[:, :, :1])
    preset.window(HU.to("meta"))
    assert not seen
    preset.window(HU)
    assert seen == [(8, 128, 128)] * 2


def test_a_look_up_longer_than_its_blocks_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_tables, "_LOOK_UP", 3001)
    preset = get_preset("ct_clip")
    assert torch.equal(preset.window(HU), by_arithmetic(HU, preset))


def test_windows_of_an_empty_batch() -> None:
    preset = get_preset("ct_clip")
    assert preset.window(HU[:0]).shape == by_arithmetic(HU[:0], preset).shape
