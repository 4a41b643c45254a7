"""`ct-vlm embed`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from ct_vlm.cli import main
from ct_vlm.datamodules import CTRateDataModule, SliceEmbeddingDataModule
from ct_vlm.encoders import SliceEncoder
from ct_vlm.transforms import get_preset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def command(tree: Path, tmp_path: Path) -> Callable[..., int]:
    """Calls the command with a tiny encoder over a tree of phantoms."""
    torch.manual_seed(0)
    config = {"model_type": "dinov2", "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 16}
    encoder = SliceEncoder({**config, "hidden_size": 8, "image_size": 64}, layers=(1,), in_channels=3)
    folder = encoder.save_pretrained(tmp_path / "encoder")

    def call(*arguments: str) -> int:
        fixed = ["--encoder", str(folder), "--root", str(tree), "--out", str(tmp_path / "out"), "--preset", "phantom"]
        return main(["embed", *fixed, "--no-progress", *arguments])

    return call


def test_embeds_once_and_a_data_module_reads_it(
    command: Callable[..., int], tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command() == 0
    said = capsys.readouterr().out
    assert "train: " in said
    assert "valid: " in said
    assert command("--split", "valid") == 0
    assert "valid: 0 volumes embedded" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "out" / "features.json").read_text())
    assert manifest["dtype"] == "float16"
    assert manifest["notes"]["max_slices"] == 600
    data = SliceEmbeddingDataModule(CTRateDataModule(tree, preset="phantom", check_files=False), tmp_path / "out")
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    assert batch["features"].levels[0].shape[1:] == (64, 8)
    assert batch["features"].slice_position_mm is not None


def test_another_encoder_needs_another_folder(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--split", "valid") == 0
    assert command("--split", "valid", "--max-slices", "10") == 1
    assert "made with another model" in capsys.readouterr().err


def test_shards_share_the_work(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    made = []
    for shard in ("1/2", "2/2"):
        assert command("--split", "train", "--shard", shard) == 0
        made.append(int(capsys.readouterr().out.split("train: ")[1].split()[0]))
    assert command("--split", "train") == 0
    assert f"train: 0 volumes embedded, {sum(made)} present" in capsys.readouterr().out
    assert min(made) > 0
    assert command("--split", "valid", "--shard", "9/9") == 0  # there are fewer patients
    assert "valid: 0 volumes embedded, 0 present" in capsys.readouterr().out


def test_a_preset_may_come_from_a_file(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "preset.json"
    file.write_text(json.dumps(replace(get_preset("phantom"), name="own", size=(None, 32, 32)).to_config()))
    assert command("--split", "valid", "--preset", str(file)) == 0
    assert json.loads((tmp_path / "out" / "features.json").read_text())["preset"]["init_args"]["name"] == "own"
    file.write_text("{}")
    assert command("--preset", str(file)) == 2
    assert "holds no preset" in capsys.readouterr().err


def test_a_model_without_a_slice_encoder_is_refused(
    checkpoint: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--encoder", str(checkpoint), "--root", str(tree), "--out", str(tmp_path / "out")]
    assert main(["embed", *arguments]) == 1
    assert "no slice encoder" in capsys.readouterr().err


def test_visual_tokens_of_a_video_language_model_are_kept_to_the_bit(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ct_vlm.cache import open_features
    from ct_vlm.datamodules import CachedFeatureDataModule
    from ct_vlm.datasets import CTRateDataset
    from ct_vlm.encoders import VideoLMEncoder
    from ct_vlm.encoders.video_lm import default_inputs
    from ct_vlm.models import write_tiny_video_lm
    from ct_vlm.transforms import FrameSampling

    folder = write_tiny_video_lm(tmp_path / "lm", "qwen2_5_vl", ["Clear lungs."], vocab_size=270)
    out = tmp_path / "tokens"
    fixed = ["embed", "--root", str(tree), "--out", str(out), "--preset", "phantom", "--split", "valid"]
    assert main([*fixed, "--encoder", str(folder), "--frames", "4", "--no-progress"]) == 0
    assert "valid: " in capsys.readouterr().out
    assert open_features(out).spec["dtype"] == "float32"
    data = CachedFeatureDataModule(CTRateDataModule(tree, preset="phantom", check_files=False), out)
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    encoder = VideoLMEncoder(str(folder), default_inputs(folder, FrameSampling("uniform", num_frames=4)))
    preset = get_preset("phantom")
    dataset = CTRateDataset(tree, "valid", preset=preset, text=None, labels=False)
    images = {item["volume_id"]: item["image"] for item in (dataset[i] for i in range(len(dataset)))}
    assert batch["features"].grids == [(2, 4, 4)]
    for name, tokens in zip(batch["volume_id"], batch["features"].levels[0], strict=True):
        assert torch.equal(encoder(preset.window(images[name][None])).levels[0][0], tokens)

    # the same tower out of a checkpoint of this library goes on where that run ended
    kept = encoder.save_pretrained(tmp_path / "kept")
    assert main([*fixed, "--encoder", str(kept), "--no-progress"]) == 0
    assert "valid: 0 volumes embedded" in capsys.readouterr().out
