"""Shards: what is written, what is read back, and what is refused."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

pytest.importorskip("litdata", reason="the extra [stream] is not installed")

from litdata.streaming import downloader as litdata_downloader
from litdata.streaming.downloader import LocalDownloader, register_downloader

from ct_vlm.datasets import CTRateDataset, EpochIndex, ShardDataset, write_shards
from ct_vlm.datasets.preprocessing import Shard
from ct_vlm.datasets.shards_format import pack_item, unpack_item
from ct_vlm.errors import ConfigError, DatasetError, MissingDependencyError
from ct_vlm.transforms import CTPreset

SMALL = CTPreset("small", size=(4, 5, 6))


def source(tree: Any, split: str = "train", **arguments: Any) -> CTRateDataset:
    return CTRateDataset(tree.root, split, **{"preset": SMALL, **arguments})


def written(tree: Any, folder: Path, **arguments: Any) -> Path:
    write_shards(source(tree), folder, progress=False, **arguments)
    return folder


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    if first.keys() != second.keys():
        return False
    return all(
        torch.equal(value.nan_to_num(-1), second[name].nan_to_num(-1)) and value.dtype == second[name].dtype
        if isinstance(value, torch.Tensor)
        else value == second[name] or (value != value and second[name] != second[name])
        for name, value in first.items()
    )


@pytest.mark.parametrize("policy", ["all", "first", "random"])
@pytest.mark.parametrize("codec", ["zstd", "lz4", "uncompressed"])
def test_items_are_those_of_the_data_set(tree: Any, tmp_path: Path, policy: str, codec: str) -> None:
    original = source(tree, recon_policy=policy, seed=3)
    result = write_shards(original, tmp_path / "out", codec=codec, volumes_per_file=3, progress=False)
    assert (result.volumes, result.written, result.complete) == (8, 8, True)
    assert len(list((tmp_path / "out").glob("chunk-*.bin"))) == 3
    shards = ShardDataset(tmp_path / "out", recon_policy=policy, seed=3)
    assert len(shards) == len(original)
    for place in range(len(original)):
        for epoch in (0, 5):
            index = EpochIndex(place, epoch)
            assert same(shards[index], original[index])
            assert same(shards.record(index), original.record(index))
            assert shards.sample(index).name == original.sample(index).name


def test_unknown_labels_and_further_columns_travel(tree: Any, tmp_path: Path) -> None:
    table = tree.root / "ages.csv"
    table.write_text("VolumeName,age\ntrain_1_a_1.nii.gz,61\ntrain_2_a_1.nii.gz,5.5\n")
    tree.labels["train"] = tree.labels["train"][1:]
    tree.write()
    original = source(tree, extra_tables={"ages": table})
    write_shards(original, tmp_path / "out", progress=False)
    shards = ShardDataset(tmp_path / "out")
    assert shards[0]["labels"].isnan().all()
    assert all(same(shards[i], original[i]) for i in range(len(original)))


def test_subset_without_text(tree: Any, tmp_path: Path) -> None:
    shards = ShardDataset(written(tree, tmp_path / "out"), text=False, labels=False)
    assert {"report", "labels"}.isdisjoint(shards[0])
    part = shards.subset(["train_1", "train_6"], recon_policy="first")
    assert part.patient_ids() == ["train_1", "train_6"]
    assert [part[i]["volume_id"] for i in range(len(part))] == ["train_1_a_1", "train_1_b_1", "train_6_a_1"]
    assert len(shards) == 8
    assert ShardDataset(tmp_path / "out", patients=["train_3"]).patient_ids() == ["train_3"]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.slow
def test_processes_write_the_same_bytes(tree: Any, tmp_path: Path) -> None:
    one = written(tree, tmp_path / "one")
    assert files(written(tree, tmp_path / "two", workers=2)) == files(one)


def test_job_arrays_write_the_same_bytes(tree: Any, tmp_path: Path) -> None:
    one = written(tree, tmp_path / "one")
    first = write_shards(source(tree), tmp_path / "parts", shard=Shard(1, 2), progress=False)
    assert not first.complete
    assert not (tmp_path / "parts/index.json").exists()
    assert "no index yet" in str(first)
    assert write_shards(source(tree), tmp_path / "parts", shard=Shard(2, 2), progress=False).complete
    assert files(tmp_path / "parts") == files(one)


def test_goes_on_where_it_stopped(tree: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ct_vlm.datasets import shards_writing

    whole = written(tree, tmp_path / "whole")
    make, calls = shards_writing.preprocessed, []

    def dies(sample: Any, *arguments: Any) -> Any:
        calls.append(sample.name.volume_id)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return make(sample, *arguments)

    monkeypatch.setattr(shards_writing, "preprocessed", dies)
    with pytest.raises(KeyboardInterrupt):
        written(tree, tmp_path / "out")
    assert not (tmp_path / "out/index.json").exists()
    result = write_shards(source(tree), tmp_path / "out", progress=False)
    assert (result.written, result.volumes) == (6, 8)
    assert len(calls) == 4 + 6
    assert files(tmp_path / "out") == files(whole)
    assert write_shards(source(tree), tmp_path / "out", progress=False).written == 0
    tree.add("train_2_a_1", rows=False)
    assert write_shards(source(tree), tmp_path / "out", progress=False).written == 2
    assert not list((tmp_path / "out/.parts").glob("tmp-*"))


def test_a_bad_file_is_left_out_and_a_lost_one_kept(tree: Any, tmp_path: Path) -> None:
    tree.path("train_3_a_1").write_bytes(b"no volume")
    result = write_shards(source(tree), tmp_path / "out", progress=False)
    assert list(result.failures) == ["train_3_a_1"]
    assert "1 left out" in str(result)
    assert len(ShardDataset(tmp_path / "out")) == 7
    again = write_shards(source(tree, check_files=False), tmp_path / "out", progress=False)
    assert (again.written, len(again.failures)) == (0, 1)
    shutil.rmtree(tree.base / "train_fixed/train_1")
    last = write_shards(source(tree, check_files=False), tmp_path / "out", progress=False)
    assert (last.written, last.volumes) == (0, 7)


def test_folders_of_others_are_left_alone(tree: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(DatasetError, match="not empty"):
        written(tree, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    written(tree, tmp_path / "out")
    with pytest.raises(DatasetError, match="differs: codec, volumes_per_file"):
        written(tree, tmp_path / "out", codec="lz4", volumes_per_file=1)
    with pytest.raises(ConfigError, match="at least 1 volume"):
        written(tree, tmp_path / "other", volumes_per_file=0)


def test_another_geometry_is_refused_and_other_windows_are_not(tree: Any, tmp_path: Path) -> None:
    folder = written(tree, tmp_path / "out")
    with pytest.raises(ConfigError, match="written with the preset 'small'"):
        ShardDataset(folder, preset="uvlm")
    other = CTPreset("other", size=(4, 5, 6), windows=((0, 1), (1, 2)))
    assert ShardDataset(folder, preset=other).preset is other


def change_index(folder: Path, **config: Any) -> None:
    path = folder / "index.json"
    index = json.loads(path.read_text())
    index["config"].update(config)
    path.write_text(json.dumps(index))


@pytest.mark.parametrize(
    "config",
    [{"data_format": ["pickle"]}, {"data_format": ["graph:pickle"]}, {"encryption": {"a": 1}}, {"format": "mds"}],
)
def test_an_index_that_could_run_code_is_refused(tree: Any, tmp_path: Path, config: dict[str, Any]) -> None:
    folder = written(tree, tmp_path / "out")
    change_index(folder, **config)
    with pytest.raises(DatasetError, match="other things than the volumes"):
        ShardDataset(folder)


def test_nothing_is_unpickled(tree: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = ShardDataset(written(tree, tmp_path / "out"))

    def refuse(*arguments: Any, **keywords: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "load", refuse)
    assert shards[0]["volume_id"] == "train_1_a_1"


def test_files_outside_the_folder_are_not_read(tree: Any, tmp_path: Path) -> None:
    folder = written(tree, tmp_path / "out")
    index = json.loads((folder / "index.json").read_text())
    index["chunks"][0]["filename"] = "../chunk-0-0.bin"
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(DatasetError, match="other things"):
        ShardDataset(folder)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"chunks": 3, "config": {}}', '{"chunks": [], "config": {}}'])
def test_a_broken_index_or_list_is_named(tree: Any, tmp_path: Path, content: str) -> None:
    folder = written(tree, tmp_path / "out")
    kept = (folder / "index.json").read_text()
    (folder / "index.json").write_text(content)
    with pytest.raises(DatasetError, match=r"index\.json"):
        ShardDataset(folder)
    (folder / "index.json").write_text(kept)
    (folder / "samples.json").write_text(content)
    with pytest.raises(DatasetError, match=r"samples\.json"):
        ShardDataset(folder)


def test_damage_is_found(tree: Any, tmp_path: Path) -> None:
    folder = written(tree, tmp_path / "out")
    file = folder / "chunk-0-1.bin"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    shards = ShardDataset(folder)
    with pytest.raises(DatasetError, match=r"Item [23] in `.*chunk-0-1.bin` is not a whole item"):
        _ = [shards[i] for i in (2, 3)]
    file.write_bytes(content[:-1])
    with pytest.raises(DatasetError, match=r"chunk-0-1.bin` has \d+ bytes, but the index says"):
        _ = ShardDataset(folder)[2]
    file.unlink()
    with pytest.raises(DatasetError, match=r"chunk-0-1.bin` cannot be read"):
        _ = ShardDataset(folder)[2]


def test_every_bit_of_an_item_is_checked() -> None:
    arrays = {"image": np.arange(60, dtype=np.int16).reshape(3, 4, 5), "spacing": np.ones(3)}
    content = pack_item({"volume_id": "a"}, arrays)
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << (position % 8)
        with pytest.raises(DatasetError):
            unpack_item(bytes(changed))
    for length in range(len(content)):
        with pytest.raises(DatasetError):
            unpack_item(content[:length])


class Ranged(LocalDownloader):
    """Stands for an object store: a folder of which parts can be read."""

    requests: ClassVar[list[tuple[str, str]]] = []
    folder: Path

    def download_file(self, remote: str, local: str) -> None:
        Ranged.requests.append(("file", Path(remote).name))
        super().download_file(str(Ranged.folder / remote.removeprefix("s3://bucket/")), local)

    def download_bytes(self, remote: str, offset: int, length: int, local: str) -> bytes:
        Ranged.requests.append(("range", Path(remote).name))
        with (Ranged.folder / remote.removeprefix("s3://bucket/")).open("rb") as file:
            file.seek(offset)
            return file.read(length)


@pytest.fixture
def bucket(tree: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Shards behind an address."""
    monkeypatch.setattr(litdata_downloader, "_DOWNLOADERS", dict(litdata_downloader._DOWNLOADERS))
    register_downloader("s3://", Ranged, overwrite=True)
    Ranged.requests, Ranged.folder = [], tmp_path / "bucket"
    Ranged.folder.mkdir()
    return written(tree, tmp_path / "bucket/train")


