"""Pairs beside volumes: who gets which, sharing and resuming as the volumes' data module has it."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch

from ct_vlm.cache import FeatureCache
from ct_vlm.datamodules import (
    CachedFeatureDataset,
    CTRateDataModule,
    FeatureDataModule,
    FeatureDataset,
    PreferenceDataModule,
    PreferenceDataset,
    TextTargetDataModule,
)
from ct_vlm.datasets import EpochIndex
from ct_vlm.datasets.preferences import PreferencePair, write_preferences
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.features import Features
from ct_vlm.transforms import FlipSafeAugmentation

if TYPE_CHECKING:
    from pathlib import Path


def pair(name: str, text: str = "a mass", prompt: str = "Findings:") -> PreferencePair:
    return PreferencePair(name, prompt, "(Lung: a nodule)", f"(Lung: {text})")


class PreferenceTestVolumes:
    """Two scans, the second with two reconstructions, of which the epoch decides."""

    regions = ("lung",)

    def __len__(self) -> int:
        return 2

    def record(self, index: int) -> dict:
        study = f"s_{int(index)}"
        return {"volume_id": f"{study}_{getattr(index, 'epoch', 0)}", "study_id": study, "prompt": "Report:"}

    def __getitem__(self, index: int) -> dict:
        return {**self.record(index), "image": torch.full((1,), float(index))}


def test_pairs_find_their_volumes_by_volume_or_scan() -> None:
    pairs = [pair("s_1"), pair("s_0_0"), pair("s_1", "a cyst"), pair("s_9")]
    dataset = PreferenceDataset(PreferenceTestVolumes(), pairs)
    assert [(row["volume_id"], row["rejected"]) for row in map(dataset.__getitem__, range(3))] == [
        ("s_0_0", "(Lung: a mass)"),
        ("s_1_0", "(Lung: a mass)"),
        ("s_1_0", "(Lung: a cyst)"),
    ]
    assert len(dataset) == 3
    assert dataset.regions == ("lung",)


def test_items_hold_the_pair_and_follow_the_epoch() -> None:
    dataset = PreferenceDataset(PreferenceTestVolumes(), [pair("s_1", prompt="List:")])
    item = dataset[EpochIndex(0, epoch=3)]
    assert item["volume_id"] == "s_1_3"
    assert item["image"].item() == 1
    assert (item["prompt"], item["chosen"], item["rejected"]) == ("List:", "(Lung: a nodule)", "(Lung: a mass)")
    assert {key: item[key] for key in dataset.record(EpochIndex(0, epoch=3))} == dataset.record(EpochIndex(0, epoch=3))
    asked = PreferenceDataset(PreferenceTestVolumes(), [pair("s_1")], "model")[0]
    # neither the pair's prompt nor the volume's own
    assert "prompt" not in asked


def test_keys_tell_volumes_prompts_and_texts_apart() -> None:
    pairs = [pair("s_0"), pair("s_1"), pair("s_0", "a cyst"), pair("s_0", prompt="List:")]
    dataset = PreferenceDataset(PreferenceTestVolumes(), pairs)
    assert len(set(dataset.keys())) == 4
    assert dataset.keys() == PreferenceDataset(PreferenceTestVolumes(), pairs).keys()
    assert dataset[EpochIndex(0, 1)]["pair_key"] != dataset[0]["pair_key"]
    assert dataset.select([2]).keys() == [dataset.keys()[2]]
    assert len(dataset) == 4


class PreferenceTestFiles(PreferenceTestVolumes):
    """The same scans, each with a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for index in range(2):
            (folder / f"{index}.nii.gz").write_bytes(b"scan")

    def sample(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(path=self.folder / f"{int(index)}.nii.gz")


def test_keys_change_with_the_files_of_the_volumes(tmp_path) -> None:
    volumes = PreferenceTestFiles(tmp_path / "scans")
    dataset = PreferenceDataset(volumes, [pair("s_0"), pair("s_1")])
    before = dataset.keys()
    # the same tree elsewhere
    (tmp_path / "scans").rename(tmp_path / "moved")
    volumes.folder = tmp_path / "moved"
    assert dataset.keys() == before
    (tmp_path / "moved" / "1.nii.gz").write_bytes(b"another scan")
    assert [now == then for now, then in zip(dataset.keys(), before, strict=True)] == [True, False]


def test_keys_change_with_features_in_memory() -> None:
    items = [{"volume_id": "s_0"}, {"volume_id": "s_1"}]
    first = FeatureDataset([torch.zeros(2, 1, 4, dtype=torch.bfloat16)], [(1, 1, 1)], items)
    other = FeatureDataset([first.levels[0] + torch.tensor([0, 1]).view(2, 1, 1)], [(1, 1, 1)], items)
    keys = [PreferenceDataset(data, [pair("s_0"), pair("s_1")]).keys() for data in (first, other)]
    assert [now == then for now, then in zip(*keys, strict=True)] == [True, False]


def test_keys_change_with_cached_features(tmp_path) -> None:
    keys = []
    for model, value in (("tower a", 0.0), ("tower b", 0.0), ("tower a", 1.0)):
        cache = FeatureCache(tmp_path, model, {}, dtype="float32")
        for name in ("s_0_0", "s_1_0"):
            if value or not cache.contains(name):
                cache.store(name, Features([torch.full((1, 8, 4), value)], [(2, 2, 2)]))
        dataset = PreferenceDataset(CachedFeatureDataset(PreferenceTestVolumes(), cache), [pair("s_1")])
        assert dataset.keys() == dataset.keys() == [dataset[0]["pair_key"]]
        keys += dataset.keys()
    assert len(set(keys)) == 3


def test_data_sets_travel_to_workers() -> None:
    dataset = PreferenceDataset(PreferenceTestVolumes(), [pair("s_1")])
    assert pickle.loads(pickle.dumps(dataset))[0]["chosen"] == dataset[0]["chosen"]
    with pytest.raises(AttributeError):
        _ = dataset.no_such_name


def test_pairs_of_other_data_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"s_0_0.*other"):
        PreferenceDataset(PreferenceTestVolumes(), [pair("other")])
    with pytest.raises(DatasetError, match="record"):
        PreferenceDataset([{"volume_id": "a"}], [pair("a")])


