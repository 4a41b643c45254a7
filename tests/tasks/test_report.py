from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from lightning import Trainer

from ct_vlm.datamodules import VolumeDataModule
from ct_vlm.decoders import train_bpe_tokenizer
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.models import u_vlm
from ct_vlm.tasks import ReportLightningModule
from ct_vlm.transforms import get_preset

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")

TEXTS = ["The heart size is normal.", "Pleural effusion on the left side."]
COMMANDS = ("fit", "validate", "test", "predict")


class Scans(torch.utils.data.Dataset):
    """Noise in HU with a report."""

    def __init__(self, report: str = TEXTS[0]) -> None:
        self.report = report

    def __len__(self):
        return 2

    def __getitem__(self, index):
        torch.manual_seed(int(index))
        image = torch.randint(-1000, 1000, (1, 8, 16, 16), dtype=torch.int16)
        return {"image": image, "report": self.report, "volume_id": f"v{int(index)}"}


def task(**options) -> ReportLightningModule:
    torch.manual_seed(0)
    model = u_vlm("tiny", tokenizer=train_bpe_tokenizer(TEXTS * 2, 300))
    return ReportLightningModule.from_model(model, generation={"max_new_tokens": 4}, **options)


def data(preset="phantom", **options) -> VolumeDataModule:
    module = VolumeDataModule(preset, batch_size=2)
    module.datasets = dict.fromkeys(("train", "val", "test", "predict"), Scans(**options))
    return module


def trainer(**options) -> Trainer:
    return Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        **options,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_data_of_another_preset_is_refused(command):
    other = replace(get_preset("phantom"), name="bones", windows=((-1000, 0), (0, 500), (500, 1400)))
    with pytest.raises(ConfigError, match=r"'phantom'.*'bones'.*windows"):
        getattr(trainer(), command)(task(), datamodule=data(other))


def test_preset_of_another_name_with_the_same_values_is_accepted():
    same = replace(get_preset("phantom"), name="mine", notes="a copy")
    assert len(trainer().predict(task(), datamodule=data(same))[0]) == 2


def test_nan_loss_of_training_and_validation_names_the_volumes():
    model = task()
    batch = {"image": torch.rand(2, 3, 8, 16, 16), "report": TEXTS, "volume_id": ["a", "b"]}
    batch["image"][1, 0, 0, 0, 0] = float("nan")
    for step in (model.training_step, model.validation_step):
        with pytest.raises(DatasetError, match=r"'a', 'b'.*\['b'\] hold NaN"):
            step(batch, 0)


def test_nan_in_finite_volumes_is_not_blamed_on_them():
    model = task()
    with torch.no_grad():
        model.connectors[0].projectors["3"].norm_out.weight.fill_(float("nan"))
    with pytest.raises(DatasetError, match="volumes are finite"):
        model.training_step({"image": torch.rand(1, 3, 8, 16, 16), "report": TEXTS[:1]}, 0)


def test_generation_settings_of_the_task_are_the_defaults_of_generate(monkeypatch):
    model = task()
    seen = []
    monkeypatch.setattr(
        type(model.decoder), "generate", lambda self, prompts, visual, **options: seen.append(options) or prompts
    )
    image = torch.rand(3, 8, 16, 16)
    model.generate(image)
    model.generate(image, max_new_tokens=7, num_beams=2)
    model.predict_step({"image": image[None]}, 0)
    assert seen == [{"max_new_tokens": 4}, {"max_new_tokens": 7, "num_beams": 2}, {"max_new_tokens": 4}]


@pytest.mark.parametrize("command", COMMANDS)
def test_bf16_true_runs_every_command(command):
    run = trainer(precision="bf16-true", limit_val_batches=1)
    getattr(run, command)(task(), datamodule=data())
    assert run.state.finished
