"""Trees that want to be read for ever, or read elsewhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from ct_vlm.datasets import preprocess
from ct_vlm.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TRAIN = 8


def test_links_back_into_the_tree_add_nothing(make_dataset, tree: Any) -> None:
    folder = tree.base / "train_fixed"
    (folder / "again").symlink_to(folder)
    (folder / "train_1" / "up").symlink_to(folder)
    (folder / "train_1" / "train_1_a" / "root").symlink_to(tree.root)
    result = preprocess(make_dataset(), progress=False)
    assert len(result.made) == TRAIN
    assert result.failures == {}


def test_links_to_themselves_are_skipped(make_dataset, tree: Any) -> None:
    folder = tree.base / "train_fixed"
    for name in ("loop", "train_9/train_9_a/train_9_a_1.nii.gz"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(folder / name)
    dataset = make_dataset()
    assert dataset.report.unreadable_files == ["train_9_a_1"]
    assert len(preprocess(dataset, progress=False).made) == TRAIN


def test_an_unreadable_folder_is_named(make_dataset, tree: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., Any] = os.scandir

    def refusing(path: Any) -> Any:  # permissions do not hold back a test that runs as root
        if str(path).endswith("train_3_a"):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DatasetError, match=r"train_3_a.*Check the permissions"):
        make_dataset()


def test_a_folder_with_the_name_of_a_volume_is_no_volume(make_dataset, tree: Any) -> None:
    path = tree.path("train_3_a_1")
    path.unlink()
    path.mkdir()
    assert len(preprocess(make_dataset(), progress=False).made) == TRAIN - 1


def test_names_in_tables_lead_nowhere_else(make_dataset, tree: Any, tmp_path: Path) -> None:
    outside = [f"{step}/etc/passwd" for step in ("", "..", "../..", "train_1_a_1/../../..")]
    for name in outside:
        tree.reports["train"].append([name, "", "", "Findings.", "Impression."])
    tree.write()
    dataset = make_dataset(text="findings", check_files=False)
    assert sorted(dataset.report.bad_names) == sorted(outside)
    assert all(sample.path.is_relative_to(tree.base / "train_fixed") for sample in dataset.samples)
    preprocess(dataset, progress=False)
    outer = {path.name for path in tmp_path.iterdir()}
    assert outer == {"ct_rate", "cache"}


def test_two_files_of_one_name_make_one_entry(make_dataset, tree: Any) -> None:
    other = tree.base / "train_fixed/train_99/train_99_a/train_2_a_1.nii.gz"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"no gzip")
    result = preprocess(make_dataset(), progress=False)
    assert len(result.made) == TRAIN
    assert result.failures == {}
