"""Entries give back what was stored, whole and in parts."""

from __future__ import annotations

import json
import os
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ct_vlm.cache import DamagedEntryError, read_entry
from ct_vlm.cache.codecs import CODECS, GRANULE, chunk_shape
from ct_vlm.cache.regions import span_of, touched_chunks, touched_granules
from ct_vlm.cache.writing import write_entry
from ct_vlm.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from pathlib import Path

SHAPES = [(), (0,), (0, 3), (3,), (70_000,), (40, 50), (3000, 7), (30, 100, 33), (25, 97, 101), (1, 300, 300)]
TYPES = [np.int16, np.uint8, np.float16, np.float32, np.float64, np.bool_, np.int64, np.dtype(">i2")]


def noise(shape: tuple[int, ...], dtype: object = np.int16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-100, 100, shape).astype(dtype)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("shape", [*SHAPES, (2, 30, 100, 33)], ids=str)
def test_every_shape_and_type_comes_back_equal(tmp_path: Path, codec: str, shape: tuple[int, ...]) -> None:
    arrays = {np.dtype(dtype).str: noise(shape, dtype) for dtype in TYPES}
    arrays["zeros"], arrays["ones"] = np.zeros(shape, np.int16), np.ones(shape, np.float32)
    file = tmp_path / "a.ctcache"
    write_entry(file, arrays, codec=codec)
    with read_entry(file) as entry:
        entry.check()
        assert list(entry) == list(arrays)
        for name, array in arrays.items():
            assert (entry[name].shape, entry[name].nbytes) == (shape, array.nbytes)
            found = entry[name][...]
            assert found.flags.writeable
            assert found.dtype == array.dtype.newbyteorder("<")
            np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("shape", [(70_000,), (300, 400), (50, 130, 150), (3, 20, 130, 150)], ids=str)
def test_any_part_equals_that_of_the_array(tmp_path: Path, codec: str, shape: tuple[int, ...]) -> None:
    array, generator = noise(shape), np.random.default_rng(1)
    file = tmp_path / "a.ctcache"
    write_entry(file, {"x": array}, codec=codec)
    for number in range(12):
        ends = [sorted(generator.integers(0, size + 1, 2).tolist()) for size in shape]
        part = tuple(slice(low, high) for low, high in ends)
        with read_entry(file, fresh=bool(number % 2)) as entry:
            np.testing.assert_array_equal(entry["x"][part], array[part])
            buffer = np.full(array[part].shape, 7, np.int16)
            entry["x"].read_into(buffer, part)
            np.testing.assert_array_equal(buffer, array[part])


@pytest.mark.parametrize("codec", CODECS)
def test_indexing_follows_numpy(tmp_path: Path, codec: str) -> None:
    array = noise((9, 40, 50))
    write_entry(tmp_path / "a.ctcache", {"x": array}, codec=codec)
    with read_entry(tmp_path / "a.ctcache") as entry:
        x = entry["x"]
        indices = np.s_[3, -1, ..., :, 2:5, -4:-1, 7:2, (1, 2, 3), (..., 3), (2, ..., slice(3, 99)), (slice(1, 2), 5)]
        for index in indices:
            np.testing.assert_array_equal(x[index], array[index])
        assert x[1, 2, 3].shape == ()
        for bad in (slice(0, 9, 2), [1, 2], None, True, (1, 2, 3, 4), np.array([True] * 9)):
            with pytest.raises(ConfigError):
                _ = x[bad]  # type: ignore[index]
        with pytest.raises(IndexError, match="axis 0 with size 9"):
            _ = x[9]


