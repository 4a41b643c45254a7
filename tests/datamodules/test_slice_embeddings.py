"""Slice embeddings on disk: ragged batches that give what each volume gives alone."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from ct_vlm.cache import FeatureCache, model_identity, open_features, write_manifest
from ct_vlm.datamodules import (
    CTRateDataModule,
    FeatureDataModule,
    SliceEmbeddingDataModule,
    SliceEmbeddingDataset,
    precompute,
    sample_slices,
)
from ct_vlm.datasets import CTRateDataset
from ct_vlm.encoders import SliceEmbedder, SliceEncoder
from ct_vlm.errors import CheckpointError, ConfigError, DatasetError
from ct_vlm.features import Features
from ct_vlm.modules import ZoneConstrainedCrossAttention
from ct_vlm.transforms import get_preset

if TYPE_CHECKING:
    from pathlib import Path

PRESET = replace(get_preset("ker_vljepa"), name="small", size=(None, 14, 14))
WIDTH = 8


class Scans:
    """A data set of texts; its embeddings are made up."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def record(self, index: int) -> dict[str, Any]:
        return {"volume_id": f"v{int(index)}", "report": f"text {int(index)}"}


def made_up(folder: Path, lengths: list[int], **options: Any) -> SliceEmbeddingDataset:
    cache = FeatureCache(folder, "encoder", {}, dtype="float32")
    for index, n in enumerate(lengths):
        place = 2.0 * torch.arange(n).unsqueeze(0)
        cache.store(f"v{index}", Features([torch.randn(1, n, WIDTH)], [(n, 1, 1)], place))
    return SliceEmbeddingDataset(Scans(len(lengths)), cache, **options)


@pytest.fixture(scope="module")
def embedder() -> SliceEmbedder:
    torch.manual_seed(0)
    config = {"model_type": "dinov2", "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 7}
    return SliceEmbedder(SliceEncoder({**config, "hidden_size": WIDTH, "image_size": 14}, layers=(1,))).freeze()


def test_a_ragged_batch_is_padded_and_says_where(tmp_path: Path) -> None:
    dataset = made_up(tmp_path, [3, 7, 5])
    module = FeatureDataModule({"val": dataset}, batch_size=3)
    batch = next(iter(module.val_dataloader()))
    features = batch["features"]
    assert features.levels[0].shape == (3, 7, WIDTH)
    assert features.grids == [(7, 1, 1)]
    assert (~features.padding_mask).sum(1).tolist() == [3, 7, 5]
    assert features.slice_position_mm[1].tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert batch["report"] == ["text 0", "text 1", "text 2"]
    for row, n in enumerate([3, 7, 5]):
        assert torch.equal(features.levels[0][row, :n], dataset[row]["levels"][0])
        assert not features.levels[0][row, n:].any()


def test_tokens_of_a_batch_are_those_of_each_volume_alone(tmp_path: Path) -> None:
    dataset = made_up(tmp_path, [40, 3, 17])
    zones = ZoneConstrainedCrossAttention(WIDTH, num_zones=6, num_heads=2, hidden_dim=16).eval()
    items = [dataset[index] for index in range(3)]
    together = zones(dataset.collate(items)["features"]).tokens
    for row, item in enumerate(items):
        alone = zones(dataset.collate([item])["features"]).tokens[0]
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-4)


def test_long_volumes_are_thinned_out_and_padding_is_dropped(tmp_path: Path) -> None:
    dataset = made_up(tmp_path, [9], max_slices=5)
    padding = torch.arange(9).unsqueeze(0) == 8
    slices = torch.randn(1, 9, WIDTH)
    dataset.cache.store("v0", Features([slices], [(9, 1, 1)], torch.arange(9.0).unsqueeze(0), padding))
    item = dataset[0]
    assert item["slice_position_mm"].tolist() == [0, 2, 4, 5, 7]
    assert torch.equal(item["levels"][0], slices[0, [0, 2, 4, 5, 7]])


