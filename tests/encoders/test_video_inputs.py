"""Inputs of video language models equal those of the processors of transformers."""

from __future__ import annotations

import json

import pytest
import torch

from ct_vlm.component import build_from_config
from ct_vlm.encoders import InternVLVideoInputs, QwenVideoInputs
from ct_vlm.encoders.video_frames import resize_frames
from ct_vlm.encoders.video_size import smart_size
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.transforms import FrameSampling, get_preset

HALF = (0.5, 0.5, 0.5)
QWEN3 = {"patch_size": 16, "mean": HALF, "std": HALF, "pixel_limit": "film"}


def gray_film(frames: int, height: int, width: int, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, 1, frames, height, width), generator=generator, dtype=torch.uint8)


def smooth_film(frames: int, height: int, width: int) -> torch.Tensor:
    """Make a film without edges, whose resized values do not leave its range."""
    slices, rows, columns = torch.meshgrid(*(torch.arange(n) for n in (frames, height, width)), indexing="ij")
    waves = torch.sin(rows / 5 + slices) + torch.cos(columns / 7 - slices)
    return (127 + 45 * waves).round().to(torch.uint8)[None, None]


def processed(processor: object, film: torch.Tensor) -> dict[str, torch.Tensor]:
    """Give each film to a processor of transformers as RGB frames (T, 3, H, W)."""
    frames = [sample.expand(3, -1, -1, -1).transpose(0, 1).contiguous() for sample in film]
    return processor(videos=frames, return_tensors="pt", do_sample_frames=False)


@pytest.mark.parametrize("shape", [(4, 60, 60), (3, 100, 52), (1, 28, 84), (2, 480, 480), (2, 300, 200)])
def test_qwen_inputs_are_bit_equal_to_the_processor(shape: tuple[int, int, int]) -> None:
    from transformers import Qwen2VLVideoProcessor

    limits = {"min_pixels": 56 * 56, "max_pixels": 300 * 300}
    film = gray_film(*shape, batch=2)
    expected = processed(Qwen2VLVideoProcessor(**limits, cap_pixels_per_frame=False), film)
    found = QwenVideoInputs("all", **limits)(film)
    assert torch.equal(found["video_grid_thw"], expected["video_grid_thw"])
    assert torch.equal(found["pixel_values_videos"], expected["pixel_values_videos"])


def test_three_windows_as_colours_are_bit_equal_to_the_processor() -> None:
    from transformers import Qwen2VLVideoProcessor

    film = torch.cat([gray_film(4, 60, 70), 255 - gray_film(4, 60, 70), gray_film(4, 60, 70).flip(3)], dim=1)
    processor = Qwen2VLVideoProcessor(min_pixels=784, cap_pixels_per_frame=False)
    expected = processor(videos=[film[0].transpose(0, 1)], return_tensors="pt", do_sample_frames=False)
    found = QwenVideoInputs("all", min_pixels=784)(film)
    assert torch.equal(found["pixel_values_videos"], expected["pixel_values_videos"])


@pytest.mark.parametrize("shape", [(4, 60, 60), (3, 100, 52), (6, 20, 90), (4, 200, 260)])
def test_qwen3_inputs_are_bit_equal_to_the_processor(shape: tuple[int, int, int]) -> None:
    from transformers import Qwen3VLVideoProcessor

    size = {"shortest_edge": 4096, "longest_edge": 40000}
    film = gray_film(*shape)
    processor = Qwen3VLVideoProcessor(size=size, cap_pixels_per_frame=False)
    expected = processed(processor, film)
    inputs = QwenVideoInputs("all", **QWEN3, min_pixels=4096, max_pixels=40000)
    found = inputs(film)
    assert torch.equal(found["video_grid_thw"], expected["video_grid_thw"])
    assert torch.equal(found["pixel_values_videos"], expected["pixel_values_videos"])