@pytest.mark.parametrize("codec", CODECS)
def test_buffers_are_filled_and_others_refused(tmp_path: Path, codec: str) -> None:
    array = noise((20, 60, 70))
    write_entry(tmp_path / "a.ctcache", {"x": array, "y": np.arange(3)}, codec=codec)
    with read_entry(tmp_path / "a.ctcache") as entry:
        buffers = {"x": np.empty_like(array), "y": np.empty(3, np.int64)}
        entry.read_into(buffers)
        np.testing.assert_array_equal(buffers["x"], array)
        strided = np.zeros((20, 60, 140), np.int16)
        entry["x"].read_into(strided[..., ::2])
        np.testing.assert_array_equal(strided[..., ::2], array)
        assert not strided[..., 1::2].any()
        entry["x"].read_into(slice_ := np.empty((60, 70), np.int16), 4)
        np.testing.assert_array_equal(slice_, array[4])
        for wrong in (np.empty((20, 60, 71), np.int16), np.empty((20, 60, 70), np.int32)):
            with pytest.raises(ShapeError, match="`x` needs a buffer"):
                entry["x"].read_into(wrong)


def test_uncompressed_arrays_can_be_mapped(tmp_path: Path) -> None:
    array = noise((40, 60, 70))
    for codec in CODECS:
        write_entry(tmp_path / "a.ctcache", {"x": array}, codec=codec)
        with read_entry(tmp_path / "a.ctcache") as entry:
            views = [entry["x"].view(index) for index in (..., np.s_[3:9, :, 5:6], 7, np.s_[1, 2, 3])]
        if codec != "uncompressed":
            assert views == [None] * 4
            continue
        for view, want in zip(views, (array, array[3:9, :, 5:6], array[7], array[1, 2, 3]), strict=True):
            np.testing.assert_array_equal(view, want)
            assert not view.flags.writeable


def test_key_and_meta_are_kept(tmp_path: Path) -> None:
    key = {"source": {"path": "ä", "size": 3}, "n": [1, 2.5, None, True]}
    write_entry(tmp_path / "a.ctcache", {"x": np.arange(2)}, codec="lz4", key=key, meta={"grids": [[1, 2, 3]]})
    with read_entry(tmp_path / "a.ctcache") as entry:
        assert (entry.key, entry.meta, entry.codec) == (key, {"grids": [[1, 2, 3]]}, "lz4")


def test_objects_and_unknown_codecs_are_refused(tmp_path: Path) -> None:
    for array in (np.array([{"a": 1}], dtype=object), np.array(["a"]), np.array([1j])):
        with pytest.raises(ConfigError, match="cannot be cached"):
            write_entry(tmp_path / "a", {"x": array})
    with pytest.raises(ConfigError, match="zstd, lz4, uncompressed"):
        write_entry(tmp_path / "a", {"x": np.arange(3)}, codec="gzip")
    assert list(tmp_path.iterdir()) == []


def test_hu_shrink_and_parts_touch_little_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = np.full((48, 192, 192), -1000, np.int16)
    body[8:40, 30:160, 30:160] = noise((32, 130, 130)) // 10
    file = tmp_path / "a.ctcache"
    write_entry(file, {"image": body})
    assert file.stat().st_size * 3 < body.nbytes
    read = []
    original = os.preadv
    monkeypatch.setattr(os, "preadv", lambda handle, views, at: read.append(n := original(handle, views, at)) or n)
    with read_entry(file) as entry:
        _ = entry["image"].shape
        assert read == []
        _ = entry["image"][30:40, 100:120, 100:120]
    assert sum(read) < file.stat().st_size / 2


def test_a_closed_entry_cannot_be_read(tmp_path: Path) -> None:
    write_entry(tmp_path / "a.ctcache", {"x": noise((30, 60, 60))})
    entry = read_entry(tmp_path / "a.ctcache")
    array, kept = entry["x"], entry["x"][:2]
    entry.close()
    entry.close()
    with pytest.raises((OSError, DamagedEntryError)):
        _ = array[...]
    np.testing.assert_array_equal(kept, noise((30, 60, 60))[:2])


