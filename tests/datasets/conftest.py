"""The tiny CT-RATE tree as fixtures."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType


def _load() -> ModuleType:
    """Import the tree builder by its path (test folders are no packages)."""
    name = "ct_vlm_test_tree"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("tree.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def tree_module() -> ModuleType:
    return _load()


@pytest.fixture
def tree(tmp_path: Path, tree_module: ModuleType):
    """A tree that a test may change."""
    return tree_module.standard_tree(tmp_path / "ct_rate")


@pytest.fixture
def new_tree(tmp_path: Path, tree_module: ModuleType):
    """An empty tree."""
    return tree_module.Tree(tmp_path / "ct_rate")
