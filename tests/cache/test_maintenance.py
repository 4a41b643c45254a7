"""Verifying, collecting and counting touch cache entries and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from ct_vlm.cache import ArrayCache, collect, source_identity, summarise, verify
from ct_vlm.errors import ConfigError

NOISE = np.random.default_rng(0).integers(-99, 99, (10, 30, 40)).astype(np.int16)


def fill(folder: Path, sources: Path, names: str = "abcd", codec: str = "zstd") -> dict[str, Path]:
    """Make an entry a source file."""
    cache, entries = ArrayCache(folder, codec), {}
    sources.mkdir(parents=True, exist_ok=True)
    for name in names:
        source = sources / f"{name}.nii.gz"
        source.write_text(name)
        key = {"source": source_identity(source)}
        cache.get(f"preset/{name}", key, lambda: {"x": NOISE})
        path = cache.path(f"preset/{name}", key)
        assert path is not None
        entries[name] = path
    return entries


def user_files(folder: Path) -> dict[Path, bytes]:
    """Put files into the cache that are not its own."""
    contents = {
        folder / "notes.txt": b"mine",
        folder / "preset" / "scan.nii.gz": b"mine too",
        folder / "preset" / "report.ctcache": b"by chance of this name",
        folder / "preset" / "empty.ctcache": b"",
        folder / ".tmp-download.ctcache": b"also by chance",
        folder / ".tmp-other.npz": b"another tool's",
    }
    for path, content in contents.items():
        path.write_bytes(content)
        os.utime(path, (1000, 1000))
    return contents


def flip(path: Path, place: int = 200) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_verify_finds_and_deletes_only_bad_entries(tmp_path: Path) -> None:
    entries = fill(tmp_path / "cache", tmp_path / "sources")
    foreign = user_files(tmp_path / "cache")
    flip(entries["b"])
    entries["c"].write_bytes(entries["c"].read_bytes()[:500])
    entries["d"].rename(entries["d"].with_name("x-0123.ctcache"))
    result = verify(tmp_path / "cache", progress=False)
    assert result.checked == 6
    assert {Path(path).name[0] for path in result.bad} == {"b", "c", "x", "r", "e"}
    assert result.deleted == []
    assert entries["b"].exists()
    result = verify(tmp_path / "cache", delete_bad=True, progress=False)
    assert {Path(path).name[0] for path in result.deleted} == {"b", "c", "x"}
    assert entries["a"].exists()
    assert not entries["b"].exists()
    assert {path: path.read_bytes() for path in foreign} == foreign


def test_collect_follows_the_sources(tmp_path: Path) -> None:
    cache, sources = tmp_path / "cache", tmp_path / "sources"
    entries = fill(cache, sources)
    entries |= fill(cache, tmp_path / "disk" / "data", "u")
    foreign = user_files(cache)
    (sources / "b.nii.gz").unlink()
    (sources / "c.nii.gz").write_text("changed")
    flip(entries["d"], -5)
    (tmp_path / "disk").rename(tmp_path / "not mounted")
    plan = collect(cache, dry_run=True, progress=False)
    assert all(path.exists() for path in entries.values())
    result = collect(cache, progress=False)
    assert result == plan
    assert result.removed == {str(entries["b"]): "its source is gone", str(entries["c"]): "its source changed"}
    assert result.unreachable == [str(entries["u"])]
    assert str(entries["d"]) in result.damaged
    assert entries["a"].exists()
    assert entries["u"].exists()
    assert not entries["b"].exists()
    assert {path: path.read_bytes() for path in foreign} == foreign
    assert sorted(path.name for path in sources.iterdir()) == ["a.nii.gz", "c.nii.gz", "d.nii.gz"]


def test_collect_makes_room_by_last_use(tmp_path: Path) -> None:
    entries = fill(tmp_path / "cache", tmp_path / "sources")
    foreign = user_files(tmp_path / "cache")
    for age, name in enumerate("bdca"):
        moment = time.time() - 86_400 * (30 - age)
        os.utime(entries[name], (moment, moment))
    ArrayCache(tmp_path / "cache").load(entries["b"])  # used just now
    size = entries["a"].stat().st_size
    result = collect(tmp_path / "cache", max_bytes=2 * size + 100, progress=False)
    assert list(result.removed) == [str(entries["d"]), str(entries["c"])]
    assert result.freed == 2 * size
    assert collect(tmp_path / "cache", max_bytes=10**9, progress=False).removed == {}
    assert {path: path.read_bytes() for path in foreign} == foreign


def test_links_are_neither_followed_nor_removed(tmp_path: Path) -> None:
    entries = fill(tmp_path / "elsewhere", tmp_path / "sources", "a")
    (tmp_path / "sources" / "a.nii.gz").unlink()
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "link.ctcache").symlink_to(entries["a"])
    (cache / "folder").symlink_to(tmp_path / "elsewhere")
    (cache / "loop").symlink_to(cache)
    (cache / "dangling.ctcache").symlink_to(cache / "nothing")
    os.mkfifo(cache / "pipe.ctcache")
    assert verify(cache, delete_bad=True, progress=False).checked == 0
    assert collect(cache, max_bytes=0, progress=False).removed == {}
    assert summarise(cache, progress=False).others == 3
    assert entries["a"].exists()
    assert (cache / "link.ctcache").is_symlink()


def test_a_key_with_a_second_source_needs_both(tmp_path: Path) -> None:
    image, labels = tmp_path / "image", tmp_path / "labels"
    image.write_text("1")
    labels.write_text("2")
    cache = ArrayCache(tmp_path / "cache")
    key = {"source": source_identity(image), "labels": source_identity(labels)}
    cache.get("a", key, lambda: {"x": NOISE})
    assert collect(tmp_path / "cache", progress=False).kept == 1
    labels.unlink()
    assert list(collect(tmp_path / "cache", progress=False).removed.values()) == ["its source is gone"]


def test_summary_counts_by_folder(tmp_path: Path) -> None:
    fill(tmp_path / "cache", tmp_path / "sources", "ab")
    ArrayCache(tmp_path / "cache", "uncompressed").get("other/x", {"n": 1}, lambda: {"x": NOISE})
    ArrayCache(tmp_path / "cache").get("top", {"n": 1}, lambda: {"x": NOISE})
    (tmp_path / "cache" / ".tmp-1.ctcache").write_bytes(b"12345")
    summary = summarise(tmp_path / "cache", progress=False)
    assert {name: group.entries for name, group in summary.groups.items()} == {"preset": 2, "other": 1, ".": 1}
    preset = summary.groups["preset"]
    assert preset.array_bytes == 2 * NOISE.nbytes
    assert preset.ratio == preset.array_bytes / preset.num_bytes > 1
    assert summary.groups["other"].codecs == {"uncompressed": 1}
    assert (summary.temporaries, summary.temporary_bytes) == (1, 5)
    assert summary.to_json()["groups"]["preset"]["codecs"] == {"zstd": 2}


@pytest.mark.parametrize("action", [verify, collect, summarise])
def test_a_missing_folder_is_an_error(tmp_path: Path, action: object) -> None:
    with pytest.raises(ConfigError, match="is no folder"):
        action(tmp_path / "nothing", progress=False)  # type: ignore[operator]
