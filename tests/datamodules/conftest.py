"""The tiny CT-RATE tree of the data set tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def tree_module() -> Any:
    """Import the tree builder by its path (test folders are no packages)."""
    name = "ct_vlm_test_tree"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "datasets" / "tree.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture
def tree(tmp_path: Path, tree_module: Any) -> Any:
    """A tree that a test may change."""
    return tree_module.standard_tree(tmp_path / "ct_rate")
