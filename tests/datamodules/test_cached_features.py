"""Training from features on disk is training with the frozen encoder, without its voxels."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
import torch

from ct_vlm.cache import FeatureCache, model_identity
from ct_vlm.datamodules import (
    CachedFeatureDataset,
    FeatureDataModule,
    VolumeDataModule,
    precompute,
)
from ct_vlm.datasets import CTRateDataset
from ct_vlm.decoders import train_bpe_tokenizer
from ct_vlm.errors import CheckpointError, DatasetError
from ct_vlm.models import u_vlm
from ct_vlm.tasks import ReportLightningModule
from ct_vlm.transforms import get_preset

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log:UserWarning")

PRESET = replace(get_preset("phantom"), name="small", spacing=None, size=(8, 16, 16))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_bpe_tokenizer(["Findings of train_1_a_1.", "Findings of train_2_a_1."] * 2, 300)


@pytest.fixture
def task(tokenizer: Any) -> ReportLightningModule:
    torch.manual_seed(0)
    model = u_vlm("tiny", tokenizer=tokenizer)
    model.encoder.freeze()
    return ReportLightningModule.from_model(model)


def scans(tree: Any, **options: Any) -> CTRateDataset:
    return CTRateDataset(tree.root, preset=PRESET, **options)


def cache_of(folder: Path, encoder: nn.Module, **options: Any) -> FeatureCache:
    return FeatureCache(folder, model_identity(encoder), PRESET.to_config(), **{"dtype": "float32", **options})


def losses(task: ReportLightningModule, batches: Any) -> list[float]:
    """Train connector and decoder for three steps and return the losses."""
    task.train()
    task.encoder.eval()
    optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], 1e-3)
    seen = []
    for number, batch in enumerate(islice(batches, 3)):
        loss = task.training_step(batch, number)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    return seen


def test_losses_are_those_of_the_frozen_encoder(
    tree: Any, tmp_path: Path, task: ReportLightningModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = VolumeDataModule(PRESET, batch_size=1, seed=3)
    data.datasets = {"train": scans(tree)}
    state = {name: value.clone() for name, value in task.state_dict().items()}
    cache = cache_of(tmp_path / "cache", task.encoder)
    result = precompute(task.encoder, data.datasets["train"], cache, PRESET, progress=False)
    assert len(result.made) == 8
    inline = losses(task, data.train_dataloader())
    for file in tree.root.rglob("*.nii.gz"):
        file.unlink()
    cached = CachedFeatureDataset(scans(tree, check_files=False), cache)
    module = FeatureDataModule({"train": cached}, batch_size=1, seed=3)
    task.load_state_dict(state)
    monkeypatch.setattr(task.encoder, "forward", None)  # it is not called
    assert losses(task, module.train_dataloader()) == inline
    assert len(set(inline)) == 3


def test_batches_hold_all_but_the_image(tree: Any, tmp_path: Path, task: ReportLightningModule) -> None:
    dataset = scans(tree)
    cache = cache_of(tmp_path / "cache", task.encoder, dtype="bfloat16")
    precompute(task.encoder, dataset, cache, PRESET, batch_size=3, progress=False)
    batch = next(iter(FeatureDataModule({"val": CachedFeatureDataset(dataset, cache)}, batch_size=4).val_dataloader()))
    data = VolumeDataModule(PRESET, batch_size=4)
    data.datasets = {"val": dataset}
    want = next(iter(data.loader("val")))
    assert set(batch) - {"features"} == set(want) - {"image"}
    assert batch["spacing"].equal(want["spacing"])
    assert batch["report"] == want["report"]
    expected = task.encoder(PRESET.window(want["image"]))
    for have, level in zip(batch["features"].levels, expected.levels, strict=True):
        assert have.dtype == torch.float32
        torch.testing.assert_close(have, level, atol=1e-2, rtol=2**-7)  # bfloat16 has 8 bits


def test_an_interrupted_run_goes_on(
    tree: Any, tmp_path: Path, task: ReportLightningModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, stored = cache_of(tmp_path / "cache", task.encoder), []
    original = FeatureCache.store

    def die_after_three(self: FeatureCache, sample: str, *args: Any, **kwargs: Any) -> bool:
        if len(stored) == 3:
            raise KeyboardInterrupt
        stored.append(sample)
        return original(self, sample, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureCache, "store", die_after_three)
        task.encoder.train()
        with pytest.raises(KeyboardInterrupt):
            precompute(task.encoder, scans(tree), cache, PRESET, progress=False)
        assert task.encoder.training
    result = precompute(task.encoder, scans(tree), cache, PRESET, progress=False)
    assert result.present == sorted(stored)
    assert len(result.made) == 5
    path = tree.path("train_4_a_1")
    path.touch()  # another time of change: it may hold other voxels
    again = precompute(task.encoder, scans(tree), cache, PRESET, progress=False)
    assert again.made == ["train_4_a_1"]


def test_every_reconstruction_is_encoded_and_drawn(tree: Any, tmp_path: Path, task: ReportLightningModule) -> None:
    dataset = scans(tree, recon_policy="random", augment=lambda item, seed: {**item, "image": item["image"] * 0})
    cache = cache_of(tmp_path / "cache", task.encoder)
    result = precompute(task.encoder, dataset, cache, PRESET, progress=False)
    assert {"train_1_a_1", "train_1_a_2"} <= set(result.made)
    plain = cache_of(tmp_path / "plain", task.encoder)
    precompute(task.encoder, scans(tree), plain, PRESET, progress=False)
    assert cache.load("train_1_a_1").levels[0].equal(plain.load("train_1_a_1").levels[0])
    item = CachedFeatureDataset(dataset, cache)[0]
    assert item["levels"][0].equal(plain.load(item["volume_id"]).levels[0][0])


def test_mismatches_are_named(
    tree: Any, tmp_path: Path, task: ReportLightningModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = cache_of(tmp_path / "cache", task.encoder)
    with pytest.raises(DatasetError, match=r"no cached features of `train_1_a_1`.*precompute"):
        CachedFeatureDataset(scans(tree), cache)
    with pytest.raises(CheckpointError, match="another preset"):
        precompute(task.encoder, scans(tree), cache, replace(PRESET, windows=((0, 1),) * 3), progress=False)
    with torch.no_grad():
        next(task.encoder.parameters()).add_(1)
    with pytest.raises(CheckpointError, match="another encoder"):
        precompute(task.encoder, scans(tree), cache, PRESET, progress=False)
    cache = cache_of(tmp_path / "cache", task.encoder)
    monkeypatch.setattr(cache.arrays, "_writable", False)
    with pytest.raises(DatasetError, match=r"of `train_1_a_1` cannot be written"):
        precompute(task.encoder, scans(tree), cache, PRESET, progress=False)


def test_features_of_another_grid_are_named(tree: Any, tmp_path: Path, task: ReportLightningModule) -> None:
    cache = cache_of(tmp_path / "cache", task.encoder)
    dataset = scans(tree)
    precompute(task.encoder, dataset, cache, PRESET, progress=False)
    wide = task.encoder(torch.zeros(1, 3, 8, 16, 32))
    cache.store("train_2_a_1", wide)
    items = CachedFeatureDataset(dataset, cache)
    place = next(i for i in range(len(dataset)) if dataset.record(i)["volume_id"] == "train_2_a_1")
    with pytest.raises(DatasetError, match=r"`train_2_a_1` has features of the grids"):
        _ = items[place]
