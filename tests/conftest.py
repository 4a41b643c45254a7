"""Settings and fixtures of every test: one thread, no network, fixed seeds, outside data if present."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

# before torch or transformers is imported: workers must not fight over cores, and no test may download
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "Agg"
if shutil.which("nvidia-smi") is None:
    # before Triton is imported: without a GPU, kernels are checked in its interpreter
    os.environ["TRITON_INTERPRET"] = "1"

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    """Seed every generator that is in use; torch and numpy only if a test has imported them."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.manual_seed(0)
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the working tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def run_alone() -> Callable[..., str]:
    """Runs pytest on a file in a process of its own and returns what it printed; it must pass.

    Threads, memory and handles that earlier tests left in this process change what its forks do.
    """

    def run(file: Path, *options: str, **variables: str) -> str:
        outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file), *options]
        ended = subprocess.run(
            command, cwd=REPOSITORY, env={**outer, **variables}, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
        return ended.stdout

    return run


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real labelled scans that lie beside the working tree on some machines."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no folder {SHARED_DATA.parent.name}/{SHARED_DATA.name} with real scans beside the working tree")
    return SHARED_DATA
