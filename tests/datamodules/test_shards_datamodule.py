"""`ShardDataModule` beside `CTRateDataModule`: the same batches, and resuming in mid-epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

pytest.importorskip("litdata", reason="the extra [stream] is not installed")

from ct_vlm.datamodules import CTRateDataModule, ShardDataModule
from ct_vlm.datasets import CTRateDataset, write_shards
from ct_vlm.errors import ConfigError
from ct_vlm.transforms import CTPreset

if TYPE_CHECKING:
    from pathlib import Path

SMALL = CTPreset("small", size=(4, 5, 6), windows=((-1000, -200), (-160, 240)))


@pytest.fixture
def shards(tree: Any, tmp_path: Path) -> Path:
    for split in ("train", "valid"):
        write_shards(CTRateDataset(tree.root, split, preset=SMALL), tmp_path / "shards" / split, progress=False)
    return tmp_path / "shards"


def plain(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value.tolist() if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


def batches(data: Any, stage: str, epoch: int = 0) -> list[dict[str, Any]]:
    data.setup({"val": "fit", "train": "fit"}.get(stage, stage))
    loader = {
        "train": data.train_dataloader,
        "val": data.val_dataloader,
        "test": data.test_dataloader,
        "predict": data.predict_dataloader,
    }[stage]()
    loader.set_epoch(epoch)
    return [plain(data.on_after_batch_transfer(batch, 0)) for batch in loader]


@pytest.mark.parametrize("policy", ["all", "random"])
@pytest.mark.parametrize("stage", ["train", "val", "test", "predict"])
def test_batches_are_those_of_the_folder(tree: Any, shards: Path, policy: str, stage: str) -> None:
    settings: dict[str, Any] = {
        "preset": SMALL,
        "batch_size": 2,
        "val_fraction": 0.3,
        "seed": 5,
        "recon_policy": policy,
        "balance": 0.5 if stage == "train" else 0.0,
    }
    for epoch in (0, 3):
        found = batches(ShardDataModule(shards, **settings), stage, epoch)
        assert found == batches(CTRateDataModule(tree.root, **settings), stage, epoch)
    assert len(found[0]["image"][0]) == 2
    assert ("report" in found[0]) == (stage != "predict")


@pytest.mark.parametrize("workers", [0, 2])
def test_goes_on_in_mid_epoch(shards: Path, workers: int) -> None:
    def module() -> ShardDataModule:
        data = ShardDataModule(shards, SMALL, batch_size=1, num_workers=workers, val_fraction=0, seed=1)
        data.setup("fit")
        return data

    whole = module().train_dataloader()
    whole.set_epoch(2)
    expected = [plain(batch) for batch in whole]
    first = module().train_dataloader()
    first.set_epoch(2)
    running = iter(first)
    seen = [plain(next(running)) for _ in range(3)]
    state = first.state_dict()
    running.close()
    second = module().train_dataloader()
    second.load_state_dict(state)
    assert seen + [plain(batch) for batch in second] == expected


def test_processes_share_the_samples(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for rank in (0, 1):
        data = ShardDataModule(shards, SMALL, val_fraction=0, recon_policy="first")
        monkeypatch.setattr(data, "_shard", lambda rank=rank: (2, rank))
        data.setup()
        seen.append([batch["volume_id"] for batch in data.train_dataloader()])
    assert len(seen[0]) == len(seen[1]) == 4
    assert {name for part in seen for names in part for name in names} == {
        f"train_{patient}_{scan}_1" for patient, scan in [(n, "a") for n in range(1, 7)] + [(1, "b")]
    }


def test_another_preset_is_refused(shards: Path) -> None:
    with pytest.raises(ConfigError, match="written with the preset 'small'"):
        ShardDataModule(shards, "uvlm").setup("fit")
