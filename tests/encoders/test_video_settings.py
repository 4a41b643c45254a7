"""Settings of video inputs from checkpoints, against the processors' own classes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from ct_vlm.encoders import InternVLVideoInputs, QwenVideoInputs, read_video_inputs
from ct_vlm.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def write(folder: Path, name: str, values: Any) -> None:
    (folder / name).write_text(json.dumps(values))


def film(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, 3, 4, 70, 100), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl"])
def test_saved_processors_give_inputs_of_the_same_numbers(tmp_path: Path, kind: str) -> None:
    from transformers import Qwen2VLVideoProcessor, Qwen3VLVideoProcessor

    cls = Qwen2VLVideoProcessor if kind == "qwen2_5_vl" else Qwen3VLVideoProcessor
    processor = cls(size={"shortest_edge": 2048, "longest_edge": 20_000}, cap_pixels_per_frame=False, patch_size=12)
    processor.save_pretrained(tmp_path)
    write(tmp_path, "config.json", {"model_type": kind, "vision_config": {"patch_size": 99}})
    inputs = read_video_inputs(tmp_path, "all")
    expected = processor(videos=[film()[0].transpose(0, 1)], return_tensors="pt", do_sample_frames=False)
    for name, values in inputs(film()).items():
        assert torch.equal(values, expected[name])


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl"])
def test_checkpoints_without_processor_files_take_the_classes_defaults(tmp_path: Path, kind: str) -> None:
    from transformers import Qwen2VLVideoProcessor, Qwen3VLVideoProcessor

    processor = (Qwen2VLVideoProcessor if kind == "qwen2_5_vl" else Qwen3VLVideoProcessor)(cap_pixels_per_frame=False)
    vision = {"patch_size": processor.patch_size, "spatial_merge_size": 2, "temporal_patch_size": [2, 2]}
    write(tmp_path, "config.json", {"model_type": kind, "vision_config": vision})
    expected = processor(videos=[film()[0].transpose(0, 1)], return_tensors="pt", do_sample_frames=False)
    for name, values in read_video_inputs(tmp_path, "all")(film()).items():
        assert torch.equal(values, expected[name])


def test_qwen_settings_of_an_image_processor_file_are_used(tmp_path: Path) -> None:
    write(tmp_path, "config.json", {"model_type": "qwen2_5_vl"})
    values = {"min_pixels": 3136, "max_pixels": 12_845_056, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
    write(tmp_path, "preprocessor_config.json", values)
    found = read_video_inputs(tmp_path)
    assert found == QwenVideoInputs(min_pixels=3136, max_pixels=12_845_056)
    assert found.num_tokens(240, 480, 480) == 3757


@pytest.mark.parametrize("common", [False, True])
def test_internvl_follows_the_image_processor_not_the_video_processor(tmp_path: Path, common: bool) -> None:
    from transformers import InternVLVideoProcessor

    vision = {"image_size": [448, 448], "patch_size": [14, 14]}
    write(tmp_path, "config.json", {"model_type": "internvl", "downsample_ratio": 0.5, "vision_config": vision})
    if common:
        write(tmp_path, "processor_config.json", {"image_processor": IMAGENET, "video_processor": {"size": {}}})
    else:
        write(tmp_path, "preprocessor_config.json", IMAGENET)
        InternVLVideoProcessor().save_pretrained(tmp_path)
    assert read_video_inputs(tmp_path) == InternVLVideoInputs()


def test_internvl_sizes_come_from_the_vision_config(tmp_path: Path) -> None:
    config = {"model_type": "internvl", "downsample_ratio": 0.25, "vision_config": {"image_size": 64, "patch_size": 4}}
    write(tmp_path, "config.json", config)
    found = read_video_inputs(tmp_path, {"policy": "middle", "num_frames": 3})
    assert found.token_grid(10, 64, 64) == (3, 4, 4)


@pytest.mark.parametrize(
    ("files", "cause"),
    [
        ({}, "config.json"),
        ({"config.json": {"model_type": "llama"}}, "'llama'"),
        ({"config.json": [1]}, "no settings"),
        ({"config.json": {"model_type": "qwen2_vl"}, "preprocessor_config.json": "text"}, "no settings"),
    ],
)
def test_folders_that_are_no_video_model_are_named(tmp_path: Path, files: dict[str, Any], cause: str) -> None:
    for name, values in files.items():
        write(tmp_path, name, values)
    with pytest.raises(CheckpointError, match=cause):
        read_video_inputs(tmp_path)
