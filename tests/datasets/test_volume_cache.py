"""The cache: right keys, whole entries, and no failure where it cannot write."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ct_vlm.cache import ArrayCache
from ct_vlm.datasets import CTRateDataset
from ct_vlm.datasets import volumes as volumes_module
from ct_vlm.transforms import CTPreset

SMALL = CTPreset("small", size=(4, 5, 6))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of volumes that were read from their files."""
    seen: list[str] = []
    original = volumes_module.load_on_grid

    def counting(path: Path, *args: Any, **kwargs: Any) -> Any:
        seen.append(Path(path).name)
        return original(path, *args, **kwargs)

    monkeypatch.setattr(volumes_module, "load_on_grid", counting)
    return seen


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def data(tree: Any, cache: Path, **arguments: Any) -> CTRateDataset:
    return CTRateDataset(tree.root, "valid", **{"preset": SMALL, "cache_dir": cache, **arguments})


def test_second_read_comes_from_the_cache(tree: Any, tmp_path: Path, loads: list[str]) -> None:
    cache = tmp_path / "cache"
    first = data(tree, cache)[0]
    second = data(tree, cache)[0]
    assert loads == ["valid_1_a_1.nii.gz"]
    assert torch.equal(first["image"], second["image"])
    assert torch.equal(first["spacing"], second["spacing"])
    assert second["image"].dtype == torch.int16
    second["image"] += 1  # fresh memory, not the file
    assert torch.equal(data(tree, cache)[0]["image"], first["image"])


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"preset": CTPreset("small", size=(4, 5, 6), windows=((0, 1),), norm="zscore")}, False),
        ({"preset": CTPreset("small", size=(4, 5, 7))}, True),
        ({"preset": CTPreset("small", size=(4, 5, 6), pad_hu=-1000)}, True),
        ({"hu_source": "none"}, True),
        ({"text": "both"}, False),
    ],
)
def test_key_follows_what_changes_voxels(tree: Any, tmp_path: Path, loads: list[str], change: Any, again: bool) -> None:
    cache = tmp_path / "cache"
    data(tree, cache)[0]
    data(tree, cache, **change)[0]
    assert len(loads) == 1 + int(again)


def test_changed_source_is_read_again(tree: Any, tmp_path: Path, tree_module: Any, loads: list[str]) -> None:
    cache = tmp_path / "cache"
    before = data(tree, cache)[0]["image"]
    path = tree.path("valid_1_a_1")
    tree_module.save_nifti(tree_module.body(5), path)
    os.utime(path, ns=(1, 1))
    after = data(tree, cache)[0]["image"]
    assert len(loads) == 2
    assert not torch.equal(before, after)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "text"])
def test_damaged_entries_are_made_again(tree: Any, tmp_path: Path, damage: str, loads: list[str]) -> None:
    cache = tmp_path / "cache"
    whole = data(tree, cache)[0]["image"]
    (entry,) = entries(cache)
    content = entry.read_bytes()
    position = 70  # inside the voxels
    entry.write_bytes(
        {
            "truncate": content[: len(content) // 2],
            "flip": content[:position] + bytes([content[position] ^ 255]) + content[position + 1 :],
            "empty": b"",
            "text": b"not an entry",
        }[damage]
    )
    assert torch.equal(data(tree, cache)[0]["image"], whole)
    assert len(loads) == 2
    assert torch.equal(data(tree, cache)[0]["image"], whole)
    assert len(loads) == 2


def test_unwritable_folder_is_no_failure(tree: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file, where a folder should be")
    with caplog.at_level(logging.WARNING):
        items = data(tree, blocked / "cache")
        assert torch.equal(items[0]["image"], data(tree, tmp_path / "cache")[0]["image"])
        assert items[1]["volume_id"] == "valid_2_a_1"
    assert caplog.text.count("Cannot write to the cache") == 1
    assert blocked.read_text() == "a file, where a folder should be"


def test_entries_stay_inside_the_folder(tree: Any, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    data(tree, cache, preset=CTPreset("../../escape", size=(4, 5, 6)))[0]
    assert len(entries(cache)) == 1


@pytest.mark.parametrize("codec", ["zstd", "uncompressed"])
def test_parts_of_a_volume_are_read_alone(tree: Any, tmp_path: Path, codec: str) -> None:
    items = data(tree, tmp_path / "cache", cache_codec=codec)
    whole = items[0]["image"][0].numpy()
    sample = items.sample(0)
    for region in np.s_[1:3, 2:4, :5], 2, np.s_[..., 1:2]:
        part = volumes_module.preprocessed(sample, items.preset, items.hu_source, items.cache, region)["image"]
        np.testing.assert_array_equal(part, whole[region])
        assert part.flags.owndata
        assert part.flags.writeable
    off = volumes_module.preprocessed(sample, items.preset, items.hu_source, ArrayCache(None), np.s_[1:3])["image"]
    np.testing.assert_array_equal(off, whole[1:3])
    assert off.flags.owndata


def test_records_need_no_file(tree: Any, tmp_path: Path) -> None:
    item = data(tree, tmp_path / "cache")[0]
    for file in tree.root.rglob("*.nii.gz"):
        file.unlink()
    record = data(tree, tmp_path / "cache", check_files=False).record(0)
    assert set(item) - set(record) == {"image", "spacing"}
    assert all(
        torch.equal(item[key], value) if key == "labels" else item[key] == value for key, value in record.items()
    )


def test_forked_readers_share_a_cache(tree: Any, tmp_path: Path) -> None:
    # in a process of its own: forks of this one inherit whatever threads other tests have started
    command = [sys.executable, "-c", FORKED, str(tree.root), str(tmp_path / "cache")]
    root = Path(__file__).parents[2]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=100)
    assert ended.stdout == "equal\n", ended.stderr


FORKED = """
import sys
import torch
from torch.utils.data import DataLoader
from ct_vlm.datasets import CTRateDataset
from ct_vlm.transforms import CTPreset

large = CTPreset("large", size=(16, 32, 40))  # large enough to compress
items = CTRateDataset(sys.argv[1], "valid", preset=large, cache_dir=sys.argv[2])
want = [items[index]["image"] for index in range(len(items))]
loader = DataLoader(items, batch_size=None, num_workers=2, multiprocessing_context="fork")
equal = [torch.equal(item["image"], image) for item, image in zip(loader, want, strict=True)]
print("equal" if equal and all(equal) else equal)
"""