@pytest.mark.parametrize("shape", [(2, 480, 480), (3, 40, 90)])
def test_internvl_inputs_are_bit_equal_to_the_processor(shape: tuple[int, int, int]) -> None:
    from transformers import InternVLVideoProcessor

    inputs = InternVLVideoInputs("all", size=112)
    processor = InternVLVideoProcessor(
        size={"height": 112, "width": 112}, image_mean=list(inputs.mean), image_std=list(inputs.std)
    )
    film = gray_film(*shape, batch=2)
    expected = processed(processor, film)["pixel_values_videos"]
    assert torch.equal(inputs(film)["pixel_values"], expected.flatten(0, 1))


def test_sizes_equal_those_of_the_processors() -> None:
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import smart_resize
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize as smart_resize_3

    generator = torch.Generator().manual_seed(1)
    for _ in range(300):
        height, width, frames = torch.randint(2, 600, (3,), generator=generator).tolist()
        low = int(torch.randint(1, 50_000, (), generator=generator))
        high = low + int(torch.randint(1, 300_000, (), generator=generator))
        if max(height, width) > 200 * min(height, width):
            continue
        ours = smart_size(frames, height, width, factor=28, temporal=2, pixels=(low, high))
        assert ours == smart_resize(height, width, 28, low, high)
        ours = smart_size(frames, height, width, factor=32, temporal=2, pixels=(low, high), limit="film")
        assert ours == smart_resize_3(frames, height, width, 2, 32, low, high)


@pytest.mark.parametrize(
    ("sampling", "tokens"),
    [
        ("fps", 3757),
        ("all", 34_680),
        (FrameSampling("uniform", num_frames=1), 289),
        ({"policy": "ends", "num_frames": 8}, 1156),
    ],
)
def test_qwen_token_counts_of_the_papers_film(sampling: object, tokens: int) -> None:
    inputs = QwenVideoInputs(sampling)
    assert inputs.num_tokens(240, 480, 480) == tokens
    assert inputs.token_grid(240, 480, 480)[1:] == (17, 17)
    assert inputs.frame_size(26, 480, 480) == (476, 476)


def test_internvl_token_counts_of_the_papers_film() -> None:
    assert InternVLVideoInputs("all").num_tokens(240, 480, 480) == 240 * 256
    assert InternVLVideoInputs().num_tokens(240, 480, 480) == 26 * 256
    assert InternVLVideoInputs({"policy": "middle", "num_frames": 1}).num_tokens(240, 480, 480) == 256


