"""Preprocessing a data set: what is made, skipped, given up and tried again."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
from typing import TYPE_CHECKING, Any

import pytest

from ct_vlm.datasets import CTRateDataset, preprocess
from ct_vlm.datasets import volumes as volumes_module
from ct_vlm.datasets.preprocessing import Shard
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

TRAIN = ["train_1_a_1", "train_1_a_2", "train_1_b_1", "train_2_a_1", "train_3_a_1", "train_4_a_1", "train_5_a_1"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def table(folder: Path) -> list[str]:
    return [row["volume"] for row in json.loads((folder / "preprocess_report.json").read_text())["failures"]]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the volumes that were preprocessed in this process."""
    seen: list[str] = []
    from ct_vlm.datasets.preprocessing import work

    original = volumes_module.preprocessed

    def counting(sample: Any, *arguments: Any) -> Any:
        seen.append(sample.name.volume_id)
        return original(sample, *arguments)

    monkeypatch.setattr(work, "preprocessed", counting)
    return seen


def test_fills_the_cache_and_goes_on_after_bad_files(make_dataset, tree: Any, tmp_path: Path, cache_entries) -> None:
    truncate(tree.path("valid_2_a_1"))
    before = hashes(tree.root)
    dataset = make_dataset("valid", recon_policy="first")
    result = preprocess(dataset, progress=False)
    assert result.made == ["valid_1_a_1", "valid_2_a_2"]
    assert list(result.failures) == ["valid_2_a_1"]
    assert "valid_2_a_1.nii.gz" in result.failures["valid_2_a_1"]
    assert "2 volumes made, 0 present already, 1 failed" in str(result)
    assert result.report == tmp_path / "cache/preprocess_report.json"
    assert table(tmp_path / "cache") == ["valid_2_a_1"]
    again = preprocess(dataset, progress=False)
    assert (again.made, again.present) == ([], ["valid_1_a_1", "valid_2_a_2"])
    assert sorted(cache_entries(tmp_path / "cache")) == ["valid_1_a_1", "valid_2_a_2"]
    assert hashes(tree.root) == before


def test_known_bad_files_are_not_tried_until_they_change(
    make_dataset, tree: Any, tmp_path: Path, loads: list[str]
) -> None:
    bad = tree.path("train_2_a_1")
    whole = bad.read_bytes()
    truncate(bad)
    preprocess(make_dataset(), progress=False)
    loads.clear()
    again = preprocess(make_dataset(), progress=False)
    assert loads == []
    assert (again.known, list(again.failures)) == (["train_2_a_1"], ["train_2_a_1"])
    assert "(1 of them known and not tried again)" in again.summary()
    asked = preprocess(make_dataset(), progress=False, retry_failed=True)
    assert loads == ["train_2_a_1"]
    assert (asked.known, list(asked.failures)) == ([], ["train_2_a_1"])
    bad.write_bytes(whole)
    mended = preprocess(make_dataset(), progress=False)
    assert (mended.made, mended.failures) == (["train_2_a_1"], {})
    assert table(tmp_path / "cache") == []


def test_a_file_that_disappears_is_tried_again(make_dataset, tree: Any) -> None:
    dataset = make_dataset()
    path = tree.path("train_2_a_1")
    hidden = path.rename(path.with_name("hidden"))
    assert "train_2_a_1" in preprocess(dataset, progress=False).failures
    assert preprocess(dataset, progress=False).known == []
    hidden.rename(path)
    assert preprocess(dataset, progress=False).made == ["train_2_a_1"]