def cached(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("chunk-*"))


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_copies_of_a_store_stay_within_the_limit(tree: Any, tmp_path: Path, bucket: Path, share: float) -> None:
    original, total = source(tree), cached(bucket)
    place = {"cache_dir": tmp_path / "copies", "max_cache_gb": share * total / 1e9}
    shards = ShardDataset("s3://bucket/train", **place)
    for _ in range(2):
        assert all(same(shards[i], original[i]) for i in range(len(original)))
    assert cached(tmp_path / "copies") <= share * total
    files = [name for kind, name in Ranged.requests if kind == "file" and name.startswith("chunk")]
    assert len(files) == len(set(files))
    assert (len(files), any(kind == "range" for kind, _ in Ranged.requests)) == {
        0.0: (0, True),
        0.4: (1, True),
        1.0: (4, False),
    }[share]
    Ranged.requests.clear()
    assert same(ShardDataset("s3://bucket/train", **place)[0], original[0])
    assert ("file", "chunk-0-0.bin") not in Ranged.requests


def test_a_store_that_was_written_anew_gets_copies_of_its_own(tree: Any, tmp_path: Path, bucket: Path) -> None:
    place = {"cache_dir": tmp_path / "copies"}
    assert ShardDataset("s3://bucket/train", **place)[0]["report"] == "Findings of train_1_a_1."
    tree.reports["train"][0][3] = "No nodule."
    tree.write()
    written(tree, bucket)
    assert ShardDataset("s3://bucket/train", **place)[0]["report"] == "No nodule."


