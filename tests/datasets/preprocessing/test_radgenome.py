"""Preprocessing of RadGenome-ChestCT: volumes and the masks of their regions."""

from __future__ import annotations

import json
import pickle
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from ct_vlm.cli import main
from ct_vlm.datasets import RadGenomeDataset, preprocess
from ct_vlm.datasets.preprocessing.work import Setup, preprocess_one
from ct_vlm.phantoms import write_radgenome
from ct_vlm.transforms import CTPreset

if TYPE_CHECKING:
    from pathlib import Path

PRESET = CTPreset("small", size=(12, 16, 16))


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("radgenome") / "tree"
    write_radgenome(root, 4, shape=(16, 24, 24), seed=4, valid_fraction=0.25, workers=0)
    return root


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "tree")
    return tmp_path / "tree"


def opened(root: Path, cache: Path, **options: Any) -> RadGenomeDataset:
    return RadGenomeDataset(root, **{"preset": PRESET, "text": None, "cache_dir": cache, **options})


def lung(root: Path, volume: str) -> Path:
    return root / f"dataset/train_region_mask/seg_{volume}/lung.nii.gz"


def test_volumes_and_masks_come_from_the_cache_afterwards(root: Path, tmp_path: Path) -> None:
    data = opened(root, tmp_path / "cache")
    expected = [opened(root, None)[index]["region_masks"] for index in range(len(data))]
    result = preprocess(data, progress=False)
    assert len(result.made) == len(data) == 3
    assert len(list((tmp_path / "cache").rglob("*-masks-*.ctcache"))) == 3
    again = preprocess(data, progress=False)
    assert (len(again.made), len(again.present)) == (0, 3)
    for index, sample in enumerate(data.samples):
        assert data.mask_cache.contains(sample)
        assert (data[index]["region_masks"] == expected[index]).all()
    # other regions, other entries: the volumes are there, the masks are made
    assert len(preprocess(opened(root, tmp_path / "cache", regions="six"), progress=False).made) == 3


def test_a_bad_mask_is_listed_and_tried_again_when_it_is_mended(root: Path, tmp_path: Path) -> None:
    data = opened(root, tmp_path / "cache")
    name = data.samples[1].name.volume_id
    path = lung(root, name)
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    result = preprocess(data, progress=False)
    assert list(result.failures) == [name]
    assert "lung.nii.gz" in result.failures[name]
    assert len(result.made) == 2
    path.write_bytes(good)
    again = preprocess(data, progress=False)
    assert (again.made, again.known, again.failures) == ([name], [], {})


def test_what_makes_masks_goes_to_other_processes(root: Path, tmp_path: Path) -> None:
    data = opened(root, tmp_path / "cache")
    sent = pickle.loads(pickle.dumps(Setup(data.preset, data.hu_source, data.cache, data.mask_cache)))
    assert preprocess_one(data.samples[0], sent).state == "made"
    assert data.mask_cache.contains(data.samples[0])


def test_without_masks_only_volumes_are_made(root: Path, tmp_path: Path) -> None:
    data = opened(root, tmp_path / "cache", masks=False)
    assert data.mask_cache is None
    assert len(preprocess(data, progress=False).made) == 3
    assert not list((tmp_path / "cache").rglob("*-masks-*"))


def test_the_command_takes_both_data_sets(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = tmp_path / "cache"
    fixed = ["preprocess", "--root", str(root), "--preset", "phantom", "--cache-dir", str(cache), "--workers", "0"]
    assert main([*fixed, "--regions", "six"]) == 0
    out = capsys.readouterr().out
    assert "train: 3 volumes made" in out
    assert "valid: 1 volumes made" in out
    assert len(list(cache.rglob("*-masks-*.ctcache"))) == 4
    data = RadGenomeDataset(root, regions="six", preset="phantom", cache_dir=cache)
    assert all(data.mask_cache.contains(sample) for sample in data.samples)
    assert main([*fixed, "--regions", "none", "--split", "valid"]) == 0
    assert main([*fixed, "--dry-run", "--split", "valid"]) == 0
    assert main([*fixed, "--regions", "seven"]) == 2
    (root / "dataset/train_fixed").mkdir()
    assert main(fixed) == 2
    assert "--layout" in capsys.readouterr().err
    assert main([*fixed, "--layout", "radgenome", "--split", "valid"]) == 0


def test_masks_on_another_grid_are_failures_or_follow_the_rule(root: Path, tmp_path: Path) -> None:
    import nibabel as nib
    import numpy as np

    path = lung(root, "train_1_a_1")
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj)[:, :, 1:], image.affine), path)
    result = preprocess(opened(root, tmp_path / "cache"), progress=False)
    assert "not on the grid of its volume" in result.failures["train_1_a_1"]
    listed = json.loads((tmp_path / "cache/preprocess_report.json").read_text())
    assert "mask_mismatch" in json.dumps(listed)
    skipping = opened(root, tmp_path / "cache", mask_mismatch="skip")
    assert preprocess(skipping, progress=False).failures == {}
