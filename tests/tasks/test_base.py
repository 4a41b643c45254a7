from __future__ import annotations

import json
from datetime import timedelta

import pytest
import torch
from lightning import Trainer
from torch import nn

from ct_vlm.component import Component
from ct_vlm.decoders import train_bpe_tokenizer
from ct_vlm.encoders import Encoder
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.features import Features
from ct_vlm.models import ClassificationModel, u_vlm, u_vlm_encoder
from ct_vlm.modules import QueryClassificationHead
from ct_vlm.tasks import ClassificationLightningModule, OptimizerConfig, ReportLightningModule, TrainingTask

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")

TEXTS = ["The heart size is normal.", "Pleural effusion on the left side."]


class NormEncoder(Encoder):
    """An encoder with running statistics and dropout."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.in_channels, self.level_dims = 1, (width,)
        self.conv = nn.Conv3d(1, width, 2, 2)
        self.norm = nn.BatchNorm3d(width)
        self.dropout = nn.Dropout(0.5)

    def forward(self, image):
        return Features.from_maps([self.dropout(self.norm(self.conv(image)))])


class Samples(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        torch.manual_seed(int(index))
        return {"image": torch.randn(1, 4, 4, 4), "labels": torch.tensor([1.0, 0.0])}


class OwnReport(ReportLightningModule):
    """A report task with a constructor of its own."""

    def __init__(self, vocab_size: int) -> None:
        model = u_vlm("tiny", tokenizer=train_bpe_tokenizer(TEXTS * 2, vocab_size))
        super().__init__(model.encoder, list(model.connectors), model.decoder, preset="phantom")


class OwnClassifier(TrainingTask, ClassificationModel):
    """A task from the mixin whose constructor takes neither optimizer nor earlier checkpoints."""

    def __init__(self, num_labels: int) -> None:
        encoder = u_vlm_encoder("tiny")
        super().__init__(encoder, QueryClassificationHead(encoder.level_dims, num_labels))
        self.set_training(OptimizerConfig(lr=0.5))


def quiet_trainer(**options) -> Trainer:
    return Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        **options,
    )


def classifier(**options) -> ClassificationLightningModule:
    torch.manual_seed(0)
    head = QueryClassificationHead((4,), 2, num_heads=2)
    return ClassificationLightningModule(NormEncoder(), head, **options)


def test_predicted_probabilities_are_records_by_label():
    task = classifier(label_names=("Emphysema", "Lung nodule")).eval()
    image = torch.randn(2, 1, 4, 4, 4)
    first, second = task.predict_step({"image": image, "volume_id": ["a", "b"], "patient_id": ["p", "q"]}, 0)
    assert (first["volume_id"], second["patient_id"]) == ("a", "q")
    with torch.no_grad():
        wanted = task(image).sigmoid()
    assert [first["Emphysema"], first["Lung nodule"]] == pytest.approx(wanted[0].tolist())
    assert json.loads(json.dumps(second)) == second
    assert [row["id"] for row in task.predict_step({"image": image}, 3)] == ["0-000003-0000", "0-000003-0001"]


@pytest.mark.parametrize("validates", [False, True])
def test_frozen_parts_keep_statistics_and_draw_nothing_in_a_fit(validates):
    task = classifier(frozen=("encoder",))
    before = {key: value.clone() for key, value in task.encoder.state_dict().items()}
    modes = []
    task.encoder.register_forward_hook(lambda module, *_: modes.append([m.training for m in module.modules()]))
    loader = torch.utils.data.DataLoader(Samples(), batch_size=2)
    quiet_trainer(max_epochs=2).fit(task, loader, loader if validates else None)
    assert len(modes) >= 4
    assert not any(any(mode) for mode in modes)
    assert all(value.equal(before[key]) for key, value in task.encoder.state_dict().items())
    assert task.head.training


def test_parts_that_train_update_their_statistics():
    task = classifier()
    quiet_trainer(max_epochs=1).fit(task, torch.utils.data.DataLoader(Samples(), batch_size=2))
    assert task.encoder.norm.num_batches_tracked == 2


@pytest.mark.parametrize("task", [OwnReport(300), OwnClassifier(3)], ids=lambda task: type(task).__name__)
def test_tasks_with_their_own_constructor_round_trip(task, tmp_path):
    again = Component.from_pretrained(task.save_pretrained(tmp_path))
    assert type(again) is type(task)
    assert again.to_config() == task.to_config()
    assert len(task.to_config()["init_args"]) == 1
    assert again.optimizer == task.optimizer


def test_run_that_only_time_ends_trains_at_a_constant_rate():
    task = classifier(optimizer=OptimizerConfig(schedule="constant", lr=0.25))
    loader = torch.utils.data.DataLoader(Samples(), batch_size=4)
    trainer = quiet_trainer(max_epochs=-1, max_time=timedelta(seconds=0.2))
    trainer.fit(task, loader)
    assert trainer.global_step > 0
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.25
    with pytest.raises(ConfigError, match="max_steps"):
        quiet_trainer(max_epochs=-1, max_time=timedelta(seconds=1)).fit(classifier(), loader)


class Broken(Samples):
    """The second volume has a NaN voxel."""

    def __getitem__(self, index):
        item = {**super().__getitem__(index), "volume_id": f"v{int(index)}"}
        if index == 1:
            item["image"][0, 0, 0, 0] = float("nan")
        return item


@pytest.mark.parametrize("stage", ["fit", "validate"])
def test_nan_volume_stops_the_run_and_is_named(stage):
    loader = torch.utils.data.DataLoader(Broken(), batch_size=4)
    with pytest.raises(DatasetError, match=r"'v0', 'v1', 'v2', 'v3'.*NaN.*\['v1'\] hold NaN"):
        getattr(quiet_trainer(max_epochs=1), stage)(classifier(), loader)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"width": 3}, "width"), ({"strict": False}, "strict"), ({"hparams_file": "a.yaml"}, "hparams_file")],
)
def test_arguments_that_loading_would_ignore_are_refused(tmp_path, arguments, named):
    with pytest.raises(ConfigError, match=named):
        ReportLightningModule.load_from_checkpoint(tmp_path / "x.ckpt", **arguments)


def test_arguments_of_lightning_that_change_nothing_are_accepted(tmp_path):
    task = OwnClassifier(3)
    checkpoint = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "x.ckpt")
    again = OwnClassifier.load_from_checkpoint(
        tmp_path / "x.ckpt", "cpu", strict=True, weights_only=False, hparams_file=None
    )
    assert again.head.queries.equal(task.head.queries)


class Picky(OwnClassifier):
    """A task with an argument that no config can hold."""

    def __init__(self, function: object) -> None:
        super().__init__(3)


def test_argument_that_no_checkpoint_can_hold_stops_the_run_before_training(tmp_path):
    task = Picky(print)
    task.training_step = lambda *_: pytest.fail("training began")
    trainer = Trainer(
        accelerator="cpu", devices=1, logger=False, default_root_dir=tmp_path, enable_progress_bar=False, max_steps=1
    )
    with pytest.raises(ConfigError, match=r"Picky\.function"):
        trainer.fit(task, torch.utils.data.DataLoader(Samples()))
