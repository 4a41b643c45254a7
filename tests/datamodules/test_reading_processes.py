"""Reading processes: one thread each, bounded memory, and a run that goes on after one was killed."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.data import Dataset

from ct_vlm.datamodules import CTRateDataModule, ResumableDataLoader, make_loader
from ct_vlm.datasets import CTRateDataset, ShardDataset, write_shards
from ct_vlm.errors import DatasetError
from ct_vlm.transforms import CTPreset

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
ALONE = "CT_VLM_TEST_ALONE"
alone = pytest.mark.skipif(ALONE not in os.environ, reason="runs in a process of its own")
PRESET = CTPreset("wide", size=(32, 48, 48))
ITEMS = 1200
LEAK_KIB = 7168
"""A sixth of what a process that lets nothing go takes over its second half (42 MiB)."""


def private_kib() -> int:
    """Return the memory of this process that is no file's."""
    return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1])


class Watched(Dataset[dict[str, Any]]):
    """A data set over and over, with what its process is like."""

    def __init__(self, items: Any, size: int, *, leak: bool = False) -> None:
        self.items, self.size = items, size
        self.leaked: list[torch.Tensor] | None = [] if leak else None
        self.started = multiprocessing.Value("i", 0)
        self.kill_at: Path | None = None

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        with self.started.get_lock():
            self.started.value += 1
        if self.kill_at is not None and self.kill_at.exists() and index == int(self.kill_at.read_text()):
            os.kill(os.getpid(), signal.SIGKILL)
        item = self.items[int(index) % len(self.items)]
        if self.leaked is not None:
            self.leaked.append(item["image"].clone())
        return {"image": item["image"], "process": os.getpid(), "memory": private_kib(), "index": int(index)}


