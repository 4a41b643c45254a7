"""Slabs of lists, of CT-RATE trees and of label maps: which slices, repeatable, and read in part."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ct_vlm.cache.arrays import StoredArray
from ct_vlm.datasets import CTRateDataset, EpochIndex, SegmentationDataset, SlabDataset
from ct_vlm.errors import ConfigError
from ct_vlm.phantoms import write_ct_rate
from ct_vlm.transforms import CTPreset, SlabViews

VIEWS = SlabViews(16, 8, num_local=3, slab_mm=40.0, gamma_probability=0.0, blur_probabilities=())
PRESET = CTPreset("slabs", size=(None, 32, 32), windows=((-997.0, 888.0),))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_ct_rate(folder, 4, shape=(12, 32, 32), seed=1, valid_fraction=0.25, workers=0, progress=False)
    return folder


def volume(depth: int = 20, **extra) -> dict:
    hu = torch.arange(depth, dtype=torch.int16)[:, None, None].expand(depth, 24, 24)
    return {"image": hu[None], "spacing": torch.tensor([10.0, 1.0, 1.0]), "volume_id": "v", **extra}


def same(a: dict, b: dict) -> bool:
    return all(torch.equal(a[name], b[name]) for name in ("global_views", "local_views"))


def test_views_of_an_item_come_from_one_slab():
    dataset = SlabDataset([volume()], VIEWS, slabs_per_volume=150)
    middles = set()
    for index in range(len(dataset)):
        item = dataset[index]
        middle = set(item["global_views"].unique().tolist())
        assert len(middle) == 1
        # slabs of 4 slices: the third is the middle
        assert set(item["local_views"].unique().tolist()) <= {min(middle) + k for k in (-2, -1, 0, 1)}
        middles |= middle
    assert middles == set(range(2, 19))


def test_index_epoch_and_seed_decide():
    dataset = SlabDataset([volume(), volume()], VIEWS, slabs_per_volume=4)
    assert same(dataset[5], dataset[5])
    assert same(dataset[5], dataset[EpochIndex(5, 0)])
    pairs = [(dataset[EpochIndex(n, 0)], dataset[EpochIndex(n, 1)]) for n in range(8)]
    assert not all(same(*pair) for pair in pairs)
    other = SlabDataset([volume(), volume()], VIEWS, slabs_per_volume=4, seed=1)
    assert not all(same(dataset[n], other[n]) for n in range(8))


def test_fixed_slabs_are_those_of_every_epoch():
    dataset = SlabDataset([volume()], VIEWS, slabs_per_volume=4, fixed=True)
    assert all(same(dataset[EpochIndex(n, 0)], dataset[EpochIndex(n, 7)]) for n in range(4))


def test_labels_of_a_list_guide_and_are_returned():
    labels = torch.zeros(20, 24, 24, dtype=torch.uint8)
    labels[:, 3, 4] = 2
    views = SlabViews(16, 8, num_local=2, local_scale=(0.1, 0.2), guidance_probability=1.0)
    item = SlabDataset([volume(segmentation=labels)], views, num_labels=2)[0]
    assert item["local_labels"].tolist() == [[0, 1], [0, 1]]


def test_ct_rate_items_have_ids_and_no_text(root):
    source = CTRateDataset(root, "train", preset=PRESET, text=None, labels=False)
    item = SlabDataset(source, VIEWS)[0]
    assert sorted(item) == ["global_views", "local_views", "patient_id", "study_id", "volume_id"]
    assert item["global_views"].unique().numel() > 20


def test_part_of_ct_rate_is_that_part(root, tmp_path):
    for cache in (None, tmp_path):
        source = CTRateDataset(root, "train", preset=PRESET, cache_dir=cache)
        whole = source[1]["image"][0].numpy()
        part = source.part(1, lambda shape, spacing: np.s_[shape[0] - 3 : shape[0]])
        np.testing.assert_array_equal(part["image"], whole[-3:])


def test_part_of_a_labelled_case_is_that_part(root, tmp_path):
    source = SegmentationDataset(root, preset=PRESET, cache_dir=tmp_path)
    whole = source[1]
    part = source.part(1, np.s_[2:5])
    np.testing.assert_array_equal(part["image"], whole["image"][0, 2:5].numpy())
    np.testing.assert_array_equal(part["segmentation"], whole["segmentation"][2:5].numpy())


def test_no_more_than_the_slab_is_read_from_the_cache(root, tmp_path, monkeypatch):
    source = CTRateDataset(root, "train", preset=PRESET, cache_dir=tmp_path)
    _ = source[0]
    read = []
    original = StoredArray.__getitem__

    def spy(self, index):
        part = original(self, index)
        read.append(np.shape(part))
        return part

    monkeypatch.setattr(StoredArray, "__getitem__", spy)
    _ = SlabDataset(source, VIEWS)[0]
    slices = max(1, round(40.0 / (300 / 12)))
    assert (slices, 32, 32) in read
    assert all(len(shape) < 3 or shape[0] == slices for shape in read)


def test_wrong_use():
    with pytest.raises(ConfigError, match="slabs_per_volume"):
        SlabDataset([volume()], VIEWS, slabs_per_volume=0)
    with pytest.raises(ConfigError, match="no label map"):
        SlabDataset([volume()], VIEWS, num_labels=3)[0]
    with pytest.raises(IndexError, match="2"):
        SlabDataset([volume()], VIEWS)[2]
