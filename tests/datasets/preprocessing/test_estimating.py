"""What a run would take, and how fast workers are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ct_vlm.datasets import preprocess
from ct_vlm.datasets.preprocessing import Estimate, Shard, estimate, time_workers
from ct_vlm.datasets.preprocessing import estimating as module
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.transforms import CTPreset

if TYPE_CHECKING:
    from pathlib import Path

SMALL = CTPreset("small", size=(4, 5, 6))


def test_counts_and_sizes(make_dataset, tmp_path: Path) -> None:
    dataset = make_dataset()
    found = estimate(dataset, measure=3)
    assert (found.volumes, found.present, found.todo, found.measured) == (8, 0, 8, 3)
    assert found.source_bytes == sum(sample.path.stat().st_size for sample in dataset.samples)
    assert found.cpu_seconds > 0
    assert not (tmp_path / "cache").exists()
    preprocess(dataset, progress=False)
    made = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert found.entry_bytes == pytest.approx(made, rel=0.1)
    after = estimate(dataset)
    assert (after.present, after.todo, after.measured, after.cpu_seconds) == (8, 0, 0, 0.0)


def test_seconds_follow_the_bytes(make_dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    original = module.preprocess_one

    def a_second_a_kilobyte(sample: Any, setup: Any) -> Any:
        outcome = original(sample, setup)
        return replace(outcome, cpu_seconds=outcome.source_bytes / 1000)

    monkeypatch.setattr(module, "preprocess_one", a_second_a_kilobyte)
    found = estimate(make_dataset(), measure=2)
    assert found.cpu_seconds == pytest.approx(found.source_bytes / 1000)


def test_only_a_shard(make_dataset) -> None:
    parts = [estimate(make_dataset(), shard=Shard(number, 2), measure=1) for number in (1, 2)]
    assert sum(part.volumes for part in parts) == 8


def test_bad_files_are_left_out(make_dataset, tree: Any) -> None:
    for name in ("valid_1_a_1", "valid_2_a_1"):
        tree.path(name).write_bytes(b"no gzip")
    assert estimate(make_dataset("valid")).measured == 1
    tree.path("valid_2_a_2").write_bytes(b"no gzip")
    with pytest.raises(DatasetError, match="None of 3 volumes"):
        estimate(make_dataset("valid"))


def test_hours_on_paper() -> None:
    plan = Estimate("uvlm", 100, 50, 5, 5e9, 3600.0, 1e9)
    assert plan.hours(workers=2) == 0.5
    assert plan.hours(workers=2, machines=8, efficiency=0.5) == 0.125
    whole = plan.scaled(50_188)
    assert (whole.todo, whole.present) == (50_188, 0)
    assert whole.entry_bytes == pytest.approx(50_188 * 1e9 / 50)
    assert Estimate("uvlm", 5, 5, 0, 0.0, 0.0, 0.0).scaled(10).cpu_seconds == 0.0


@pytest.mark.parametrize("arguments", [{"measure": 0}, {"measure": -1}])
def test_wrong_arguments_are_named(make_dataset, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="at least one volume"):
        estimate(make_dataset(), **arguments)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_workers_are_timed(make_dataset, tmp_path: Path, workers: int) -> None:
    files = [sample.path for sample in make_dataset("valid").samples] * 2
    (tmp_path / "scratch").mkdir()
    timing = time_workers(files, workers, SMALL, hu_source="fixed", cache_dir=tmp_path / "scratch")
    assert (timing.workers, timing.volumes) == (workers, 6)
    assert timing.source_bytes == sum(file.stat().st_size for file in files)
    assert timing.entry_bytes > 6 * 4 * 5 * 6
    assert timing.cpu_seconds > 0
    assert timing.wall_seconds > 0
    assert list((tmp_path / "scratch").iterdir()) == []


def test_timing_of_bad_files_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "a.nii.gz"
    bad.write_bytes(b"no gzip")
    with pytest.raises(DatasetError, match=r"a\.nii\.gz"):
        time_workers([bad], 0, SMALL)
