"""What op tests share: the device kernels run on, and memory that is poisoned where nothing was written."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from ct_vlm.ops.dispatch import triton_usable

if TYPE_CHECKING:
    from collections.abc import Callable

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


@pytest.fixture
def compiled(tmp_path) -> Callable[..., str]:
    """Run a script that compiles kernels in a process without the interpreter; give what it prints."""
    pytest.importorskip("triton", reason="triton is not installed")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)

    def run(script: str, *arguments: object) -> str:
        command = [sys.executable, "-c", script, *map(str, arguments)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert ended.returncode == 0, ended.stderr[-2000:]
        return ended.stdout

    return run


@pytest.fixture
def far_rows(kernel_device: torch.device) -> torch.Tensor:
    """Three rows of eight fp16 numbers; the third begins 2**31 elements behind the first."""
    if kernel_device.type != "cpu":
        pytest.skip("needs memory that is only reserved, never touched: host memory")
    # in pages that cost nothing until they are written
    stride, dim = 2**30, 8
    try:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        pages = mmap.mmap(-1, 2 * (2 * stride + dim), flags=flags)
    except (OSError, AttributeError) as error:
        pytest.skip(f"this system does not reserve 4 GiB of addresses: {error}")
    rows = torch.frombuffer(pages, dtype=torch.float16).as_strided((3, dim), (stride, 1))
    for row in rows:
        row.copy_(torch.randn(dim))
    return rows


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
