"""A data set with a cache, a cache that misbehaves on demand, and samples of it."""

from __future__ import annotations

import importlib
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from ct_vlm.datasets import CTRateDataset
from ct_vlm.datasets.preprocessing.work import Setup
from ct_vlm.transforms import CTPreset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SMALL = CTPreset("small", size=(4, 5, 6))
FAULTY = """
    import os, signal, time
    from pathlib import Path
    from ct_vlm.cache import ArrayCache

    class FaultyCache(ArrayCache):
        '''Kills or hangs its process at the volumes that files beside the cache name.'''

        def load(self, path):
            self._meet_fault(path)
            return super().load(path)

        def contains(self, path):
            self._meet_fault(path)
            return super().contains(path)

        def _meet_fault(self, path):
            name, faults = path.name.split("-")[0], Path(self.folder).parent
            if (faults / f"die-{name}").exists():
                os.kill(os.getpid(), signal.SIGKILL)
            if (faults / f"once-{name}").exists():
                (faults / f"once-{name}").unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            while (faults / f"hang-{name}").exists():
                time.sleep(0.05)
"""


def entries(folder: Path) -> dict[str, int]:
    """Return the entries of a cache: volume to time of change."""
    found = (path for path in folder.glob("*/[!.]*") if path.parent.suffix != ".d")
    return {path.name.split("-")[0]: path.stat().st_mtime_ns for path in found}


@pytest.fixture
def cache_entries() -> Callable[[Path], dict[str, int]]:
    """The function that lists a cache."""
    return entries


@pytest.fixture
def make_dataset(tree: Any, tmp_path: Path) -> Callable[..., CTRateDataset]:
    """Builds a data set over the tree, with a cache."""

    def make(split: str = "train", cache: Path | None = None, **arguments: Any) -> CTRateDataset:
        values = {"preset": SMALL, "cache_dir": cache or tmp_path / "cache", "text": None, "labels": False}
        return CTRateDataset(tree.root, split, **{**values, **arguments})

    return make


@pytest.fixture
def setup_of() -> Callable[[CTRateDataset], Setup]:
    """Builds what all volumes of a data set have in common."""
    return lambda dataset: Setup(dataset.preset, dataset.hu_source, dataset.cache)


@pytest.fixture
def faulty(make_dataset: Callable[..., CTRateDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A data set whose cache kills or hangs worker processes; the module must be importable by them."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/faulty_cache_of_tests.py").write_text(textwrap.dedent(FAULTY))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.delitem(sys.modules, "faulty_cache_of_tests", raising=False)
    dataset = make_dataset()
    dataset.cache = importlib.import_module("faulty_cache_of_tests").FaultyCache(tmp_path / "cache")
    return dataset