def test_folders_behind_an_address_are_copied_whole_or_refused(tree: Any, tmp_path: Path) -> None:
    folder = written(tree, tmp_path / "out")
    shards = ShardDataset(f"local:{folder}", cache_dir=tmp_path / "copies")
    assert all(same(shards[i], source(tree)[i]) for i in range(8))
    with pytest.raises(ConfigError, match="only be read as whole files"):
        ShardDataset(f"local:{folder}", cache_dir=tmp_path / "copies", max_cache_gb=0)
    with pytest.raises(DatasetError, match="cannot be read"):
        ShardDataset(f"local:{tmp_path}/nowhere", cache_dir=tmp_path / "copies")


def test_shards_travel_to_other_processes(tree: Any, tmp_path: Path) -> None:
    shards = ShardDataset(written(tree, tmp_path / "out"))
    first = shards[0]
    assert same(pickle.loads(pickle.dumps(shards))[0], first)


def test_without_litdata(tree: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tree, tmp_path / "out")
    monkeypatch.setitem(sys.modules, "litdata", None)
    with pytest.raises(MissingDependencyError, match=r'litdata.*pip install "ct_vlm\[stream\]"'):
        write_shards(source(tree), tmp_path / "other", progress=False)
    with pytest.raises(MissingDependencyError, match="ct_vlm"):
        _ = ShardDataset(folder)[0]


def test_reading_shards_asks_no_package_index(tree: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    def refuse(*arguments: Any, **keywords: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(requests, "get", refuse)
    assert ShardDataset(written(tree, tmp_path / "out"))[0]["volume_id"] == "train_1_a_1"
