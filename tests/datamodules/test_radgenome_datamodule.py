"""`RadGenomeDataModule` with a real Trainer: splits, flags in batches, questions, configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning
import pytest
import torch
from jsonargparse import ArgumentParser

from ct_vlm.datamodules import RadGenomeDataModule
from ct_vlm.datasets import RadGenomeVQA
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.phantoms import PhantomManifest, write_radgenome
from ct_vlm.transforms import CTPreset

if TYPE_CHECKING:
    from pathlib import Path

SMALL = CTPreset("small", size=(6, 8, 10), windows=((-1000, -200), (-160, 240)))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> PhantomManifest:
    root = tmp_path_factory.mktemp("radgenome") / "tree"
    return write_radgenome(root, 10, shape=(12, 14, 16), seed=1, second_scan=0.5, workers=0)


class Recorder(lightning.LightningModule):
    """Learns nothing and writes down what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list[dict[str, Any]]] = {"train": [], "val": [], "test": [], "predict": []}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        self.seen["train"].append(batch)
        return self.weight * batch["image"].mean()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.seen["val"].append(batch)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.seen["test"].append(batch)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[str]:
        self.seen["predict"].append(batch)
        return batch["volume_id"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(folder: Path) -> lightning.Trainer:
    return lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip


def test_fit_test_and_predict_see_their_patients(tree: PhantomManifest, tmp_path: Path) -> None:
    labels = [tree.root / f"labels/{split}_predicted_labels.csv" for split in ("train", "valid")]
    data = RadGenomeDataModule(
        tree.root, "six", SMALL, batch_size=2, val_fraction=0.2, labels=labels, cache_dir=tmp_path / "cache"
    )
    module, run = Recorder(), trainer(tmp_path)
    run.fit(module, data)
    run.test(module, data, verbose=False)
    run.predict(module, data)
    ids = {part: {name for batch in batches for name in batch["patient_id"]} for part, batches in module.seen.items()}
    assert ids["train"].isdisjoint(ids["val"])
    for split, seen in (("train", ids["train"] | ids["val"]), ("valid", ids["test"]), ("valid", ids["predict"])):
        assert seen == {v.name.rsplit("_", 2)[0] for v in tree.volumes if v.split == split}
    batch = module.seen["train"][0]
    assert batch["image"].shape == (2, 2, 6, 8, 10)
    assert batch["image"].is_floating_point()
    assert batch["region_masks"].shape == (2, 6, 6, 8, 10)
    assert batch["region_masks"].dtype == torch.uint8
    for key in ("region_present", "region_mask_found", "region_text_present"):
        assert batch[key].shape == (2, 6)
        assert batch[key].dtype == torch.bool
    assert batch["labels"].shape == (2, 18)
    assert set(module.seen["predict"][0]).isdisjoint({"report", "region_reports", "labels"})


def test_questions_are_the_prompt_and_answers_the_report(tree: PhantomManifest) -> None:
    data = RadGenomeDataModule(tree.root, preset=SMALL, tasks=["presence"], val_fraction=0.3, batch_size=3)
    data.setup("fit")
    assert isinstance(data.datasets["train"], RadGenomeVQA)
    batch = next(iter(data.train_dataloader()))
    assert all(prompt.startswith("Is there ") for prompt in batch["prompt"])
    assert set(batch["report"]) <= {"Yes.", "No."}
    train, val = (set(data.datasets[part].patient_ids()) for part in ("train", "val"))
    assert train.isdisjoint(val)


def test_prediction_needs_no_tables(tree: PhantomManifest, tmp_path: Path) -> None:
    data = RadGenomeDataModule(tree.root, preset=SMALL, predict_split="train")
    data.setup("predict")
    assert len(data.datasets["predict"]) == sum(v.split == "train" for v in tree.volumes)
    with pytest.raises(ConfigError, match="'train' or 'valid'"):
        RadGenomeDataModule(tree.root, predict_split="test")
    with pytest.raises(DatasetError, match="no folder"):
        RadGenomeDataModule(tmp_path / "nothing").setup("fit")


def test_rare_labels_can_be_drawn_more_often(tree: PhantomManifest) -> None:
    labels = tree.root / "labels/train_predicted_labels.csv"
    data = RadGenomeDataModule(tree.root, preset=SMALL, labels=labels, balance=1.0, val_fraction=0)
    data.setup("fit")
    assert next(iter(data.train_dataloader()))["labels"].shape == (1, 18)


def test_it_is_built_from_a_configuration(tree: PhantomManifest) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(RadGenomeDataModule, "data")
    regions = {"lungs": ["left lung", "right lung"], "heart": "heart"}
    settings = {"root": str(tree.root), "regions": regions, "mask_level": "anatomy", "tasks": ["report", "size"]}
    settings["batch_size"] = 3  # of the base class
    config = parser.parse_object({"data": {"class_path": "RadGenomeDataModule", "init_args": settings}})
    data = parser.instantiate_classes(config).data
    assert (data.batch_size, data.tasks) == (3, ["report", "size"])
    data.tasks = None
    data.setup("test")
    assert data.datasets["test"].regions == ("lungs", "heart")
