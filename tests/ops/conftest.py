"""What op tests share: the device kernels run on, and memory that is poisoned where nothing was written."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.ops.dispatch import triton_usable

_EMPTY = torch.empty
_EMPTY_LIKE = torch.empty_like
_EMPTY_STRIDED = torch.empty_strided
_NEW_EMPTY = torch.Tensor.new_empty


@pytest.fixture
def kernel_device() -> torch.device:
    """The device on which Triton kernels are tested: a GPU, or the CPU through Triton's interpreter."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    reason = triton_usable(device)
    if reason is not None:
        pytest.skip(f"Triton kernels cannot run here: {reason}")
    return device


@pytest.fixture(autouse=True)
def _poisoned_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill uninitialised tensors, so that an op which forgets to write an element is found out.

    Floats get NaN, integers a value that no size or index has.
    """
    monkeypatch.setattr(torch, "empty", lambda *args, **kwargs: _poison(_EMPTY(*args, **kwargs)))
    monkeypatch.setattr(torch, "empty_like", lambda *args, **kwargs: _poison(_EMPTY_LIKE(*args, **kwargs)))
    monkeypatch.setattr(torch, "empty_strided", lambda *args, **kwargs: _poison(_EMPTY_STRIDED(*args, **kwargs)))
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *args, **kwargs: _poison(_NEW_EMPTY(*args, **kwargs)))


def _poison(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.device.type == "meta" or tensor.numel() == 0:
        return tensor
    with torch.no_grad():
        if tensor.is_floating_point() or tensor.is_complex():
            return tensor.fill_(float("nan"))
        return tensor.fill_(True if tensor.dtype == torch.bool else torch.iinfo(tensor.dtype).max)
