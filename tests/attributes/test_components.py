"""Components, boxes and borders."""

from __future__ import annotations

import numpy as np

from ct_vlm.attributes.components import bounding_box, find_components, touches_edge


def test_corners_connect():
    mask = np.zeros((4, 4, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[3, 3, 3] = True
    count, found = find_components(mask)
    assert count == 2
    assert [part.num_voxels for part in found] == [2, 1]
    rebuilt = np.zeros_like(mask)
    for part in found:
        rebuilt[part.box] |= part.mask
    assert (rebuilt == mask).all()


def test_a_component_within_the_box_of_another_is_not_part_of_it():
    mask = np.zeros((1, 5, 5), bool)
    mask[0, [0, 4]] = mask[0, :, [0, 4]] = True
    mask[0, 2, 2] = True
    _, (ring, dot) = find_components(mask)
    assert (ring.num_voxels, ring.mask.sum(), dot.num_voxels) == (16, 16, 1)


def test_empty_masks_have_no_component():
    assert find_components(np.zeros((3, 3, 3), bool)) == (0, [])
    assert bounding_box(np.zeros((3, 3, 3), bool)) is None
    assert not touches_edge(np.zeros((3, 3, 3), bool))


def test_small_ones_are_dropped_and_the_rest_counted():
    mask = np.zeros((1, 1, 40), bool)
    for start, length in ((0, 1), (5, 2), (10, 3), (20, 5)):
        mask[..., start : start + length] = True
    count, found = find_components(mask, min_voxels=2, max_components=2)
    assert count == 3
    assert [part.num_voxels for part in found] == [5, 3]


def test_of_a_hundred_thousand_components_ten_are_cut_out():
    mask = np.zeros((96, 96, 96), bool)
    mask[::2, ::2, ::2] = True
    count, found = find_components(mask, max_components=10)
    assert (count, len(found)) == (48**3, 10)


def test_each_face_of_the_volume_counts_as_border():
    for axis in range(3):
        for index in (0, -1):
            mask = np.zeros((5, 5, 5), bool)
            place = [2, 2, 2]
            place[axis] = index
            mask[tuple(place)] = True
            assert touches_edge(mask)
    mask = np.zeros((5, 5, 5), bool)
    mask[1:4, 1:4, 1:4] = True
    assert not touches_edge(mask)
