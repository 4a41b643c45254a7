"""`ct-vlm cache`: exit codes, tables and JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ct_vlm.cache import ArrayCache, source_identity
from ct_vlm.cli import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def filled(tmp_path: Path) -> tuple[Path, Path]:
    """Return a cache with two entries and the folder of their sources."""
    cache = ArrayCache(tmp_path / "cache", "uncompressed")
    for name in "ab":
        source = tmp_path / name
        source.write_text(name)
        cache.get(f"uvlm/{name}", {"source": source_identity(source)}, lambda: {"image": np.zeros((9, 9, 9), np.int16)})
    return tmp_path / "cache", tmp_path


def entry(cache: Path, name: str) -> Path:
    (path,) = cache.rglob(f"{name}-*.ctcache")
    return path


def test_verify_passes_and_fails(filled: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    cache, _ = filled
    assert main(["cache", "verify", str(cache)]) == 0
    assert "2 entries" in (out := capsys.readouterr().out)
    assert "all are whole" in out
    path = entry(cache, "b")
    content = bytearray(path.read_bytes())
    content[100] ^= 8
    path.write_bytes(content)
    assert main(["cache", "verify", str(cache)]) == 1
    captured = capsys.readouterr()
    assert f"bad: {path}: " in captured.err
    assert "1 bad, 0 deleted" in captured.out
    assert main(["cache", "verify", str(cache), "--json"]) == 1
    assert list(json.loads(capsys.readouterr().out)["bad"]) == [str(path)]
    assert main(["cache", "verify", str(cache), "--delete-bad"]) == 1
    assert "deleted: " in capsys.readouterr().err
    assert main(["cache", "verify", str(cache)]) == 0


def test_gc_tells_then_removes(filled: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    cache, sources = filled
    (sources / "a").unlink()
    assert main(["cache", "gc", str(cache), "--dry-run"]) == 0
    assert "1 files" in (out := capsys.readouterr().out)
    assert "would be removed; 1 entries stay" in out
    path = entry(cache, "a")
    assert main(["cache", "gc", str(cache), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == {str(path): "its source is gone"}
    assert not path.exists()
    assert main(["cache", "gc", str(cache), "--max-size", "1KB"]) == 0
    assert "it was not used for longest" in capsys.readouterr().out
    assert not list(cache.rglob("*.ctcache"))


def test_stats_as_table_and_json(filled: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    cache, _ = filled
    assert main(["cache", "stats", str(cache)]) == 0
    out = capsys.readouterr().out
    assert "uvlm" in out
    assert "uncompressed 2" in out
    assert main(["cache", "stats", str(cache), "--json"]) == 0
    group = json.loads(capsys.readouterr().out)["groups"]["uvlm"]
    assert (group["entries"], group["array_bytes"]) == (2, 2 * 729 * 2)


def test_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "verify", str(tmp_path / "nothing")]) == 1
    assert "is no folder" in capsys.readouterr().err
    assert main(["cache"]) == 2
    assert main(["cache", "gc", str(tmp_path), "--max-size", "much"]) == 2
    assert "write e.g. 500GB" in capsys.readouterr().err
