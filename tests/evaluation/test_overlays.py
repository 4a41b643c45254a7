"""Pictures of regions: the right slice, the mask where it lies, and the patient's sides."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ct_vlm.attributes import MaskProvenance, MaskSet
from ct_vlm.errors import ShapeError
from ct_vlm.evaluation import region_overlay, write_overlays
from ct_vlm.evaluation.overlays import BONE, LUNG, SOFT_TISSUE, region_slice
from ct_vlm.models import GroundedRegion, GroundedReport
from ct_vlm.transforms import Provenance, Volume
from ct_vlm.transforms.orientation import affine_from_spacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPACING = (5.0, 1.0, 2.0)
SHAPE = (6, 20, 16)


@pytest.fixture
def scan():
    """A scan whose file counts slices from the foot: canonical slice 1 is the file's slice 4."""
    array = np.full(SHAPE, -900, np.int16)
    array[1, 2:6, 10:14] = 100  # in front, on the patient's left
    affine = affine_from_spacing(SPACING, "IPL")
    return Volume(array, SPACING, affine, Provenance("ct.nii.gz", "fixed", axcodes=("L", "P", "S")))


@pytest.fixture
def masks(scan):
    empty = np.zeros(SHAPE, bool)
    return MaskSet(
        {"heart": scan.array > 0, "lung": empty},
        affine=scan.affine,
        stored_axcodes=("L", "P", "S"),
        provenance=MaskProvenance("pseudo", "some/folder/net", "v1"),
    )


def region(name="heart", **changes):
    base = GroundedRegion(name, "Normal size.", ("heart",), 1.2, True, 1, 4, -5.0, True)
    return replace(base, **changes)


def report(*regions):
    return GroundedReport("The whole report.", regions, "ct", MaskProvenance("pseudo", "some/folder/net", "v1"))


def words(figure: Figure) -> list[str]:
    return [figure.get_suptitle(), *(text.get_text() for axes in figure.axes for text in axes.texts)]


def test_the_slice_is_that_of_the_file(scan, masks):
    image, mask = region_slice(region(), scan, masks)
    np.testing.assert_array_equal(image, scan.array[1])
    np.testing.assert_array_equal(mask, scan.array[1] > 0)
    assert not region_slice(region(file_slice=5), scan, masks)[1].any()


def test_the_outline_lies_around_the_mask_in_millimetres(scan, masks):
    figure = region_overlay(report(region()), region(), scan, masks)
    axes = figure.axes[0]
    points = np.concatenate([path.vertices for path in axes.collections[0].get_paths()])
    # columns 10 to 13 of 2 mm, rows 2 to 5 of 1 mm; the outline runs half a voxel from the middles
    assert points.min(0) == pytest.approx([10 * 2.0, 2.0], abs=1e-6)
    assert points.max(0) == pytest.approx([14 * 2.0, 6.0], abs=1e-6)
    assert axes.images[0].get_extent() == [0.0, 32.0, 20.0, 0.0]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the front is on top"
    assert axes.get_aspect() in ("equal", 1.0)


def test_the_patients_right_is_on_the_left_of_the_picture(scan, masks):
    texts = {
        text.get_text(): text.get_position()[0]
        for text in region_overlay(report(), region(), scan, masks).axes[0].texts
    }
    assert texts["R"] < 0.5 < texts["L"]


def test_a_mask_at_the_border_has_a_closed_outline(scan):
    whole = MaskSet({"heart": np.ones(SHAPE, bool)}, affine=scan.affine, stored_axcodes=("L", "P", "S"))
    figure = region_overlay(report(), region(), scan, whole)
    points = np.concatenate([path.vertices for path in figure.axes[0].collections[0].get_paths()])
    assert points.min(0) == pytest.approx([0, 0], abs=1e-6)
    assert points.max(0) == pytest.approx([32, 20], abs=1e-6)


def test_name_size_text_and_source_are_written(scan, masks):
    text = " | ".join(words(region_overlay(report(region()), region(), scan, masks)))
    for part in (
        "heart; 1 mL",
        "slice 4 of the file (-5.0 mm), 1 of the model",
        "Normal size.",
        "mask: pseudo, net v1",
    ):
        assert part in text


def test_what_is_missing_is_said(scan, masks):
    empty = region("lung", masks=("lung",), volume_ml=0.0, is_present=False)
    absent = region("bone", masks=(), volume_ml=None, is_present=False, text=None)
    beside = region("bone", masks=(), volume_ml=None, is_present=False, file_slice=None)
    figure = region_overlay(report(), empty, scan, masks)
    assert "mask is empty" in words(figure)[0]
    assert not figure.axes[0].collections
    assert "no mask" in words(region_overlay(report(), absent, scan, masks))[0]
    assert any("The whole report." in text for text in words(region_overlay(report(), absent, scan, masks)))
    figure = region_overlay(report(), beside, scan, masks)
    assert "no slice of the file" in words(figure)[0]
    assert "beside the scan" in words(figure)
    with pytest.raises(ShapeError, match="padding"):
        region_slice(beside, scan, masks)


def test_windows_follow_the_region_or_the_caller(scan, masks):
    def window(name, **options):
        image = region_overlay(report(), region(name), scan, masks, **options).axes[0].images[0]
        return image.get_clim()

    assert window("lung") == LUNG
    assert window("osseous structures") == BONE
    assert window("heart and great vessels") == SOFT_TISSUE
    assert window("lung", window=(-10.0, 10.0)) == (-10.0, 10.0)


def test_long_texts_are_cut_and_formulas_left_alone(scan, masks):
    long = region(text="$x$ " * 2000)
    below = max(words(region_overlay(report(), long, scan, masks)), key=len)
    assert "$x$" in below
    assert "(cut; the whole text is in the report)" in below
    assert len(below.splitlines()) < 20


def test_files_are_named_and_repeatable(scan, masks, tmp_path):
    found = report(region(), region("trachea and bronchie", is_present=False, masks=()))
    paths = write_overlays(found, scan, masks, tmp_path / "new")
    assert [path.name for path in paths] == ["ct_01_heart.png", "ct_02_trachea_and_bronchie.png"]
    first = [path.read_bytes() for path in paths]
    assert all(content.startswith(b"\x89PNG") for content in first)
    assert [path.read_bytes() for path in write_overlays(found, scan, masks, tmp_path / "new")] == first
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_masks_of_another_shape_are_refused(scan, masks):
    cut = Volume(scan.array[1:], SPACING, scan.affine, scan.provenance)
    with pytest.raises(ShapeError, match="masks have the shape"):
        region_overlay(report(), region(), cut, masks)
