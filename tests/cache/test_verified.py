"""What a process has checked of a mapped file is remembered until the file changes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ct_vlm.cache import DamagedEntryError, arrays, read_entry, verified
from ct_vlm.cache.codecs import GRANULE
from ct_vlm.cache.writing import write_entry

if TYPE_CHECKING:
    from pathlib import Path

ARRAY = np.arange(GRANULE, dtype=np.int16).reshape(4, -1)  # two granules


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the sizes of what is checked, with files that are an hour old."""
    seen: list[int] = []
    original = arrays.checksum
    monkeypatch.setattr(arrays, "checksum", lambda content: seen.append(len(content)) or original(content))
    monkeypatch.setattr(verified.time, "time_ns", lambda now=time.time_ns: now() + 3600 * 10**9)
    monkeypatch.setattr(verified, "_SEEN", type(verified._SEEN)())
    return seen


def test_each_piece_is_checked_once(tmp_path: Path, checked: list[int]) -> None:
    write_entry(tmp_path / "a.ctcache", {"x": ARRAY}, codec="uncompressed")
    for rows, expected in ((slice(0, 1), 1), (slice(0, 2), 0), (slice(0, 4), 1), (slice(0, 4), 0)):
        checked.clear()
        with read_entry(tmp_path / "a.ctcache") as entry:
            np.testing.assert_array_equal(entry["x"][rows], ARRAY[rows])
        assert checked == [GRANULE] * expected
    checked.clear()
    with read_entry(tmp_path / "a.ctcache", fresh=True) as entry:
        _ = entry["x"][...]
    assert checked == [GRANULE, GRANULE]


def test_pieces_that_go_on_beyond_a_part_are_checked_whole(tmp_path: Path, checked: list[int]) -> None:
    array = np.arange(5 * GRANULE // 2, dtype=np.int16).reshape(10, -1)  # a granule is two rows
    path = tmp_path / "a.ctcache"
    write_entry(path, {"x": array}, codec="uncompressed")
    with read_entry(path) as entry:
        np.testing.assert_array_equal(entry["x"][3:7], array[3:7])
    assert checked == [GRANULE] * 3
    checked.clear()
    with read_entry(path) as entry:
        np.testing.assert_array_equal(entry["x"][2:], array[2:])
    assert checked == [GRANULE]
    content = bytearray(path.read_bytes())
    content[content.index(array[2].tobytes())] ^= 1
    path.unlink()
    path.write_bytes(content)
    with read_entry(path) as entry:
        np.testing.assert_array_equal(entry["x"][4:], array[4:])
        for rows in (slice(3, 5), slice(2, 3), slice(0, 10)):
            with pytest.raises(DamagedEntryError, match="piece 1 of `x`"):
                _ = entry["x"][rows]


def test_a_file_that_is_cut_while_it_is_open_is_noticed(tmp_path: Path, checked: list[int]) -> None:
    path = tmp_path / "a.ctcache"
    write_entry(path, {"x": ARRAY}, codec="uncompressed")
    with read_entry(path) as entry:
        _ = entry["x"][...]
        with path.open("r+b") as file:
            file.truncate(GRANULE + 999)
        np.testing.assert_array_equal(entry["x"][:2], ARRAY[:2])
        with pytest.raises(DamagedEntryError, match="cut off"):
            _ = entry["x"][...]
    assert checked == [GRANULE] * 2


def test_a_change_in_place_is_noticed(tmp_path: Path, checked: list[int]) -> None:
    path = tmp_path / "a.ctcache"
    write_entry(path, {"x": ARRAY}, codec="uncompressed")
    with read_entry(path) as entry:
        _ = entry["x"][...]
    time.sleep(0.02)  # longer than the file system's clock takes to tick
    with path.open("r+b") as file:
        file.seek(5000)
        file.write(b"\xff\xff")
    with read_entry(path) as entry, pytest.raises(DamagedEntryError):
        _ = entry["x"][...]


def test_files_written_just_now_are_checked_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_entry(tmp_path / "a.ctcache", {"x": ARRAY}, codec="uncompressed")
    monkeypatch.setattr(verified, "_SEEN", type(verified._SEEN)())
    with read_entry(tmp_path / "a.ctcache") as entry:
        _ = entry["x"][...]
    assert not verified._SEEN


def test_memory_is_bounded(tmp_path: Path, checked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified, "_LIMIT", 3)
    for number in range(6):
        write_entry(tmp_path / f"{number}.ctcache", {"x": ARRAY}, codec="uncompressed")
        read_entry(tmp_path / f"{number}.ctcache").close()
    assert len(verified._SEEN) == 3
