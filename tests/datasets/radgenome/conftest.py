"""A tree of phantoms with every defect, and one that a test may break."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from ct_vlm.datasets import RadGenomeDataset
from ct_vlm.phantoms import PhantomManifest, write_radgenome
from ct_vlm.transforms import CTPreset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHAPE = (24, 28, 32)


@pytest.fixture(scope="session")
def broken(tmp_path_factory: pytest.TempPathFactory) -> PhantomManifest:
    """Eight sound scans and one for each defect; not to be changed."""
    root = tmp_path_factory.mktemp("radgenome") / "tree"
    return write_radgenome(root, 8, shape=SHAPE, seed=5, defects=True, workers=0)


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> PhantomManifest:
    """Six sound scans; not to be changed."""
    root = tmp_path_factory.mktemp("radgenome") / "sound"
    return write_radgenome(root, 6, shape=SHAPE, seed=5, workers=0)


@pytest.fixture
def copied(tmp_path: Path, sound: PhantomManifest) -> PhantomManifest:
    """A copy of the sound tree."""
    shutil.copytree(sound.root, tmp_path / "tree")
    return PhantomManifest.load(tmp_path / "tree")


@pytest.fixture
def by_defect(broken: PhantomManifest) -> Callable[[str], str]:
    """Return the volume that has a defect."""
    return lambda defect: next(name for name, kind in broken.defects.items() if kind == defect)


@pytest.fixture
def open_tree() -> Callable[..., RadGenomeDataset]:
    """Return the training part of a tree on its own grid."""

    def build(manifest: PhantomManifest, split: str = "train", **arguments: Any) -> RadGenomeDataset:
        return RadGenomeDataset(manifest.root, split, **{"preset": CTPreset("own"), **arguments})

    return build


@pytest.fixture
def item_of() -> Callable[[RadGenomeDataset, str], dict[str, Any]]:
    """Return the item of a volume."""

    def find(data: RadGenomeDataset, volume: str) -> dict[str, Any]:
        return data[[sample.name.volume_id for sample in data.samples].index(volume)]

    return find
