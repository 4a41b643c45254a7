"""Augmentation: image, mask and text stay true of each other."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from ct_vlm.component import build_from_config
from ct_vlm.errors import ConfigError
from ct_vlm.transforms import FlipSafeAugmentation


def item(chest: np.ndarray, **more: Any) -> dict[str, Any]:
    hu = torch.from_numpy(np.ascontiguousarray(chest.transpose(2, 1, 0)))[None]
    return {"image": hu, "segmentation": (hu[0] < -500).to(torch.uint8), "volume_id": "x", **more}


def test_default_never_flips(chest: np.ndarray) -> None:
    marked = chest.copy()
    marked[:3] = 3000  # patient's right
    marked[:, :, -3:] = 2000  # head
    augment = FlipSafeAugmentation(probability=1.0)
    for seed in range(20):
        image = augment(item(marked), seed)["image"][0].float()
        assert image[:, :, :3].mean() > image[:, :, -3:].mean()
        assert image[-3:].mean() > image[:3].mean()


def test_same_seed_same_result_and_input_untouched(chest: np.ndarray) -> None:
    augment = FlipSafeAugmentation(probability=1.0)
    source = item(chest)
    kept = source["image"].clone()
    first, second, other = augment(source, 3), augment(source, 3), augment(source, 4)
    assert torch.equal(first["image"], second["image"])
    assert not torch.equal(first["image"], other["image"])
    assert torch.equal(source["image"], kept)
    assert first["image"].dtype == torch.int16
    assert type(first["image"]) is type(first["segmentation"]) is torch.Tensor
    assert first["image"].shape == kept.shape


def test_mask_moves_with_the_image() -> None:
    labels = torch.zeros(24, 24, 24, dtype=torch.uint8)
    labels[6:14, 8:18, 5:12] = 1
    augment = FlipSafeAugmentation(
        probability=1.0, noise_hu=0, shift_hu=0, contrast=0, gamma=(1, 1), rotate_degrees=10, scale=0.1, translate=0.1
    )
    moved = 0
    for seed in range(5):
        result = augment({"image": labels[None].short() * 1000, "segmentation": labels}, seed)
        inside = result["image"][0] > 500
        overlap = (
            (inside & (result["segmentation"] == 1)).sum() * 2 / (inside.sum() + (result["segmentation"] == 1).sum())
        )
        assert overlap > 0.93
        moved += int(not torch.equal(result["segmentation"], labels))
    assert moved == 5


def test_region_masks_move_with_the_image() -> None:
    labels = torch.zeros(24, 24, 24, dtype=torch.uint8)
    labels[6:14, 8:18, 5:12] = 1
    labels[15:20, 4:9, 14:20] = 2
    masks = torch.stack([labels == 1, labels == 2]).to(torch.uint8)
    augment = FlipSafeAugmentation(probability=1.0, rotate_degrees=10, scale=0.1, translate=0.1, flip_probability=0.5)
    for seed in range(4):
        source = {"image": labels[None].short(), "segmentation": labels, "region_masks": masks}
        result = augment(source, seed)
        moved = torch.stack([result["segmentation"] == 1, result["segmentation"] == 2]).to(torch.uint8)
        assert torch.equal(result["region_masks"], moved)
        assert not torch.equal(moved, masks)
        assert result["region_masks"].dtype == torch.uint8


def test_flip_exchanges_the_masks_of_left_and_right_regions() -> None:
    masks = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]], dtype=torch.uint8).view(3, 1, 1, 4)
    source = {
        "image": torch.zeros(1, 1, 1, 4, dtype=torch.int16),
        "region_masks": masks,
        "region_present": torch.tensor([True, False, True]),
    }
    result = FlipSafeAugmentation(probability=0, flip_probability=1, lateral_regions=((0, 1),))(source, 0)
    assert result["region_masks"].flatten(1).tolist() == [[1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 0]]
    assert result["region_present"].tolist() == [False, True, True]


def test_intensity_changes_stay_small(chest: np.ndarray) -> None:
    augment = FlipSafeAugmentation(probability=1.0, rotate_degrees=0, scale=0, translate=0)
    source = item(chest)
    for seed in range(5):
        change = (augment(source, seed)["image"] - source["image"]).float()
        assert 0 < change.abs().mean() < 150


def test_probability_zero_changes_nothing(chest: np.ndarray) -> None:
    source = item(chest, report="Left.")
    result = FlipSafeAugmentation(probability=0)(source, 0)
    assert torch.equal(result["image"], source["image"])
    assert result["report"] == "Left."


def test_flip_swaps_voxels_ids_and_words() -> None:
    labels = torch.tensor([[[10, 10, 0, 13, 5, 5]]], dtype=torch.uint8)
    source = {
        "image": torch.arange(6, dtype=torch.int16).view(1, 1, 1, 6),
        "segmentation": labels,
        "report": "Nodule in the left upper lobe. Right lung is clear.",
        "region_reports": {"left lung": "Nodule on the left."},
    }
    result = FlipSafeAugmentation(probability=0, flip_probability=1, lateral_pairs=((10, 13),))(source, 0)
    assert result["image"].flatten().tolist() == [5, 4, 3, 2, 1, 0]
    assert result["segmentation"].flatten().tolist() == [5, 5, 10, 0, 13, 13]
    assert result["report"] == "Nodule in the right upper lobe. Left lung is clear."
    assert result["region_reports"] == {"right lung": "Nodule on the right."}
    assert labels.flatten().tolist() == [10, 10, 0, 13, 5, 5]


@pytest.mark.parametrize("report", ["Nodule in the lingula.", "Opacity in the middle lobe.", "Lingular band."])
def test_parts_of_one_lung_only_are_not_flipped(report: str) -> None:
    source = {"image": torch.arange(4, dtype=torch.int16).view(1, 1, 1, 4), "report": report}
    result = FlipSafeAugmentation(probability=0, flip_probability=1)(source, 0)
    assert result["image"].flatten().tolist() == [0, 1, 2, 3]
    assert result["report"] == report


def test_config_round_trip_and_limits() -> None:
    augment = FlipSafeAugmentation(probability=0.5, lateral_pairs=((1, 2),))
    config = json.loads(json.dumps(augment.to_config()))
    assert build_from_config(config).to_config() == augment.to_config()
    with pytest.raises(ConfigError, match="probabilities"):
        FlipSafeAugmentation(probability=2)
    with pytest.raises(ConfigError, match="small"):
        FlipSafeAugmentation(rotate_degrees=90)
    with pytest.raises(ConfigError, match="cannot be built"):
        FlipSafeAugmentation.from_config({"flip_z": True})
