"""Whatever happens to an entry's bytes, it is served right or not at all."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ct_vlm.cache import ArrayCache, DamagedEntryError, read_entry
from ct_vlm.cache.codecs import CODECS
from ct_vlm.cache.layout import HEAD, TRAILER_SIZE
from ct_vlm.cache.verifying import problem_of
from ct_vlm.cache.writing import write_entry

if TYPE_CHECKING:
    from pathlib import Path

KEY = {"source": {"path": "a", "size": 1, "mtime_ns": 2}}
ARRAYS = {
    "image": np.random.default_rng(0).integers(0, 16, (6, 20, 30)).astype(np.int16),
    "zeros": np.zeros((3000,), np.int16),
    "spacing": np.array([1.5, 0.75, 0.75]),
}


@pytest.fixture(params=CODECS)
def stored(
    request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> tuple[ArrayCache, Path, bytes]:
    """Return a cache, the file of its only entry, and what is in it."""
    caplog.set_level(logging.ERROR, logger="ct_vlm")
    cache = ArrayCache(tmp_path, request.param)
    path = cache.path("a", KEY)
    assert path is not None
    assert cache.store(path, ARRAYS, key=KEY)
    return cache, path, path.read_bytes()


def served(cache: ArrayCache, path: Path) -> bool:
    """Tell whether the entry is served, and check that it is right if so."""
    found = cache.load(path)
    if found is None:
        return False
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    return True


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def test_cut_off_anywhere(stored: tuple[ArrayCache, Path, bytes]) -> None:
    cache, path, content = stored
    lengths = {*range(0, len(content), 23), *range(len(content) - 80, len(content)), *range(70)}
    for length in sorted(lengths):
        replace(path, content[:length])
        assert not served(cache, path), length
        assert not cache.contains(path)


def test_a_flipped_bit_anywhere(stored: tuple[ArrayCache, Path, bytes]) -> None:
    cache, path, content = stored
    generator = np.random.default_rng(1)
    ends = (*range(len(HEAD)), *range(len(content) - TRAILER_SIZE, len(content)))
    for place in (*ends, *range(len(HEAD), len(content) - TRAILER_SIZE, 29)):
        altered = bytearray(content)
        altered[place] ^= 1 << int(generator.integers(8))
        replace(path, bytes(altered))
        # padding between arrays holds nothing that could be served wrong, and `verify` sees it
        if served(cache, path):
            assert content[place] == 0
        assert problem_of(path) is not None, place


def test_lost_pages_moved_blocks_and_noise(stored: tuple[ArrayCache, Path, bytes]) -> None:
    cache, path, content = stored
    generator = np.random.default_rng(2)
    for _ in range(150):
        altered = bytearray(content)
        start, other = generator.integers(0, len(content), 2).tolist()
        size = int(generator.integers(1, 600))
        block = altered[other : other + size]
        kinds = (bytes(size), block, generator.bytes(size))
        altered[start : start + size] = kinds[int(generator.integers(3))]
        if bytes(altered) == content:
            continue
        replace(path, bytes(altered))
        served(cache, path)
        assert problem_of(path) is not None


def test_bytes_added_or_put_in_front(stored: tuple[ArrayCache, Path, bytes]) -> None:
    cache, path, content = stored
    for altered in (content + b"\0", b"\0" + content, content * 2, b"", b"text", HEAD, content[: len(HEAD)] + content):
        replace(path, altered)
        assert not served(cache, path)


def test_parts_are_right_or_refused(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 30, (48, 96, 192)).astype(np.int16)
    generator = np.random.default_rng(3)
    part = np.s_[2:9, 10:30, 5:25]
    path = tmp_path / "a.ctcache"
    for codec in CODECS:
        write_entry(path, {"x": array}, codec=codec)
        content = path.read_bytes()
        right = 0
        for place in generator.integers(len(HEAD), len(content), 60).tolist():
            altered = bytearray(content)
            altered[place] ^= 1 << int(generator.integers(8))
            replace(path, bytes(altered))
            try:
                with read_entry(path) as entry:
                    found = entry["x"][part]
                np.testing.assert_array_equal(found, array[part])
                right += 1
            except DamagedEntryError:
                continue
        assert 0 < right < 60, codec  # damage elsewhere does not matter, damage here does


@pytest.mark.parametrize("codec", CODECS)
def test_damage_between_two_readings_is_seen(tmp_path: Path, codec: str) -> None:
    array = np.random.default_rng(0).integers(0, 30, (30, 80, 80)).astype(np.int16)
    path = tmp_path / "a.ctcache"
    write_entry(path, {"x": array}, codec=codec)
    with read_entry(path) as entry:
        np.testing.assert_array_equal(entry["x"][...], array)
    with path.open("r+b") as file:  # in place: same inode, same size
        file.seek(30_000)
        byte = file.read(1)
        file.seek(30_000)
        file.write(bytes([byte[0] ^ 4]))
    with read_entry(path) as entry, pytest.raises(DamagedEntryError, match="altered"):
        _ = entry["x"][...]


def test_an_entry_under_anothers_name_is_not_served(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path)
    one, two = ({"source": number} for number in (1, 2))
    cache.get("a", one, lambda: {"x": np.array([1])})
    source, target = cache.path("a", one), cache.path("a", two)
    assert source is not None
    assert target is not None
    source.rename(target)
    assert cache.get("a", two, lambda: {"x": np.array([2])})["x"].tolist() == [2]
    assert cache.load(target)["x"].tolist() == [2]


def test_damage_in_a_part_makes_the_entry_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = ArrayCache(tmp_path)
    array = np.random.default_rng(0).integers(0, 30, (30, 80, 80)).astype(np.int16)
    made = []

    def make() -> dict[str, np.ndarray]:
        made.append(1)
        return {"x": array}

    def take() -> np.ndarray:
        return cache.read("a", {}, make, lambda arrays: arrays["x"][3:5, :, 7])

    take()
    path = cache.path("a", {})
    assert path is not None
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    replace(path, bytes(content))
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(take(), array[3:5, :, 7])
    assert len(made) == 2
    assert "is damaged" in caplog.text
    np.testing.assert_array_equal(take(), array[3:5, :, 7])
    assert len(made) == 2
