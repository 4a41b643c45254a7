"""A real chest whose lung volume is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ct_vlm.attributes import measure_attributes, read_masks
from ct_vlm.attributes.grids import volume_grid

DATA = Path(__file__).resolve().parents[2].parent / "shared/data/cip"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real chest (shared/data/cip) is not here")
REGIONS = {"left lung": (9, 10, 11), "right lung": (12, 13, 14)}
# a label is type x 256 + region
NAMES = {name: [kind * 256 + part for kind in range(4) for part in parts] for name, parts in REGIONS.items()}


def test_lung_volume_is_4_55_litres():
    masks = read_masks(DATA / "chest_ct64_lung.nii.gz", {"lung": 1}, grid=volume_grid(DATA / "chest_ct64.nii.gz"))
    assert measure_attributes(masks).volume_ml("lung") == pytest.approx(4550, rel=0.01)


def test_left_and_right_lung_apart():
    masks = read_masks(DATA / "chest_ct64_cip_labels.nii.gz", NAMES, grid=volume_grid(DATA / "chest_ct64.nii.gz"))
    found = measure_attributes(masks)
    assert found.volume_ml("lung") == pytest.approx(4550, rel=0.01)
    assert found.volume_ml("lung", "right") > found.volume_ml("lung", "left") > 1500
    # the patient's left lies at high columns
    columns = [np.nonzero(masks.structure(f"{side} lung"))[2].mean() for side in ("right", "left")]
    assert columns[0] < columns[1]
    assert not any(organ.is_partial for organ in found.organs)


def test_vessels_stand_in_for_lesions():
    # the largest 3-D shapes at hand: the diameter of each is at least that of its sphere's slice
    vessels = {"nodule": [3 * 256 + part for part in range(9, 15)]}
    found = measure_attributes(read_masks(DATA / "chest_ct64_cip_labels.nii.gz", {**NAMES, **vessels}))
    assert found.nodules.count > 5
    for lesion in found.nodules.lesions:
        assert lesion.place in ("left lung", "right lung")
        assert lesion.short_mm <= lesion.diameter_mm + 4.2
