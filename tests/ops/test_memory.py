"""Memory is used again when, and only when, no tensor shares it any more."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import torch

from ct_vlm.ops import memory
from ct_vlm.ops.mask_pool import index_labels, mask_pool
from ct_vlm.ops.memory import empty_large, release_memory

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _small_buffers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take a few bytes for large, and start and end with nothing kept."""
    release_memory()
    monkeypatch.setattr(memory, "SMALLEST", 16)
    yield
    release_memory()


def test_memory_of_a_dead_tensor_is_used_again() -> None:
    first = empty_large(4, 8, dtype=torch.float32)
    place = first.data_ptr()
    del first
    again = empty_large(16, 5, dtype=torch.int16)
    assert again.data_ptr() != place
    del again
    assert empty_large(8, 4, dtype=torch.float32).data_ptr() == place


def test_a_view_keeps_its_memory() -> None:
    first = empty_large(4, 8, dtype=torch.float32)
    view = first.fill_(2.0)[1:3].T
    del first
    empty_large(4, 8, dtype=torch.float32).fill_(5.0)
    assert (view == 2).all()


def test_tensors_in_use_never_share() -> None:
    tensors = [empty_large(4, 8, dtype=torch.float32).fill_(i) for i in range(4)]
    assert [float(tensor.max()) for tensor in tensors] == [0, 1, 2, 3]
    assert len({tensor.data_ptr() for tensor in tensors}) == 4


def test_gradients_of_two_steps_are_independent() -> None:
    labels = torch.randint(0, 3, (1, 2, 3, 4))
    features = torch.randn(1, 24, 5, dtype=torch.float64, requires_grad=True)
    index = index_labels(labels, 2)
    kept, expected = [], []
    for scale in (1, 2, 3):
        kept.append(torch.autograd.grad(mask_pool(features, index).sum() * scale, features)[0])
        expected.append(torch.autograd.grad(mask_pool(features, index, backend="naive").sum() * scale, features)[0])
    torch.testing.assert_close(kept, expected)


def test_a_leaf_accumulates_over_steps() -> None:
    features = torch.randn(1, 24, 5, requires_grad=True)
    index = index_labels(torch.ones(1, 2, 3, 4, dtype=torch.uint8), 1)
    for _ in range(3):
        mask_pool(features, index, reduce="sum").sum().backward()
    assert features.grad is not None
    assert (features.grad == 3).all()


def test_limit_lets_go_of_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LIMIT", 200)
    tensors = [empty_large(size, dtype=torch.uint8) for size in (100, 90, 80)]
    while tensors:
        del tensors[0]
    assert release_memory() == 170
    assert release_memory() == 0


def test_small_tensors_and_other_devices_are_plain() -> None:
    assert empty_large(3, dtype=torch.float32).shape == (3,)
    assert empty_large(100, dtype=torch.float32, device="meta").is_meta
    assert release_memory() == 0


def test_threads_never_share_memory() -> None:
    def work(number: int) -> bool:
        fine = True
        for step in range(200):
            tensor = empty_large(4 + step % 3, 8, dtype=torch.float32).fill_(number)
            fine = fine and bool((tensor == number).all())
        return fine

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))
