"""A cache never fails for its folder's sake, and leaves other files alone."""

from __future__ import annotations

import errno
import logging
import os
import resource
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ct_vlm.cache import ArrayCache, source_identity, writing
from ct_vlm.cache.identity import find_sources, source_state
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

NOISE = np.random.default_rng(0).integers(-1000, 1000, (20, 60, 60)).astype(np.int16)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def entry_path(cache: ArrayCache) -> Path:
    path = cache.path("p/a", {"n": 1})
    assert path is not None
    return path


def test_absent_present_and_switched_off(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path / "new" / "folder")
    path = entry_path(cache)
    assert not cache.contains(path)
    assert cache.open(path) is None
    assert cache.load(path) is None
    assert not path.parent.exists()  # asking makes nothing
    assert cache.get("p/a", {"n": 1}, lambda: {"x": NOISE})["x"] is NOISE
    assert cache.contains(path)
    np.testing.assert_array_equal(cache.load(path)["x"], NOISE)
    off = ArrayCache(None)
    assert off.path("a", {}) is None
    assert not off.contains(None)
    assert not off.store(None, {"x": NOISE})
    assert off.get("a", {}, lambda: {"x": NOISE})["x"] is NOISE


def test_codecs_read_each_others_entries(tmp_path: Path) -> None:
    sizes = {}
    for codec in ("zstd", "lz4", "uncompressed"):
        folder = tmp_path / codec
        ArrayCache(folder, codec).get("p/a", {"n": 1}, lambda: {"x": NOISE})
        other = ArrayCache(folder, "zstd")
        np.testing.assert_array_equal(other.get("p/a", {"n": 1}, dict)["x"], NOISE)
        sizes[codec] = entry_path(other).stat().st_size
    assert sizes["zstd"] < sizes["lz4"] < sizes["uncompressed"]
    with pytest.raises(ConfigError, match="codec"):
        ArrayCache(tmp_path, "zip")


def test_a_full_disk_is_warned_of_once_and_leaves_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = ArrayCache(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))  # the system itself ends the write in the middle
    try:
        for _ in range(3):
            assert cache.get("p/a", {"n": 1}, lambda: {"x": NOISE})["x"] is NOISE
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caplog.text.count("Cannot write to the cache") == 1
    assert files(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("where", ["open", "write", "sync"])
def test_no_kind_of_failed_write_stops_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int, where: str
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(number, os.strerror(number))

    target = {"open": (tempfile, "mkstemp"), "write": (writing, "encode"), "sync": (writing.os, "fsync")}[where]
    cache = ArrayCache(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(*target, fail)
        assert cache.get("p/a", {"n": 1}, lambda: {"x": NOISE})["x"] is NOISE
        assert cache.get("p/b", {"n": 2}, lambda: {"x": NOISE})["x"] is NOISE
    assert files(tmp_path) == []
    assert caplog.text.count("Cannot write") == 1
    assert os.strerror(number) in caplog.text


def test_a_read_only_cache_still_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ArrayCache(tmp_path).get("p/a", {"n": 1}, lambda: {"x": NOISE})

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    np.testing.assert_array_equal(ArrayCache(tmp_path).get("p/a", {"n": 1}, dict)["x"], NOISE)


def test_entries_that_may_not_be_read_are_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = ArrayCache(tmp_path)
    cache.get("p/a", {"n": 1}, lambda: {"x": NOISE})
    original = os.open

    def refuse(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path).endswith(".ctcache"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return original(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    for _ in range(3):
        assert cache.get("p/a", {"n": 1}, lambda: {"x": NOISE})["x"] is NOISE
    assert caplog.text.count("Cannot read the cache entry") == 1


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ArrayCache(tmp_path)

    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "encode", die)
    with pytest.raises(KeyboardInterrupt):
        cache.store(entry_path(cache), {"x": NOISE})
    assert files(tmp_path) == []


@pytest.mark.parametrize("seconds", [-(10**9), 0, 10**9])
def test_clocks_do_not_matter(tmp_path: Path, seconds: int) -> None:
    source = tmp_path / "scan.nii.gz"
    source.write_bytes(b"voxels")
    moment = int(source.stat().st_mtime) + seconds
    os.utime(source, (moment, moment))
    cache, key = ArrayCache(tmp_path / "cache"), {"source": source_identity(source)}
    cache.get("a", key, lambda: {"x": np.array([1])})
    entry = cache.path("a", key)
    assert entry is not None
    os.utime(entry, (moment, moment))
    assert cache.get("a", {"source": source_identity(source)}, dict)["x"].tolist() == [1]
    assert source_state(key["source"]) == "same"
    os.utime(source, (moment, moment + 1))
    assert cache.path("a", {"source": source_identity(source)}) != entry
    assert source_state(key["source"]) == "changed"


def test_sources_are_found_wherever_they_are(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "gone" / "b"
    a.write_bytes(b"1")
    one = source_identity(a)
    two = {**one, "path": str(b)}
    assert list(find_sources({"x": one, "y": [{"deep": two}], "z": {"path": "only"}})) == [one, two]
    assert source_state(two) == "unreachable"
    b.parent.mkdir()
    assert source_state(two) == "gone"
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert source_state({**one, "path": str(loop)}) == "unreachable"


def test_use_is_noted_once_a_day(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path)
    cache.get("p/a", {"n": 1}, lambda: {"x": NOISE})
    path = entry_path(cache)
    os.utime(path, (1000, 2000))
    cache.load(path)
    first = path.stat()
    assert first.st_mtime > 10**9
    cache.load(path)
    assert path.stat().st_mtime_ns == first.st_mtime_ns


def test_old_uncompressed_archives_are_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = ArrayCache(tmp_path)
    path = entry_path(cache)
    path.parent.mkdir()
    with path.open("wb") as file:
        np.savez(file, x=np.array([{"a": 1}], dtype=object))
    with caplog.at_level(logging.WARNING):
        assert cache.load(path) is None
    assert "does not start as an entry" in caplog.text