def test_a_disk_that_fails_for_a_while_quarantines_nothing(
    make_dataset, tree: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ct_vlm.transforms import nifti

    original = nifti.read_header

    def failing(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "train_2_a_1.nii.gz":
            raise OSError(errno.EIO, "Input/output error")
        return original(path, *arguments, **options)

    truncate(tree.path("train_3_a_1"))
    with monkeypatch.context() as patch:
        patch.setattr(nifti, "read_header", failing)
        result = preprocess(make_dataset(), progress=False)
    assert list(result.failures) == ["train_2_a_1", "train_3_a_1"]
    again = preprocess(make_dataset(), progress=False)
    assert (again.made, again.known) == (["train_2_a_1"], ["train_3_a_1"])


def test_failures_of_another_preset_do_not_count(make_dataset, tree: Any, loads: list[str]) -> None:
    truncate(tree.path("train_2_a_1"))
    preprocess(make_dataset(), progress=False)
    loads.clear()
    preprocess(make_dataset(preset={"name": "other", "size": (3, 3, 3)}), progress=False)
    assert "train_2_a_1" in loads


def test_surprises_are_failures_too(make_dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from ct_vlm.datasets.preprocessing import work

    def surprise(sample: Any, *arguments: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(work, "preprocessed", surprise)
    result = preprocess(make_dataset("valid"), progress=False)
    assert set(result.failures.values()) == {"ZeroDivisionError"}
    assert len(result.failures) == 3


def test_stops_after_max_failures(make_dataset, tree: Any) -> None:
    for name in ("train_1_a_1", "train_2_a_1", "train_5_a_1"):
        truncate(tree.path(name))
    result = preprocess(make_dataset(), progress=False, max_failures=2)
    assert list(result.failures) == ["train_1_a_1", "train_2_a_1"]
    assert result.made == ["train_1_a_2", "train_1_b_1"]
    assert "2 files failed" in result.stopped
    rest = preprocess(make_dataset(), progress=False, max_failures=2)
    assert rest.known == ["train_1_a_1", "train_2_a_1"]  # what is known already does not count
    assert rest.stopped == ""


def test_stops_where_the_cache_cannot_be_written(make_dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    dataset = make_dataset("valid", tmp_path / "file/cache")
    result = preprocess(dataset, progress=False)
    assert list(result.failures) == ["valid_1_a_1"]
    assert "Cannot write" in result.stopped
    assert result.report is None
    (tmp_path / "file").unlink()
    assert len(preprocess(dataset, progress=False).made) == 3


def test_a_damaged_entry_on_a_full_disk_is_not_taken_for_made(make_dataset, tmp_path: Path) -> None:
    preprocess(make_dataset("valid"), progress=False)
    entry = next((tmp_path / "cache/small").glob("valid_2_a_1*"))
    os.truncate(entry, entry.stat().st_size // 2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))  # neither entries nor the report can be written
    try:
        result = preprocess(make_dataset("valid"), progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (result.made, result.present, list(result.failures)) == ([], ["valid_1_a_1"], ["valid_2_a_1"])
    assert "Cannot write" in result.stopped


def test_shards_fill_one_cache(make_dataset, tmp_path: Path, cache_entries, tree: Any) -> None:
    truncate(tree.path("train_2_a_1"))
    truncate(tree.path("train_3_a_1"))
    results = [preprocess(make_dataset(), progress=False, shard=Shard(number, 3)) for number in (1, 2, 3)]
    made = sorted(name for result in results for name in result.made)
    assert made == sorted(cache_entries(tmp_path / "cache"))
    assert len(made) == 6
    assert table(tmp_path / "cache") == ["train_2_a_1", "train_3_a_1"]


def test_report_lies_where_it_is_wanted(make_dataset, tree: Any, tmp_path: Path) -> None:
    truncate(tree.path("valid_1_a_1"))
    result = preprocess(make_dataset("valid"), progress=False, report=tmp_path / "reports")
    assert result.report == tmp_path / "reports/preprocess_report.json"
    assert not (tmp_path / "cache/preprocess_report.json").exists()


def test_interrupted_runs_keep_their_report(make_dataset, tree: Any, tmp_path: Path, monkeypatch) -> None:
    from ct_vlm.datasets.preprocessing import work

    original = volumes_module.preprocessed

    def interrupted(sample: Any, *arguments: Any) -> Any:
        if sample.name.volume_id == "train_3_a_1":
            raise KeyboardInterrupt
        return original(sample, *arguments)

    truncate(tree.path("train_1_a_1"))
    monkeypatch.setattr(work, "preprocessed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        preprocess(make_dataset(), progress=False)
    assert table(tmp_path / "cache") == ["train_1_a_1"]


def test_damaged_entries_are_made_again(make_dataset, tmp_path: Path) -> None:
    preprocess(make_dataset("valid"), progress=False)
    entry = next(path for path in (tmp_path / "cache").glob("*/*") if path.name.startswith("valid_1_a_1"))
    os.truncate(entry, entry.stat().st_size // 2)
    assert preprocess(make_dataset("valid"), progress=False).made == ["valid_1_a_1"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"engine": "spark"},
        {"timeout": 5.0},
        {"workers": 1, "timeout": -1.0},
        {"max_failures": 0},
        {"workers": -2},
        {"engine": "ray", "timeout": 5.0, "workers": 1},
    ],
)
def test_wrong_arguments_are_named(make_dataset, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        preprocess(make_dataset("valid"), progress=False, **arguments)


def test_needs_a_cache(tree: Any) -> None:
    with pytest.raises(ConfigError, match="no cache"):
        preprocess(CTRateDataset(tree.root, "valid"))
