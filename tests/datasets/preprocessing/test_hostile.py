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


@pytest.fixture
def refuse_listing(monkeypatch: pytest.MonkeyPatch):
    """Make folders unreadable; permissions do not hold back a test that runs as root."""
    original: Callable[..., Any] = os.scandir

    def refuse(is_refused: Callable[[str], bool]) -> None:
        def refusing(path: Any) -> Any:
            if is_refused(str(path)):
                raise PermissionError(13, "Permission denied", str(path))
            return original(path)

        monkeypatch.setattr(os, "scandir", refusing)

    return refuse


def test_an_unreadable_folder_is_left_out_and_named(make_dataset, refuse_listing, caplog) -> None:
    refuse_listing(lambda path: path.endswith("train_3_a"))
    dataset = make_dataset()
    (named,) = dataset.report.unreadable_folders
    assert "train_3/train_3_a: Permission denied" in named
    assert "unreadable folders 1" in caplog.text
    assert len(dataset) == TRAIN - 1
    assert "train_3_a_1" not in {sample.name.volume_id for sample in dataset.samples}
    assert len(preprocess(dataset, progress=False).made) == TRAIN - 1


@pytest.mark.parametrize("is_refused", [lambda path: path.endswith("train_fixed"), lambda path: "train_fixed/" in path])
def test_a_tree_of_which_nothing_can_be_listed_is_an_error(make_dataset, refuse_listing, is_refused) -> None:
    refuse_listing(is_refused)
    with pytest.raises(DatasetError, match=r"train_fixed.*Permission denied.*Check the permissions"):
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