def test_token_grid_is_the_grid_of_the_inputs_after_merging() -> None:
    inputs = QwenVideoInputs("all", min_pixels=784)
    film = gray_film(5, 90, 60)
    grid = inputs(film)["video_grid_thw"][0]
    assert inputs.token_grid(5, 90, 60) == (int(grid[0]), int(grid[1]) // 2, int(grid[2]) // 2)


def test_time_between_steps_is_the_processors() -> None:
    from transformers.video_utils import VideoMetadata

    for inputs in (QwenVideoInputs(), QwenVideoInputs("all"), QwenVideoInputs({"policy": "ends", "num_frames": 8})):
        frames = inputs.frame_indices(240).tolist()
        film = VideoMetadata(total_num_frames=240, fps=18, frames_indices=frames)
        assert inputs.seconds_per_grid(240) == pytest.approx(2 / film.sampled_fps)


def test_odd_films_repeat_their_last_frame() -> None:
    inputs = QwenVideoInputs("all", min_pixels=784)
    film = gray_film(3, 56, 56)
    doubled = torch.cat([film, film[:, :, -1:]], dim=2)
    assert torch.equal(inputs(film)["pixel_values_videos"], inputs(doubled)["pixel_values_videos"])


def test_sampled_frames_are_those_of_the_policy() -> None:
    film = gray_film(12, 56, 56)
    some = QwenVideoInputs({"policy": "given", "frames": [2, -1]}, min_pixels=784)
    every = QwenVideoInputs("all", min_pixels=784)
    assert some.frame_indices(12).tolist() == [2, 11]
    assert torch.equal(some(film)["pixel_values_videos"], every(film[:, :, [2, 11]])["pixel_values_videos"])


@pytest.mark.parametrize("inputs", [QwenVideoInputs("all", min_pixels=784), InternVLVideoInputs("all", size=56)])
def test_windowed_floats_give_the_bytes_inputs_and_kept_floats_are_near(inputs: object) -> None:
    film = smooth_film(4, 60, 60)
    from_bytes, from_floats = inputs(film), inputs(film.float() / 255)
    kept = type(inputs)(**{**inputs.to_config()["init_args"], "quantise": False})(film.float() / 255)
    for name, values in from_bytes.items():
        assert torch.equal(from_floats[name], values)
        # bytes are rounded between rows and columns, where weights sum to 1.3, and at the end
        torch.testing.assert_close(kept[name], values, atol=1.25 / 255 / min(inputs.std), rtol=0)


def test_preset_windows_are_accepted_in_one_channel_and_three() -> None:
    preset = get_preset("absteering")
    hu = torch.randint(-1200, 600, (1, 1, 4, 56, 56), generator=torch.Generator().manual_seed(2), dtype=torch.int16)
    image = preset.window(hu)
    inputs = QwenVideoInputs("all", min_pixels=784)
    assert torch.equal(inputs(image)["pixel_values_videos"], inputs(image[:, :1])["pixel_values_videos"])


def test_gradients_reach_the_volume_when_floats_are_kept() -> None:
    film = (gray_film(3, 60, 60).float() / 255).requires_grad_()
    out = QwenVideoInputs("all", min_pixels=784, quantise=False)(film)["pixel_values_videos"]
    out.square().sum().backward()
    assert film.grad is not None
    assert (film.grad.abs().sum((3, 4)) > 0).all()


def test_resizing_in_floats_as_a_gpu_does_is_within_one_step() -> None:
    film = smooth_film(3, 90, 61)
    exact = resize_frames(film, (56, 84)).short()
    as_floats = resize_frames(film.float() / 255, (56, 84)).mul(255).round().short()
    assert (exact - as_floats).abs().max() <= 1


@pytest.mark.parametrize(
    "inputs",
    [
        QwenVideoInputs(),
        QwenVideoInputs({"policy": "given", "frames": (1, 2)}, **QWEN3),
        InternVLVideoInputs(FrameSampling("uniform", num_frames=8)),
    ],
)
def test_config_round_trip(inputs: object) -> None:
    config = json.loads(json.dumps(inputs.to_config()))
    assert build_from_config(config) == inputs
    assert type(inputs).from_config(config) == inputs
    assert hash(build_from_config(config)) == hash(inputs)


@pytest.mark.parametrize(
    ("film", "cause"),
    [
        (torch.zeros(1, 2, 3, 28, 28), "3 or 1"),
        (torch.zeros(3, 28, 28), "3 or 1"),
        (torch.zeros(1, 1, 0, 28, 28), "no pixel"),
        (torch.zeros(1, 1, 3, 28, 28, dtype=torch.int16), "torch.int16"),
        (torch.full((1, 1, 3, 28, 28), -1.0), "-1 to -1"),
        (torch.full((1, 1, 3, 28, 28), torch.nan), "nan"),
        (torch.zeros(1, 1, 3, 2, 500), "times as long as wide"),
    ],
)
def test_wrong_films_are_named(film: torch.Tensor, cause: str) -> None:
    with pytest.raises(ShapeError, match=cause):
        QwenVideoInputs("all")(film)


@pytest.mark.parametrize(
    ("build", "cause"),
    [
        (lambda: QwenVideoInputs(patch_size=0), "patch_size"),
        (lambda: QwenVideoInputs(min_pixels=10, max_pixels=9), "below"),
        (lambda: QwenVideoInputs(pixel_limit="slice"), "pixel_limit"),
        (lambda: QwenVideoInputs(std=(0.1, 0.0, 0.1)), "std"),
        (lambda: QwenVideoInputs("often"), "policy"),
        (lambda: InternVLVideoInputs(size=384), "384 pixels"),
        (lambda: InternVLVideoInputs.from_config({"pixels": 3}), "pixels"),
    ],
)
def test_wrong_settings_are_named(build: object, cause: str) -> None:
    with pytest.raises(ConfigError, match=cause):
        build()


def test_a_film_shorter_than_asked_for_is_named() -> None:
    with pytest.raises(ConfigError, match="has 3 frames, but num_frames=8"):
        QwenVideoInputs({"policy": "uniform", "num_frames": 8})(gray_film(3, 28, 28))
