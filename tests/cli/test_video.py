"""``ct-vlm video``: a scan as a film."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ct_vlm.cli import main
from ct_vlm.transforms import hu_to_frames, load_on_grid, read_mp4

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("av", reason="films need PyAV")


def test_a_scan_becomes_a_film_and_its_error_is_printed(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = tmp_path / "scan.mp4"
    options = ["--preset", "phantom", "--window", "-1000", "200", "--check"]
    before = scan.read_bytes()
    assert main(["video", "--volume", str(scan), "--out", str(film), *options]) == 0
    assert np.array_equal(read_mp4(film), hu_to_frames(load_on_grid(scan, "phantom").array))
    out = capsys.readouterr().out
    assert "64 frames of 64 x 64, 3.6 s at 18 fps, HU -1000 to 200" in out
    memory, on_disk = (line.split()[-4:] for line in out.splitlines() if line.startswith(("8 bits", "film ")))
    assert memory == on_disk
    assert 0.3 < float(memory[0]) <= float(memory[2]) <= 2.36
    assert "outside the window" in out
    assert scan.read_bytes() == before


def test_a_lossy_film_costs_hu(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--preset", "phantom", "--window", "-1000", "200", "--check", "--crf", "30"]
    assert main(["video", "--volume", str(scan), "--out", str(tmp_path / "a.mp4"), *options]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(("8 bits", "film "))]
    assert float(rows[1][-1]) > float(rows[0][-1])


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (["--out", "a.avi"], "Cannot write a film"),
        (["--out", "missing/a.mp4"], "Cannot write a film"),
        (["--out", "a.mp4", "--preset", "phantom"], "has 3 windows"),
        (["--out", "a.mp4", "--crf", "99"], "0 to 51"),
        (["--out", "a.mp4", "--fps", "-3"], "positive number"),
    ],
)
def test_wrong_video_options_are_named(
    scan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    cause: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["video", "--volume", str(scan), *options]) == 2
    assert cause in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_film_that_exists_is_replaced_only_on_request(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = tmp_path / "scan.mp4"
    film.write_bytes(b"mine")
    call = ["video", "--volume", str(scan), "--out", str(film), "--preset", "phantom", "--window", "-1000", "200"]
    assert main(call) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert film.read_bytes() == b"mine"
    assert main([*call, "--overwrite"]) == 0
    assert read_mp4(film).shape == (64, 64, 64)
