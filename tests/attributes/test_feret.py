"""Axial diameters against every pair of outline points and against analytic shapes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from ct_vlm.attributes.feret import axial_extent, plane_extent


def every_pair(plane, spacing):
    """Feret diameter and the extent across from the corners of all edge middles of all voxels, pair by pair."""
    y, x = np.nonzero(plane)
    points = np.concatenate(
        [np.stack([y + dy, x + dx], axis=1) for dy, dx in ((0, -0.5), (0, 0.5), (-0.5, 0), (0.5, 0))]
    ) * np.asarray(spacing)
    points = points[ConvexHull(points).vertices]
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    longest = distances.max()
    shortest = longest - min(max(spacing), 0.2 * longest)
    across = np.inf
    for i, j in zip(*np.nonzero(distances >= shortest), strict=True):
        u = (points[j] - points[i]) / distances[i, j]
        across = min(across, np.ptp(points @ [-u[1], u[0]]))
    return longest, across


def ellipse(a, b, angle, spacing, shift=(0.0, 0.0)):
    """Voxels whose centres lie in an ellipse with half axes a >= b in mm, a turned by an angle from H."""
    n = [int(np.ceil(2 * a / s)) + 5 for s in spacing]
    y, x = np.meshgrid(
        *[(np.arange(k) - k // 2) * s - d for k, s, d in zip(n, spacing, shift, strict=True)], indexing="ij"
    )
    u, v = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
    return (u / a) ** 2 + (v / b) ** 2 <= 1


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 0.7), (1.5, 0.6)])
def test_equals_brute_force_on_random_blobs(spacing):
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 6, 12):
        for share in (0.2, 0.6):
            plane = rng.random((size, size + 1)) < share
            plane[size // 2, 0] = True
            assert plane_extent(plane, spacing) == pytest.approx(every_pair(plane, spacing), abs=1e-9)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 0.7), (1.2, 0.8)])
def test_ellipses_are_off_by_at_most_one_voxel(spacing):
    rng = np.random.default_rng(1)
    voxel, worst, worst_across = max(spacing), 0.0, 0.0
    for _ in range(150):
        a = rng.uniform(2, 25)
        b = a * rng.uniform(0.4, 1)
        plane = ellipse(a, b, rng.uniform(0, np.pi), spacing, rng.uniform(-0.5, 0.5, 2) * spacing)
        long_mm, short_mm = plane_extent(plane, spacing)
        worst, worst_across = max(worst, abs(long_mm - 2 * a)), max(worst_across, abs(short_mm - 2 * b))
    assert worst <= voxel
    assert worst_across <= voxel
    assert worst > 0.1  # a digitised shape cannot be exact: the comparison compares something


@pytest.mark.parametrize("diameter", [4.0, 9.5, 23.0])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 0.7, 0.7), (2.5, 0.7, 0.9)])
def test_spheres_are_off_by_at_most_one_voxel(diameter, spacing):
    rng = np.random.default_rng(2)
    n = [int(diameter / s) + 6 for s in spacing]
    for shift in rng.uniform(-0.5, 0.5, (8, 3)):
        axes = [(np.arange(k) - k // 2 + d) * s for k, s, d in zip(n, spacing, shift, strict=True)]
        z, y, x = np.meshgrid(*axes, indexing="ij")
        mask = z**2 + y**2 + x**2 <= (diameter / 2) ** 2
        long_mm, _, plane = axial_extent(mask, spacing[1:])
        assert abs(long_mm - diameter) <= max(spacing)
        nearest = np.abs(axes[0]).min()
        assert abs(axes[0][plane]) <= nearest + spacing[0]
        # within the slice that was taken, in-plane voxels are what counts
        assert abs(long_mm - 2 * np.sqrt((diameter / 2) ** 2 - axes[0][plane] ** 2)) <= max(spacing[1:])


def test_rows_are_as_long_as_their_voxels():
    assert plane_extent(np.ones((1, 1), bool), (0.7, 0.7)) == pytest.approx((0.7, 0.7))
    assert plane_extent(np.ones((1, 9), bool), (0.7, 0.7)) == pytest.approx((6.3, 0.7))
    assert plane_extent(np.ones((9, 1), bool), (0.7, 0.7)) == pytest.approx((6.3, 0.7))


def test_the_widest_slice_is_found_although_its_box_is_not_the_largest():
    mask = np.zeros((3, 9, 9), bool)
    mask[0, :, 4] = mask[0, 4, :] = True  # a cross: box of 9 x 9, 9 voxels long
    mask[1, np.arange(8), np.arange(8)] = True  # a diagonal: box of 8 x 8, longer
    long_mm, _, plane = axial_extent(mask, (1.0, 1.0))
    assert plane == 1
    assert long_mm == pytest.approx(every_pair(mask[1], (1, 1))[0])


def test_turned_and_mirrored_slices_measure_the_same():
    plane = np.random.default_rng(3).random((14, 9)) < 0.3
    expected = plane_extent(plane, (0.8, 0.6))
    assert plane_extent(plane[::-1], (0.8, 0.6)) == pytest.approx(expected)
    assert plane_extent(plane[:, ::-1], (0.8, 0.6)) == pytest.approx(expected)
    assert plane_extent(plane.T, (0.6, 0.8)) == pytest.approx(expected)
