"""Organs, lesions and effusions on analytic bodies."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ct_vlm.attributes import AttributeConfig, MaskSet, PatientAttributes, measure_attributes
from ct_vlm.attributes.effusions import longest_run
from ct_vlm.errors import ConfigError

SHAPE, SPACING = (40, 60, 80), (5.0, 2.0, 2.0)


def ellipsoid(centre, radii, shape=SHAPE, spacing=SPACING):
    """Voxels whose centres lie in an ellipsoid; centre and radii in mm (D, H, W)."""
    axes = np.meshgrid(*[(np.arange(n) + 0.5) * s for n, s in zip(shape, spacing, strict=True)], indexing="ij")
    return sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radii, strict=True)) <= 1


@pytest.fixture
def body():
    return {
        "right lung": ellipsoid((90, 60, 40), (70, 40, 25)),
        "left lung": ellipsoid((90, 60, 120), (70, 40, 25)),
        "heart": ellipsoid((110, 40, 85), (30, 20, 14)),
        "right kidney": ellipsoid((172, 80, 50), (18, 12, 10)),
        "left kidney": ellipsoid((170, 80, 110), (18, 12, 10)),
    }


def measure(masks, **config):
    return measure_attributes(MaskSet(masks, spacing=SPACING), AttributeConfig(**config))


def test_volumes_of_ellipsoids(body):
    found = measure(body)
    for name, side, radii in (
        ("lung", "right", (70, 40, 25)),
        ("heart", None, (30, 20, 14)),
        ("kidney", "left", (18, 12, 10)),
    ):
        exact = 4 / 3 * np.pi * np.prod(radii) / 1000
        assert found.volume_ml(name, side) == pytest.approx(exact, rel=0.05)
    assert found.volume_ml("lung") == found.volume_ml("lung", "right") + found.volume_ml("lung", "left")
    assert found.volume_ml("liver") is None
    assert (found.nodules, found.effusions, found.cysts) == (None, None, None)
    assert not any(organ.is_partial for organ in found.organs)


def test_lobes_make_up_a_lung(body):
    top = np.zeros(SHAPE, bool)
    top[:18] = True
    lobes = {"lung_upper_lobe_left": body["left lung"] & top, "lung_lower_lobe_left": body["left lung"] & ~top}
    found = measure({**lobes, "right lung": body["right lung"]})
    assert found.volume_ml("lung", "left") == measure(body).volume_ml("lung", "left")
    assert [(o.name, o.side) for o in found.organs] == [("lung", "right"), ("lung", "left")]


def test_a_mask_of_both_kidneys_is_split_between_the_lungs(body):
    both = body["right kidney"] | body["left kidney"]
    rest = {name: body[name] for name in ("right lung", "left lung")}
    expected = measure(body)
    for side in ("right", "left"):
        assert measure({**rest, "kidneys": both}).volume_ml("kidney", side) == expected.volume_ml("kidney", side)
    alone = measure({**rest, "kidneys": body["left kidney"]})
    assert alone.volume_ml("kidney", "right") == 0
    assert alone.volume_ml("kidney", "left") == expected.volume_ml("kidney", "left")


def test_a_mask_of_both_lungs_is_split_if_they_are_apart(body):
    both = body["right lung"] | body["left lung"]
    both[0, 0, 0] = True  # a crumb on the right
    found, expected = measure({"lung": both}), measure(body)
    assert found.volume_ml("lung", "left") == expected.volume_ml("lung", "left")
    assert found.volume_ml("lung", "right") == pytest.approx(expected.volume_ml("lung", "right") + 0.02)
    both[18, 30, 20:60] = True  # now they touch
    fused = measure({"lung": both})
    assert [(o.name, o.side) for o in fused.organs] == [("lung", None)]
    one = measure({"lung": body["left lung"]})
    assert [o.side for o in one.organs] == [None]


def test_organs_at_the_border_are_partial(body):
    cut = {name: mask[:36] for name, mask in body.items()}
    found = measure(cut)
    assert {(o.name, o.side) for o in found.organs if o.is_partial} == {("kidney", "right"), ("kidney", "left")}
    narrow = measure({name: mask[:, :, 20:] for name, mask in body.items()})
    assert {(o.name, o.side) for o in narrow.organs if o.is_partial} == {("lung", "right"), ("kidney", "right")}


def test_one_slice_and_empty_masks(body):
    single = measure({name: mask[18:19] for name, mask in body.items()})
    assert single.organ("lung", "left").is_partial
    empty = {name: np.zeros(SHAPE, bool) for name in (*body, "lung nodule", "pleural effusion", "kidney cyst")}
    found = measure(empty)
    assert all(o.volume_ml == 0 and not o.is_partial for o in found.organs)
    assert (found.nodules.count, found.effusions, found.cysts.count) == (0, (), 0)


def test_nodules_are_counted_measured_and_placed(body):
    nodules = ellipsoid((50, 60, 120), (8, 8, 8)) | ellipsoid((130, 50, 40), (12, 10, 6))
    nodules[38, 5, 5] = True  # one voxel: 20 mm3
    found = measure({**body, "lung nodule": nodules}, min_lesion_mm=4).nodules
    assert found.count == 2
    large, small = found.lesions
    assert (large.place, large.level, large.place_source) == ("right lung", "lower", "overlap")
    assert (small.place, small.level) == ("left lung", "upper")
    assert large.diameter_mm == pytest.approx(20, abs=2)
    assert large.short_mm == pytest.approx(12, abs=2)
    assert large.sphere_mm == pytest.approx(2 * (12 * 10 * 6) ** (1 / 3), rel=0.07)
    assert small.diameter_mm == pytest.approx(16, abs=2)
    assert abs((small.slice_index + 0.5) * 5 - 50) <= 5
    assert not large.is_partial
    assert measure({**body, "lung nodule": nodules}, min_lesion_mm=0).nodules.count == 3


def test_a_nodule_cut_out_of_its_lobe_goes_to_the_nearest(body):
    nodule = ellipsoid((90, 60, 110), (10, 10, 10))
    carved = {**body, "left lung": body["left lung"] & ~nodule, "lung nodule": nodule}
    lesion = measure(carved).nodules.lesions[0]
    assert (lesion.place, lesion.place_source) == ("left lung", "nearest")


def test_the_nearest_place_is_exact_beyond_the_first_part_that_is_looked_at(body):
    # between the lungs, 9 mm nearer to the left one, and further than the first margin from both
    centre = np.zeros(SHAPE, bool)
    centre[2, 55:57, 44:46] = True
    lungs = {name: body[name] for name in ("right lung", "left lung")}
    lesion = measure({**lungs, "nodule": centre}, min_lesion_mm=0).nodules.lesions[0]
    assert lesion.place == "left lung"


def test_without_masks_of_places_there_is_no_place():
    lesion = measure({"nodule": ellipsoid((90, 60, 110), (10, 10, 10))}).nodules.lesions[0]
    assert (lesion.place, lesion.level, lesion.place_source) == (None, None, None)


def test_cysts_belong_to_kidneys(body):
    right, left = ellipsoid((174, 86, 52), (10, 8, 8)), ellipsoid((158, 80, 122), (7, 6, 6))
    found = measure({**body, "kidney cyst": right | left})
    assert [lesion.place for lesion in found.cysts.lesions] == ["right kidney", "left kidney"]
    assert [lesion.level for lesion in found.cysts.lesions] == ["middle", "upper"]
    assert (found.cysts_of("right"), found.cysts_of("left")) == (1, 1)
    # sided masks are taken at their word, and not counted twice in the common one
    named = measure({**body, "kidney_cyst_right": right, "kidney_cyst_left": left, "kidney cyst": right | left})
    assert named.cysts == found.cysts
    alone = measure({"kidney_cyst_right": right}).cysts.lesions[0]
    assert (alone.place, alone.place_source) == ("right kidney", "mask")


def test_lesions_beyond_the_limit_are_counted(body):
    dots = np.zeros(SHAPE, bool)
    dots[::2, ::2, ::2] = True
    found = measure({**body, "lung nodule": dots}, min_lesion_mm=0, max_lesions=5).nodules
    assert (found.count, len(found.lesions)) == (20 * 30 * 40, 5)


def test_effusion_of_each_side(body):
    behind = np.zeros(SHAPE, bool)
    behind[20:32, 44:54] = True  # 20 mm thick behind both lungs, in one piece
    fluid = behind & ~body["right lung"] & ~body["left lung"]
    fluid[0, 0, 0] = True  # noise
    right, left = measure({**body, "pleural effusion": fluid}).effusions
    assert (right.side, left.side) == ("right", "left")
    total = (fluid.sum() - 1) * 0.02
    assert right.volume_ml + left.volume_ml == pytest.approx(total)
    assert right.volume_ml == pytest.approx(left.volume_ml, rel=0.1)
    assert right.thickness_mm == longest_run(fluid[:, :, :40]) * 2.0 == 20.0


def test_the_side_of_an_effusion_is_unknown_without_both_lungs(body):
    fluid = ellipsoid((140, 100, 120), (30, 10, 20))
    found = measure({"right lung": body["right lung"], "left lung": np.zeros(SHAPE, bool), "pleural effusion": fluid})
    assert [x.side for x in found.effusions] == [None]
    named = measure({"left pleural effusion": fluid})
    assert [x.side for x in named.effusions] == ["left"]
    assert named.effusions[0].volume_ml == found.effusions[0].volume_ml


@pytest.mark.parametrize("seed", range(3))
def test_the_longest_run_equals_a_search(seed):
    mask = np.random.default_rng(seed).random((3, 12, 4)) < 0.6
    columns = mask.transpose(0, 2, 1).reshape(-1, 12)
    expected = max(len(list(run)) for column in columns for value, run in itertools.groupby(column) if value)
    assert longest_run(mask) == expected


def test_the_order_and_direction_of_axes_do_not_matter(body):
    masks = {
        **body,
        "lung nodule": ellipsoid((50, 60, 120), (8, 8, 8)) | ellipsoid((130, 50, 40), (12, 10, 6)),
        "pleural effusion": ellipsoid((140, 100, 120), (30, 10, 20)),
        "kidney cyst": ellipsoid((174, 86, 52), (10, 6, 6)),
    }
    expected = measure(masks)
    for codes in ("LPS", "RAS", "PSL", "IAR", "SLA"):
        order = ["IPL".index({"S": "I", "A": "P", "R": "L"}.get(code, code)) for code in codes]
        flips = [axis for axis, code in enumerate(codes) if code not in "IPL"]
        turned = {name: np.flip(mask.transpose(order), flips) for name, mask in masks.items()}
        spacing = [SPACING[axis] for axis in order]
        # numbered as the canonical array is, so that every value can be compared
        found = measure_attributes(MaskSet(turned, spacing=spacing, axcodes=codes, stored_axcodes="IPL"))
        assert found == expected, codes
    stored = measure_attributes(MaskSet({n: m[::-1] for n, m in masks.items()}, spacing=SPACING, axcodes="SPL"))
    numbers = [lesion.slice_index for lesion in stored.nodules.lesions]
    assert numbers == [SHAPE[0] - 1 - lesion.slice_index for lesion in expected.nodules.lesions]


def test_results_go_through_json(body, tmp_path):
    found = measure_attributes(
        MaskSet({**body, "nodule": ellipsoid((50, 60, 120), (8, 8, 8))}, spacing=SPACING), volume_id="scan_1"
    )
    found.save(tmp_path / "a.json")
    assert PatientAttributes.load(tmp_path / "a.json") == found
    assert found.provenance.kind == "pseudo"


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="max_lesions"):
        AttributeConfig(max_lesions=0)