def features(count: int, first: int = 0) -> FeatureDataset:
    items = [{"volume_id": f"v{first + i}", "report": "Clear."} for i in range(count)]
    return FeatureDataset([torch.arange(first, first + count).view(-1, 1, 1).float()], [(1, 1, 1)], items)


def data(tmp_path, **options) -> PreferenceDataModule:
    path = tmp_path / "pairs.jsonl"
    write_preferences([pair(f"v{i}", text) for i in (1, 2, 4, 5) for text in ("a mass", "a cyst")], path)
    inner = FeatureDataModule({"train": features(4), "val": features(2, 4), "test": features(2, 4)}, batch_size=3)
    return PreferenceDataModule(inner, path, **options)


def test_batches_hold_a_row_a_pair_where_the_volume_is(tmp_path) -> None:
    module = data(tmp_path)
    module.setup("fit")
    seen = [
        (name, text)
        for batch in module.train_dataloader()
        for name, text in zip(batch["volume_id"], batch["rejected"], strict=True)
    ]
    assert sorted(seen) == sorted((f"v{i}", f"(Lung: {text})") for i in (1, 2) for text in ("a mass", "a cyst"))
    batch = next(iter(module.val_dataloader()))
    assert batch["volume_id"] == ["v4", "v4", "v5"]
    assert batch["features"].levels[0].flatten().tolist() == [4, 4, 5]
    assert "chosen" not in next(iter(module.test_dataloader()))
    before = module.data.datasets["train"]
    module.setup("validate")
    assert module.data.datasets["train"] is before


def test_only_pairs_that_are_not_known_are_loaded(tmp_path) -> None:
    module = data(tmp_path)
    module.setup("fit")
    keys = module.data.datasets["train"].keys() + module.data.datasets["val"].keys()
    known = {keys[0], keys[5]}
    missing = [key for loader in module.missing_loaders(known) for batch in loader for key in batch["pair_key"]]
    assert sorted(missing) == sorted(set(keys) - known)
    assert list(module.missing_loaders(set(keys))) == []
    assert len(module.data.datasets["train"]) == 4


def test_several_files_and_wrapped_data_modules(tmp_path) -> None:
    module = data(tmp_path)
    write_preferences([pair("v0"), pair("v3")], tmp_path / "more.jsonl")
    wrapped = TextTargetDataModule(module.data, text="report")
    both = PreferenceDataModule(wrapped, [tmp_path / "pairs.jsonl", tmp_path / "more.jsonl"], "model")
    both.setup("fit")
    batch = next(iter(both.train_dataloader()))
    assert "prompt" not in batch
    assert len(wrapped.data.datasets["train"]) == 6


def test_what_does_not_fit_is_named(tmp_path) -> None:
    module = data(tmp_path)
    with pytest.raises(ConfigError, match="prompts"):
        PreferenceDataModule(module.data, module.pairs, "none")
    write_preferences([pair("v4")], tmp_path / "held_out.jsonl")
    with pytest.raises(DatasetError, match="'train' part"):
        PreferenceDataModule(module.data, tmp_path / "held_out.jsonl").setup("fit")
    from lightning import LightningDataModule

    class PreferenceTestForeign(LightningDataModule):
        def setup(self, stage: str) -> None:
            """Nothing."""

    with pytest.raises(ConfigError, match="PreferenceTestForeign"):
        PreferenceDataModule(PreferenceTestForeign(), module.pairs).setup("fit")


def test_volumes_of_a_tree_keep_their_preset_and_balance(tmp_path) -> None:
    from ct_vlm.phantoms import write_ct_rate

    write_ct_rate(tmp_path / "tree", 4, shape=(16, 24, 24), seed=3, valid_fraction=0.0, workers=0, progress=False)
    inner = CTRateDataModule(tmp_path / "tree", batch_size=2, val_fraction=0.0, balance=0.5)
    inner.setup("fit")
    names = [inner.datasets["train"].record(i)["volume_id"] for i in range(len(inner.datasets["train"]))]
    write_preferences([pair(name) for name in names[:2]], tmp_path / "pairs.jsonl")
    module = PreferenceDataModule(
        CTRateDataModule(tmp_path / "tree", batch_size=2, val_fraction=0.0, balance=0.5), tmp_path / "pairs.jsonl"
    )
    module.setup("fit")
    assert module.preset.name == inner.preset.name
    batch = module.on_after_batch_transfer(next(iter(module.train_dataloader())), 0)
    assert batch["image"].is_floating_point()
    assert set(batch["volume_id"]) <= set(names[:2])


def test_volumes_that_are_flipped_are_refused(tmp_path) -> None:
    data = CTRateDataModule(tmp_path, "phantom", augment=FlipSafeAugmentation(flip_probability=0.5))
    with pytest.raises(ConfigError, match="flipped in training"):
        PreferenceDataModule(data, tmp_path / "pairs.jsonl")
