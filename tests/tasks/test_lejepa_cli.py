"""Pretraining through the command line, from the shipped YAML file, and where its checkpoint goes next."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml

from ct_vlm.cli.main import main
from ct_vlm.component import Component
from ct_vlm.encoders import SliceEncoder
from ct_vlm.encoders.lejepa_vit import BACKBONES
from ct_vlm.tasks import load_task
from ct_vlm.tasks.handover import hand_over

CONFIG = Path(__file__).resolve().parents[2] / "examples" / "configs" / "ker_vljepa_0_ssl.yaml"


def test_shipped_configuration_trains_the_tiny_encoder(phantoms, tmp_path):
    arguments = [
        *("fit", "--config", str(CONFIG), "--data.init_args.root", str(phantoms)),
        *("--data.init_args.cache_dir", str(tmp_path / "cache"), "--data.init_args.batch_size", "4"),
        *("--data.init_args.slabs_per_volume", "2", "--trainer.default_root_dir", str(tmp_path)),
        *("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.max_steps", "2"),
        *("--trainer.logger", "false", "--trainer.enable_progress_bar", "false", "--trainer.limit_val_batches", "1"),
    ]
    assert main(arguments) == 0
    checkpoint = next(iter(sorted(tmp_path.rglob("*.ckpt"))))
    trained = load_task(checkpoint).encoder
    # the size is the one that the later phases are built with
    phase = yaml.safe_load((CONFIG.parent / "ker_vljepa_1.yaml").read_text())["model"]["init_args"]
    settings = phase["encoder"]["init_args"]["encoder"]["init_args"]
    assert settings["backbone"] == {**BACKBONES["tiny"], "in_chans": 1}
    hand_over(holder := Holder(SliceEncoder(**settings)), {"encoder": str(checkpoint)})
    side = settings["backbone"]["img_size"]
    image = torch.rand(1, 1, 2, side, side)
    expected = trained.eval().encode(image)[1][-1]
    torch.testing.assert_close(holder.encoder.encode(image)[1][-1], expected)


class Holder(Component):
    """A model with a slice encoder."""

    def __init__(self, encoder: Component) -> None:
        super().__init__()
        self.encoder = encoder
