"""Which frames the policies pick."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ct_vlm.component import build_from_config
from ct_vlm.errors import ConfigError
from ct_vlm.transforms import FrameSampling


@pytest.mark.parametrize(
    ("sampling", "total", "multiple", "expected"),
    [
        (FrameSampling("all"), 3, 2, [0, 1, 2]),
        (FrameSampling("given", frames=(2, -1, 0)), 5, 2, [2, 4, 0]),
        (FrameSampling("uniform", num_frames=3), 9, 1, [0, 3, 6]),
        (FrameSampling("middle", num_frames=3), 9, 1, [1, 4, 7]),
        (FrameSampling("ends", num_frames=3), 9, 1, [0, 4, 8]),
        (FrameSampling("middle", num_frames=1), 9, 1, [4]),
        (FrameSampling("ends", num_frames=1), 9, 1, [0]),
        (FrameSampling("uniform", num_frames=1), 1, 2, [0]),
        (FrameSampling("uniform", num_frames=3), 8, 2, [0, 2, 4, 6]),
        (FrameSampling("uniform", num_frames=3), 3, 2, [0, 1]),
        (FrameSampling("fps", film_fps=2, fps=1), 1, 2, [0]),
        (FrameSampling("fps", film_fps=2, fps=1), 3, 2, [0, 2]),
        (FrameSampling("fps", film_fps=2, fps=1, placing="uniform"), 12, 2, [0, 2, 4, 6, 8, 10]),
        (FrameSampling("fps", film_fps=2, fps=9, max_frames=5), 100, 2, [0, 33, 66, 99]),
    ],
)
def test_frames_of_each_policy(sampling: FrameSampling, total: int, multiple: int, expected: list[int]) -> None:
    assert sampling.indices(total, multiple=multiple).tolist() == expected


def test_two_frames_a_second_of_the_papers_film_are_26() -> None:
    frames = FrameSampling().indices(240, multiple=2)
    assert (len(frames), frames[0], frames[-1]) == (26, 0, 239)
    assert len(FrameSampling(placing="middle").indices(240)) == 26


@pytest.mark.parametrize("policy", ["uniform", "middle", "ends"])
def test_every_number_gives_as_many_frames_once_each_and_in_order(policy: str) -> None:
    for total in (1, 2, 7, 22, 240):
        for number in range(1, total + 1):
            frames = FrameSampling(policy, num_frames=number).indices(total)
            assert len(frames) == number
            assert frames.min() >= 0
            assert frames.max() < total
            assert (np.diff(frames) > 0).all()


@pytest.mark.parametrize("number", [2, 8, 20, 24, 60, 240])
def test_frames_equal_those_of_the_processors(number: int) -> None:
    from transformers import InternVLVideoProcessor, Qwen2VLVideoProcessor, Qwen3VLVideoProcessor
    from transformers.video_utils import VideoMetadata

    film = VideoMetadata(total_num_frames=240, fps=18)
    for policy, processor in (
        ("uniform", Qwen2VLVideoProcessor(fps=None)),
        ("middle", InternVLVideoProcessor()),
        ("ends", Qwen3VLVideoProcessor()),
    ):
        expected = np.asarray(processor.sample_frames(film, num_frames=number))
        assert FrameSampling(policy, num_frames=number).indices(240, multiple=2).tolist() == expected.tolist()


@pytest.mark.parametrize("sampling", [FrameSampling(), FrameSampling("given", frames=(0, 3))])
def test_frame_sampling_config_round_trip(sampling: FrameSampling) -> None:
    config = json.loads(json.dumps(sampling.to_config()))
    assert build_from_config(config) == sampling


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"policy": "often"}, "often"),
        ({"placing": "start"}, "start"),
        ({"policy": "uniform"}, "num_frames=None"),
        ({"policy": "uniform", "num_frames": 0}, "num_frames=0"),
        ({"num_frames": 8}, "num_frames=8"),
        ({"policy": "given"}, "frames=\\(\\)"),
        ({"frames": [1]}, "frames=\\(1,\\)"),
        ({"fps": 0}, "fps=0"),
        ({"min_frames": 9, "max_frames": 8}, "9 and 8"),
    ],
)
def test_wrong_policies_are_named(settings: dict[str, object], cause: str) -> None:
    with pytest.raises(ConfigError, match=cause):
        FrameSampling(**settings)


@pytest.mark.parametrize(
    ("sampling", "total", "cause"),
    [
        (FrameSampling("ends", num_frames=8), 7, "has 7 frames, but num_frames=8"),
        (FrameSampling("given", frames=(7, -9)), 8, r"frames \[-9\]"),
        (FrameSampling("all"), 0, "at least one frame"),
    ],
)
def test_short_films_are_named(sampling: FrameSampling, total: int, cause: str) -> None:
    with pytest.raises(ConfigError, match=cause):
        sampling.indices(total)
