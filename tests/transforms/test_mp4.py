"""Films on disk: exact where they claim to be, readable by others, and never half written."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from ct_vlm.errors import ConfigError, MissingDependencyError, ShapeError, VolumeReadError
from ct_vlm.transforms import read_mp4, write_mp4

if TYPE_CHECKING:
    from pathlib import Path

av = pytest.importorskip("av", reason="films need PyAV")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def rgb_as_other_readers_see_it(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def bgr_as_opencv_sees_it(path: Path) -> np.ndarray:
    film, frames = cv2.VideoCapture(str(path)), []
    while (frame := film.read()[1]) is not None:
        frames.append(frame)
    film.release()
    return np.stack(frames)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libx264rgb", "ffv1"])
@pytest.mark.parametrize("shape", [(5, 64, 80), (1, 64, 64)])
def test_films_keep_every_byte_and_other_readers_see_the_same_gray(
    tmp_path: Path, codec: str, shape: tuple[int, int, int]
) -> None:
    frames = noise(*shape)
    write_mp4(frames, tmp_path / "a.mp4", codec=codec)
    assert np.array_equal(read_mp4(tmp_path / "a.mp4"), frames)
    colours = np.repeat(frames[..., None], 3, axis=-1)
    assert np.array_equal(rgb_as_other_readers_see_it(tmp_path / "a.mp4"), colours)
    if len(frames) > 1:  # OpenCV gives up on a film of one HEVC frame
        assert np.array_equal(bgr_as_opencv_sees_it(tmp_path / "a.mp4"), colours)


@pytest.mark.parametrize("shape", [(3, 63, 80), (3, 64, 81), (2, 17, 19)])
def test_odd_sizes_are_kept(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    write_mp4(noise(*shape), tmp_path / "odd.mp4")
    assert np.array_equal(read_mp4(tmp_path / "odd.mp4"), noise(*shape))


def test_limited_range_costs_a_step_at_most_and_reads_as_others_read_it(tmp_path: Path) -> None:
    frames = np.tile(np.arange(256, dtype=np.uint8), (2, 16, 1))
    write_mp4(frames, tmp_path / "a.mp4", color_range="limited")
    found = read_mp4(tmp_path / "a.mp4").astype(int)
    assert 0 < np.abs(found - frames).max() <= 1
    assert np.abs(found - rgb_as_other_readers_see_it(tmp_path / "a.mp4")[..., 1]).max() <= 1


def test_larger_crf_makes_smaller_files_and_larger_errors(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:96, :96]
    frames = np.stack([128 + 60 * np.sin(rows / 9 + i) + 20 * np.cos(columns * rows / 50) for i in range(6)])
    frames = frames.astype(np.uint8)
    sizes, errors = [], []
    for crf in (0, 18, 35):
        write_mp4(frames, tmp_path / f"{crf}.mp4", crf=crf)
        sizes.append((tmp_path / f"{crf}.mp4").stat().st_size)
        errors.append(np.abs(read_mp4(tmp_path / f"{crf}.mp4").astype(int) - frames).mean())
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)
    assert errors[0] == 0 < errors[1] < errors[2]


def test_rate_and_length_are_the_films(tmp_path: Path) -> None:
    write_mp4(noise(9, 32, 32), tmp_path / "a.mp4", fps=4.5)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == 4.5
        assert float(stream.duration * stream.time_base) == pytest.approx(2.0)


def test_read_takes_a_colour_film_of_another_tool(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10, options={"qscale": "1"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for value in (40, 200):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 48, 3), value, np.uint8), "rgb24")))
        container.mux(stream.encode(None))
    found = read_mp4(tmp_path / "a.mp4").astype(int)
    assert found.shape == (2, 32, 48)
    assert np.abs(found - np.array([40, 200])[:, None, None]).max() <= 2


def test_a_failure_leaves_the_old_film_and_no_other_file(tmp_path: Path) -> None:
    target = tmp_path / "a.mp4"
    write_mp4(noise(2, 32, 32), target)
    before = target.read_bytes()
    with pytest.raises(ConfigError, match="cannot encode frames"):
        write_mp4(noise(2, 32, 32), target, speed="no-such-speed")
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"codec": "vhs"}, "vhs"),
        ({"crf": 60}, "crf=60"),
        ({"fps": 0}, "fps=0"),
        ({"color_range": "wide"}, "wide"),
        ({"codec": "ffv1", "crf": 18}, "lossless"),
    ],
)
def test_wrong_film_settings_are_named(tmp_path: Path, settings: dict[str, object], cause: str) -> None:
    with pytest.raises(ConfigError, match=cause):
        write_mp4(noise(2, 32, 32), tmp_path / "a.mp4", **settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.avi", "missing/a.mp4"])
def test_wrong_film_paths_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="Cannot write a film"):
        write_mp4(noise(2, 32, 32), tmp_path / name)


@pytest.mark.parametrize("frames", [noise(32, 32), noise(0, 32, 32), noise(2, 32, 32).astype(np.int16)])
def test_wrong_frames_are_named(tmp_path: Path, frames: np.ndarray) -> None:
    with pytest.raises(ShapeError, match="uint8"):
        write_mp4(frames, tmp_path / "a.mp4")


def test_files_that_are_no_films_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no film")
    write_mp4(noise(4, 32, 32), tmp_path / "a.mp4")
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:200])
    for name in ("text.mp4", "cut.mp4", "missing.mp4"):
        with pytest.raises(VolumeReadError, match=name):
            read_mp4(tmp_path / name)


def test_missing_pyav_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    for call in (lambda: read_mp4(tmp_path / "a.mp4"), lambda: write_mp4(noise(1, 8, 8), tmp_path / "a.mp4")):
        with pytest.raises(MissingDependencyError, match=r"ct_vlm\[video\]"):
            call()


def test_a_missing_codec_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", frozenset({"ffv1"}))
    with pytest.raises(MissingDependencyError, match="libx264"):
        write_mp4(noise(1, 32, 32), tmp_path / "a.mp4")
