"""What forks of a process with threads do; run by `test_reading_processes.py` in a process of its own.

Threads of blosc2 and OpenCV, once started, make every later fork of the same process unsafe for those
who do not take care, other tests among them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from ct_vlm.datamodules import make_loader
from ct_vlm.datamodules.threads import OneThread
from ct_vlm.datasets import CTRateDataset
from ct_vlm.datasets.preprocessing.worker import _ONE_THREAD
from ct_vlm.transforms import CTPreset

if TYPE_CHECKING:
    from pathlib import Path

PRESET = CTPreset("wide", size=(32, 48, 48))


class Threads(Dataset[dict[str, Any]]):
    """Tells how many threads its process uses."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, Any]:
        import blosc2
        import cv2

        array = np.arange(10**6)
        return {
            "torch": torch.get_num_threads(),
            "cv2": cv2.getNumThreads(),
            "blosc2": blosc2.asarray(array).schunk.cparams.nthreads,
            "openmp": int(os.environ["OMP_NUM_THREADS"]),
        }


@pytest.fixture
def threads_in_use(monkeypatch: pytest.MonkeyPatch):
    """This process has used three threads in every library: what a fork of it has to be kept from."""
    import blosc2
    import cv2

    for name in _ONE_THREAD:
        monkeypatch.setenv(name, "3")
    before = cv2.getNumThreads(), blosc2.set_nthreads(3), torch.get_num_threads()
    cv2.setNumThreads(3)
    torch.set_num_threads(3)
    cv2.resize(np.zeros((2000, 2000), np.int16), (500, 500))
    blosc2.asarray(np.arange(10**7))[:]
    yield lambda: (cv2.getNumThreads(), blosc2.asarray(np.arange(9)).schunk.cparams.nthreads)
    cv2.setNumThreads(before[0])
    blosc2.set_nthreads(before[1])
    torch.set_num_threads(before[2])


ONE = {"torch": 1, "cv2": 1, "blosc2": 1, "openmp": 1}


def test_forked_processes_use_one_thread(threads_in_use: Any) -> None:
    loader = make_loader(Threads(), batch_size=1, num_workers=2, multiprocessing_context="fork", timeout=60)
    for batch in loader:
        assert {name: value.item() for name, value in batch.items()} == ONE
    assert threads_in_use() == (3, 3)


def test_new_processes_use_one_thread(threads_in_use: Any) -> None:
    assert Threads()[0] == {"torch": 3, "cv2": 3, "blosc2": 3, "openmp": 3}
    OneThread(None, forked=False)(0)
    assert Threads()[0] == ONE


def test_forks_of_a_process_with_threads_load_volumes(tree: Any, tmp_path: Path, threads_in_use: Any) -> None:
    dataset = CTRateDataset(tree.root, preset=PRESET, cache_dir=tmp_path / "cache")
    for _ in ("made", "from the cache"):
        batches = list(make_loader(dataset, batch_size=2, num_workers=2, timeout=60))
        assert len(batches) == 4
    assert torch.equal(batches[0]["image"][0], dataset[0]["image"])