def growth(watched: Watched, **arguments: Any) -> list[int]:
    """Return by how many KiB each process grew over its second half, when allocators have what they keep."""
    # memory that earlier tests freed would take in a leak unseen
    gc.collect()
    getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)
    seen: dict[int, list[int]] = {}
    for batch in make_loader(watched, batch_size=4, num_workers=2, **arguments):
        for process, memory in zip(batch["process"].tolist(), batch["memory"].tolist(), strict=True):
            seen.setdefault(process, []).append(memory)
    assert len(seen) == 2
    assert os.getpid() not in seen
    # the least of a stretch: what is held for a moment only is not kept
    return [min(values[-20:]) - min(values[len(values) // 2 :][:20]) for values in seen.values()]


def stays_flat(watched: Watched, **arguments: Any) -> bool:
    """Tell whether one of three runs keeps nothing: a leak shows in each, a busy allocator in some."""
    return any(max(growth(watched, **arguments)) < LEAK_KIB for _ in range(3))


@pytest.fixture
def cached(tree: Any, tmp_path: Path) -> Callable[[str], CTRateDataset]:
    """Builds a data set whose volumes are in the cache."""

    def make(codec: str) -> CTRateDataset:
        dataset = CTRateDataset(tree.root, preset=PRESET, cache_dir=tmp_path / codec, cache_codec=codec)
        for index in range(len(dataset)):
            _ = dataset[index]
        return dataset

    return make


@alone
@pytest.mark.parametrize("codec", ["zstd", "uncompressed"])
@pytest.mark.parametrize("prefetch", [1, 4])
def test_memory_of_reading_processes_stays_flat(cached: Any, codec: str, prefetch: int) -> None:
    assert stays_flat(Watched(cached(codec), ITEMS), prefetch_factor=prefetch)


@alone
def test_memory_of_reading_shards_stays_flat(tree: Any, tmp_path: Path) -> None:
    pytest.importorskip("litdata", reason="the extra [stream] is not installed")
    write_shards(CTRateDataset(tree.root, preset=PRESET), tmp_path / "out", progress=False)
    assert stays_flat(Watched(ShardDataset(tmp_path / "out"), ITEMS))


def test_memory_in_a_process_of_its_own(run_alone: Callable[..., str]) -> None:
    # what other tests left in this process hides what its forks take
    chosen = "(flat and zstd and 4) or leak"
    assert "2 passed" in run_alone(Path(__file__), "-k", chosen, **{ALONE: "1"})


@pytest.mark.slow
def test_memory_with_every_codec_and_prefetch(run_alone: Callable[..., str]) -> None:
    assert "6 passed" in run_alone(Path(__file__), "-k", "flat or leak", **{ALONE: "1"})


@alone
def test_a_leak_would_be_seen(cached: Any) -> None:
    assert min(growth(Watched(cached("uncompressed"), ITEMS, leak=True))) > LEAK_KIB


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("prefetch", [1, 3])
def test_no_more_is_read_ahead_than_was_asked_for(workers: int, prefetch: int) -> None:
    watched = Watched([{"image": torch.zeros(1)}], 40)
    batches = iter(make_loader(watched, batch_size=2, num_workers=workers, prefetch_factor=prefetch))
    for taken in (1, 2, 3):
        next(batches)
        most = 2 * (taken + workers * prefetch)
        end = time.monotonic() + 10
        while watched.started.value < most and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.05)
        assert watched.started.value == most


@pytest.mark.slow
@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_processes_of_every_kind_read(tree: Any, start: str) -> None:
    dataset = CTRateDataset(tree.root, preset=PRESET)
    loader = make_loader(dataset, batch_size=2, num_workers=2, multiprocessing_context=start, timeout=120)
    assert loader.worker_init_fn is None
    assert torch.equal(next(iter(loader))["image"][0], dataset[0]["image"])
    assert loader.worker_init_fn.forked is False


def test_forks_of_a_process_with_threads(run_alone: Callable[..., str]) -> None:
    assert "3 passed" in run_alone(Path(__file__).with_name("threads_in_forks.py"))


def tell(worker: int) -> None:
    """Stands for a start function of the user."""
    os.environ["STARTED"] = str(worker)


class Two(Dataset[dict[str, Any]]):
    """Two items that tell nothing."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"index": index}


class Started(Two):
    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"started": int(os.environ["STARTED"]), "openmp": int(os.environ["OMP_NUM_THREADS"])}


def test_start_functions_of_others_are_called_too() -> None:
    loader = make_loader(Started(), batch_size=1, num_workers=2, worker_init_fn=tell)
    for _ in range(2):
        assert [batch["started"].item() for batch in loader] == [0, 1]
    assert "STARTED" not in os.environ


@pytest.mark.parametrize("has_gpu", [False, True])
def test_memory_is_pinned_where_a_gpu_is(tree: Any, has_gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    data = CTRateDataModule(tree.root, PRESET, val_fraction=0, num_workers=2, prefetch=3)
    data.setup("fit")
    loader = data.train_dataloader()
    assert loader.pin_memory is has_gpu
    assert loader.prefetch_factor == 3
    assert CTRateDataModule(tree.root, PRESET, pin_memory=not has_gpu).pin_memory is not has_gpu


def order(loader: ResumableDataLoader) -> list[list[int]]:
    return [batch["index"].tolist() for batch in loader]


def test_a_run_goes_on_after_a_reading_process_was_killed(tmp_path: Path) -> None:
    def loader(kill_at: Path | None = None) -> ResumableDataLoader:
        watched = Watched([{"image": torch.zeros(1)}], 24)
        watched.kill_at = kill_at
        made = make_loader(watched, batch_size=2, shuffle=True, seed=4, num_workers=2)
        made.set_epoch(1)
        return made

    expected = order(loader())
    flag = tmp_path / "kill"
    flag.write_text(str(expected[8][0]))
    killed = loader(flag)
    seen: list[list[int]] = []
    states: list[dict[str, Any]] = []

    def run() -> None:
        for batch in killed:
            seen.append(batch["index"].tolist())
            states.append(killed.state_dict())

    # torch's error, or ours where the process died while it handed over a batch
    reasons = r"DataLoader worker \(pid.*\) (is killed by signal|exited unexpectedly)|A reading process died"
    with pytest.raises((RuntimeError, DatasetError), match=reasons):
        run()
    assert 0 < len(seen) <= 8
    assert seen == expected[: len(seen)]
    resumed = loader(flag)
    flag.unlink()
    resumed.load_state_dict(states[-1])
    assert seen + order(resumed) == expected


class Broken(Two):
    def __init__(self, message: str) -> None:
        self.message = message

    def __getitem__(self, index: int) -> dict[str, Any]:
        raise ConnectionResetError(self.message)


def test_errors_of_the_data_set_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConnectionResetError, match="the store is gone"):
        list(make_loader(Broken("the store is gone"), batch_size=1, num_workers=1))

    def lost(loader: Any) -> Any:
        raise ConnectionResetError(104, "Connection reset by peer")
        yield

    monkeypatch.setattr(torch.utils.data.DataLoader, "__iter__", lost)
    with pytest.raises(DatasetError, match="A reading process died"):
        list(make_loader(Two(), batch_size=1, num_workers=1))


def test_processes_that_stay_resume_too() -> None:
    def loader(**arguments: Any) -> ResumableDataLoader:
        watched = Watched([{"image": torch.zeros(1)}], 14)
        return make_loader(watched, batch_size=2, shuffle=True, seed=2, **arguments)

    plain, epochs = loader(), []
    for epoch in range(3):
        plain.set_epoch(epoch)
        epochs.append(order(plain))
    lasting: dict[str, Any] = {"num_workers": 2, "persistent_workers": True}
    staying = loader(**lasting)
    for epoch in range(2):
        staying.set_epoch(epoch)
        assert order(staying) == epochs[epoch]
    staying.set_epoch(2)
    running = iter(staying)
    seen = [next(running)["index"].tolist() for _ in range(3)]
    state = staying.state_dict()
    resumed = loader(**lasting)
    resumed.load_state_dict(state)
    assert seen + order(resumed) == epochs[2]
    running.close()
    staying.set_epoch(1)
    assert order(staying) == epochs[1]  # what was left of the broken-off pass does not come now
    staying.load_state_dict(state)
    assert seen + order(staying) == epochs[2]
