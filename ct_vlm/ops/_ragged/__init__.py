"""Attention of segments with equally many queries to ragged runs of keys; what several ops share.

A segment is a zone of a volume, or a report with its visual memory. Only the reasons why a backend
cannot run are here; the backends themselves are imported when one of them is chosen.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.ops.dispatch import triton_usable

if TYPE_CHECKING:
    from torch import Tensor

HALF = (torch.float16, torch.bfloat16)
WIDEST_HEAD = 256


def flash_why_not(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> str | None:
    """Return why flash-attn cannot run these tensors, or None."""
    reason = _half_on_cuda(query, key, value)
    if reason is not None:
        return reason
    if flash_version(query.device) is None:
        return "flash-attn is not installed (extras `flash`, `flash4`)"
    needs_backward = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, key, value))
    if needs_backward and flash_version(query.device) == 4 and capability(query.device) < (9, 0):
        return "flash-attn-4 has no backward below compute capability 9.0 (extra `flash` has)"
    return None


def varlen_why_not(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> str | None:
    """Return why ``torch.nn.attention.varlen`` cannot run these tensors, or None."""
    reason = _half_on_cuda(query, key, value)
    if reason is not None:
        return reason
    if not torch.backends.cuda.is_flash_attention_available():
        return "this build of torch has no flash attention"
    return None


def kernel_why_not(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> str | None:
    """Return why the Triton kernel cannot run these tensors, or None."""
    if query.dtype not in (*HALF, torch.float32) or len({query.dtype, key.dtype, value.dtype}) > 1:
        return f"the kernel takes one of fp16, bf16 and fp32, not {_names(query, key, value)}"
    if query.shape[-1] > WIDEST_HEAD:
        return f"heads are {query.shape[-1]} wide, more than {WIDEST_HEAD}"
    return triton_usable(query.device)


def flash_version(device: torch.device) -> int | None:
    """Return which flash-attn to call on a device: 4 from compute capability 9 on, else 2, if installed."""
    installed = [number for number, name in ((4, "flash-attn-4"), (2, "flash-attn")) if _is_installed(name)]
    if 2 in installed and capability(device) < (9, 0):
        return 2
    return installed[0] if installed else None


def capability(device: torch.device) -> tuple[int, int]:
    """Return the compute capability of a CUDA device."""
    return torch.cuda.get_device_capability(device)


def _half_on_cuda(query: Tensor, key: Tensor, value: Tensor) -> str | None:
    """Return why a flash kernel for half precision cannot run, or None."""
    if query.device.type != "cuda":
        return f"tensors are on the {query.device.type.upper()}, it runs on CUDA"
    if query.dtype not in HALF or len({query.dtype, key.dtype, value.dtype}) > 1:
        return f"it takes fp16 or bf16, not {_names(query, key, value)}"
    if query.shape[-1] % 8 or query.shape[-1] > WIDEST_HEAD:
        return f"heads are {query.shape[-1]} wide: it takes multiples of 8 up to {WIDEST_HEAD}"
    if capability(query.device) < (8, 0):
        return "it needs compute capability 8.0 or newer"
    return None


def _names(*tensors: Tensor) -> str:
    return " with ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors}))


@lru_cache
def _is_installed(distribution: str) -> bool:
    """Tell whether a distribution is installed, without importing it."""
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