def test_a_pickled_entry_opens_its_file_anew(tmp_path: Path) -> None:
    write_entry(tmp_path / "a.ctcache", {"x": np.arange(9)})
    with read_entry(tmp_path / "a.ctcache") as entry:
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(entry["x"])
        with pickle.loads(pickle.dumps(entry)) as other:
            assert other["x"][3:5].tolist() == [3, 4]
        assert entry["x"][...].tolist() == list(range(9))  # the copy closed its own file


def test_memory_that_was_used_before_does_no_harm(tmp_path: Path) -> None:
    arrays = [noise((30, 100, 100 + 10 * number), seed=number) for number in range(4)]
    for number, array in enumerate(arrays):
        write_entry(tmp_path / f"{number}.ctcache", {"x": array, "y": array[::-1]})
    entries = [read_entry(tmp_path / f"{number}.ctcache") for number in range(4)]
    for round_ in range(3):
        for entry, array in zip(entries, arrays, strict=True):
            np.testing.assert_array_equal(entry["x"][round_ * 9 : round_ * 9 + 5], array[round_ * 9 : round_ * 9 + 5])
        entries[round_].close()
        entries[round_] = read_entry(tmp_path / f"{round_}.ctcache")
    for entry, array in zip(entries, arrays, strict=True):
        np.testing.assert_array_equal(entry["y"][...], array[::-1])
        entry.close()


def test_chunks_cut_axes_evenly() -> None:
    assert chunk_shape((240, 480, 480), (24, 96, 96)) == (24, 96, 96)
    assert chunk_shape((1, 7, 149), (24, 96, 96)) == (1, 7, 75)


@pytest.mark.parametrize("seed", range(20))
def test_touched_pieces_cover_every_element_of_a_part(seed: int) -> None:
    generator = np.random.default_rng(seed)
    shape = tuple(generator.integers(1, 60, 3).tolist())
    chunks = tuple(generator.integers(1, 20, 3).tolist())
    bounds = [tuple(sorted(generator.choice(size + 1, 2, replace=False).tolist())) for size in shape]
    part = tuple(slice(*pair) for pair in bounds)
    positions = np.arange(np.prod(shape)).reshape(shape)[part].ravel()
    wanted = {int(p) * 8 // GRANULE for p in positions} | {(int(p) * 8 + 7) // GRANULE for p in positions}
    assert wanted <= set(touched_granules(shape, 8, bounds).tolist())
    grid = np.zeros([-(-n // c) for n, c in zip(shape, chunks, strict=True)], dtype=bool)
    for place in np.argwhere(np.ones([high - low for low, high in bounds], bool)) + [low for low, _ in bounds]:
        grid[tuple(place // chunks)] = True
    assert touched_chunks(shape, chunks, bounds).tolist() == np.flatnonzero(grid).tolist()


@pytest.mark.parametrize("seed", range(20))
def test_parts_in_one_piece_are_recognised(seed: int) -> None:
    generator = np.random.default_rng(seed)
    shape = tuple(generator.integers(1, 5, 3).tolist())
    places = np.arange(np.prod(shape)).reshape(shape)
    every = [[(low, high) for low in range(size) for high in range(low + 1, size + 1)] for size in shape]
    for bounds in ([z, y, x] for z in every[0] for y in every[1] for x in every[2]):
        part = places[tuple(slice(*pair) for pair in bounds)].ravel()
        in_one = part.size == part[-1] - part[0] + 1
        assert span_of(shape, bounds) == ((part[0], part[-1] + 1) if in_one else None)


def test_the_index_is_json(tmp_path: Path) -> None:
    write_entry(tmp_path / "a.ctcache", {"x": np.arange(3)}, key={"source": "b"})
    content = (tmp_path / "a.ctcache").read_bytes()
    start = content.index(b'{"codec"')
    assert json.JSONDecoder().raw_decode(content[start:].split(b"\0")[0].decode(errors="ignore"))[0]["key"] == {
        "source": "b"
    }