def test_voxels_are_read_once_and_never_again(
    tree: Any, tmp_path: Path, embedder: SliceEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "embeddings"
    cache = FeatureCache(folder, model_identity(embedder), PRESET.to_config())
    write_manifest(cache, folder)
    scans = CTRateDataset(tree.root, preset=PRESET)
    assert len(precompute(embedder, scans, cache, PRESET, progress=False).made) == len(scans)
    volume = scans[0]
    want = embedder(PRESET.window(volume["image"][None]), volume["spacing"][None])
    for file in tree.root.rglob("*.nii.gz"):
        file.unlink()
    data = SliceEmbeddingDataModule(
        CTRateDataModule(tree.root, preset=PRESET, check_files=False, val_fraction=0.3), folder, batch_size=2
    )
    data.setup("fit")
    names = set()
    for batch in (*data.train_dataloader(), *data.val_dataloader()):
        names.update(batch["volume_id"])
        assert "image" not in batch
        assert batch["labels"].shape[1] == 18
        if volume["volume_id"] in batch["volume_id"]:
            row = batch["volume_id"].index(volume["volume_id"])
            n = volume["image"].shape[1]
            have = batch["features"]
            torch.testing.assert_close(have.levels[0][row, :n], want.levels[0][0], atol=2e-3, rtol=2e-3)
            torch.testing.assert_close(have.slice_position_mm[row, :n], want.slice_position_mm[0])
    assert names == {scans.record(index)["volume_id"] for index in range(len(scans))}
    other = SliceEmbeddingDataModule(CTRateDataModule(tree.root, preset="phantom", check_files=False), folder)
    with pytest.raises(ConfigError, match="preset 'small'"):
        other.setup("fit")


def test_an_encoder_in_half_precision_is_fed_in_half_precision(
    tree: Any, tmp_path: Path, embedder: SliceEmbedder
) -> None:
    scans = CTRateDataset(tree.root, "valid", preset=PRESET)
    found = {}
    for model in (embedder, copy.deepcopy(embedder).bfloat16()):
        cache = FeatureCache(tmp_path / "embeddings", model_identity(model), PRESET.to_config(), dtype="float32")
        precompute(model, scans, cache, PRESET, progress=False)
        found[next(model.parameters()).dtype] = SliceEmbeddingDataset(scans, cache)[0]["levels"][0]
    torch.testing.assert_close(found[torch.bfloat16], found[torch.float32], atol=0.1, rtol=0.05)
    assert not torch.equal(found[torch.bfloat16], found[torch.float32])


def test_slices_are_drawn_from_many_volumes(tmp_path: Path) -> None:
    dataset = made_up(tmp_path, [40, 3, 17, 60])
    found = sample_slices(dataset, 25, per_volume=10, seed=1)
    assert found.shape == (25, WIDTH)
    stored = torch.cat([dataset[index]["levels"][0] for index in range(4)])
    assert (found.unsqueeze(1) == stored).all(-1).sum(1).tolist() == [1] * 25
    assert torch.equal(found, sample_slices(dataset, 25, per_volume=10, seed=1))
    assert not torch.equal(found, sample_slices(dataset, 25, per_volume=10, seed=2))
    assert len(sample_slices(dataset, 500, per_volume=10)) == 33
    with pytest.raises(DatasetError, match="no volume"):
        sample_slices(SliceEmbeddingDataset(Scans(0), dataset.cache))


def test_features_that_are_no_slice_embeddings_are_refused(tmp_path: Path) -> None:
    dataset = made_up(tmp_path, [4])
    dataset.cache.store(
        "v0", Features([torch.ones(1, 8, WIDTH)], [(4, 2, 1)], padding_mask=torch.zeros(1, 4, dtype=torch.bool))
    )
    with pytest.raises(DatasetError, match="no slice embeddings"):
        _ = dataset[0]
    dataset.cache.store("v0", Features([torch.ones(1, 4, WIDTH)], [(4, 1, 1)], padding_mask=torch.ones(1, 4).bool()))
    with pytest.raises(DatasetError, match="has no slice"):
        _ = dataset[0]


def test_a_folder_says_what_it_holds(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "digest", PRESET.to_config(), dtype="bfloat16", levels=[0])
    write_manifest(cache, tmp_path, encoder="somewhere")
    write_manifest(cache, tmp_path)
    again = open_features(tmp_path)
    assert again.spec == cache.spec
    assert again.path("v0") == cache.path("v0")
    with pytest.raises(CheckpointError, match="another dtype, model"):
        write_manifest(FeatureCache(tmp_path, "other", PRESET.to_config(), levels=[0]), tmp_path)


@pytest.mark.parametrize("text", [None, "{", "[]", '{"model": "a"}'])
def test_a_folder_without_a_manifest_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "features.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"features\.json"):
        open_features(tmp_path)
