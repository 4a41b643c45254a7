"""The phantom as a whole: determinism, orientation, anatomy, arguments."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ct_vlm.errors import ConfigError, CTVLMError, ShapeError
from ct_vlm.phantoms import LOBES, SEGMENTATION_CLASSES, Phantom, PhantomConfig, describe_phantom, make_phantom
from ct_vlm.phantoms.organs import ORGAN
from ct_vlm.text.labels import CT_RATE_LABELS
from ct_vlm.text.regions import RADGENOME_REGIONS

SMALL = (24, 32, 32)


def digest(phantom: Phantom) -> str:
    parts = (
        phantom.volume.tobytes(),
        phantom.segmentation.tobytes(),
        phantom.findings_text.encode(),
        phantom.labels.tobytes(),
    )
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_other_process_makes_the_same_phantom() -> None:
    code = (
        "import hashlib; from ct_vlm.phantoms import make_phantom; p = make_phantom(9, (24, 32, 32));"
        "print(hashlib.sha256(p.volume.tobytes() + p.segmentation.tobytes()"
        " + p.findings_text.encode() + p.labels.tobytes()).hexdigest())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == digest(make_phantom(9, SMALL))


def test_types_and_classes() -> None:
    phantom = make_phantom(1, SMALL)
    assert phantom.volume.dtype == np.int16
    assert phantom.segmentation.dtype == np.uint8
    assert phantom.volume.shape == phantom.segmentation.shape == SMALL
    assert phantom.spacing == (300 / 24, 240 / 32, 330 / 32)
    assert len(SEGMENTATION_CLASSES) == 35
    assert SEGMENTATION_CLASSES[17:] == CT_RATE_LABELS
    assert set(phantom.region_reports) <= set(RADGENOME_REGIONS)


@pytest.mark.parametrize("seed", range(4))
def test_orientation_and_organs(seed: int) -> None:
    phantom = make_phantom(seed, (48, 56, 64), labels=[])
    present = set(np.unique(phantom.segmentation))
    wanted = set(ORGAN.values()) - ({ORGAN["breast"]} if phantom.sex == "M" else set())
    assert wanted <= present

    def center(name: str) -> np.ndarray:
        return np.argwhere(phantom.segmentation == ORGAN[name]).mean(0)

    middle = np.array(phantom.volume.shape) / 2
    assert center("liver")[2] < middle[2] < center("spleen")[2]  # right is low, left is high
    assert center("heart")[2] > middle[2]
    assert center("right upper lobe")[0] < center("right lower lobe")[0] < center("kidneys")[0]  # head is low
    assert center("breast" if phantom.sex == "F" else "heart")[1] < middle[1] < center("aorta")[1]  # front is low


def test_values_are_those_of_a_chest() -> None:
    phantom = make_phantom(4, (48, 56, 64), labels=[])
    lungs = phantom.volume[(phantom.segmentation >= 1) & (phantom.segmentation <= len(LOBES))]
    assert -900 < np.median(lungs) < -780
    assert 20 < np.median(phantom.volume[phantom.segmentation == ORGAN["heart"]]) < 65
    assert -1100 < np.percentile(phantom.volume, 0.5) < -850
    assert phantom.volume.max() > 150


def test_reconstructions_share_all_but_noise() -> None:
    first, second = (make_phantom(6, SMALL, recon=recon) for recon in (0, 1))
    assert first.findings_text == second.findings_text
    assert first.findings == second.findings
    np.testing.assert_array_equal(first.segmentation, second.segmentation)
    outside = first.segmentation == ORGAN["liver"]
    assert first.volume[outside].std() < second.volume[outside].std()


def test_scans_share_the_body_but_not_the_findings() -> None:
    first, second = (make_phantom(6, SMALL, scan=scan) for scan in (0, 1))
    bones = [p.segmentation == ORGAN["bone"] for p in (first, second)]
    assert (bones[0] == bones[1]).mean() > 0.99
    assert (first.sex, first.age) == (second.sex, second.age)
    assert any((describe_phantom(s, scan=0).labels != describe_phantom(s, scan=1).labels).any() for s in range(5))


def test_facts_do_not_depend_on_the_grid_once_the_resolution_is_set() -> None:
    config = PhantomConfig(resolution_mm=6.0)
    for seed in range(10):
        large, point = (make_phantom(seed, shape, config=config) for shape in (SMALL, (1, 2, 2)))
        assert large.findings_text == point.findings_text
        assert [f.size_mm for f in large.findings] == [f.size_mm for f in point.findings]


def test_description_equals_the_phantom() -> None:
    for seed in range(12):
        drawn, said = make_phantom(seed, SMALL, scan=1), describe_phantom(seed, SMALL, scan=1)
        assert [replace(finding, bbox=None) for finding in drawn.findings] == said.findings
        assert (drawn.findings_text, drawn.impressions_text) == (said.findings_text, said.impressions_text)
        assert drawn.region_reports == said.region_reports
        assert (drawn.sex, drawn.age) == (said.sex, said.age)
        np.testing.assert_array_equal(drawn.labels, said.labels)


@pytest.mark.parametrize("shape", [(1, 40, 40), (17, 33, 29), (5, 1, 1), (100, 20, 20)])
def test_odd_grids(shape: tuple[int, int, int]) -> None:
    phantom = make_phantom(8, shape, labels=CT_RATE_LABELS)
    assert phantom.volume.shape == shape
    assert len(phantom.findings) == 18


def test_large_grids_are_drawn_in_slabs_without_seams() -> None:
    # more voxels than one slab holds: compare with slices of a grid of the same spacing
    whole = make_phantom(3, (40, 96, 104), labels=["Mosaic attenuation pattern"], config=PhantomConfig(noise_hu=(0,)))
    noisy = make_phantom(3, (40, 96, 104), labels=["Mosaic attenuation pattern"])
    assert np.array_equal(whole.segmentation, noisy.segmentation)
    jumps = np.abs(np.diff(whole.volume.astype(int), axis=0)).mean((1, 2))
    assert jumps.max() < 4 * np.median(jumps) + 20


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ConfigError, match="Pneumonia"):
        make_phantom(0, SMALL, labels=["Pneumonia"])
    with pytest.raises(ShapeError, match="three positive sizes"):
        make_phantom(0, (0, 4, 4))
    with pytest.raises(CTVLMError, match="normal_share"):
        PhantomConfig(normal_share=1.5)
    with pytest.raises(ConfigError, match="prevalence"):
        PhantomConfig(prevalence={"Atelectasis": 0.1})
    with pytest.raises(ConfigError, match="PhantomConfig"):
        PhantomConfig.from_config({"fov": [1, 2, 3]})
