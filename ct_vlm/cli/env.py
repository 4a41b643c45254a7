"""Show versions, devices, optional packages and ops; paste it into a bug report.

An optional package that is absent is listed with what it is for, a backend of an op that is off with the reason.
"""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any

from ct_vlm.cli.output import say, say_json, say_table

if TYPE_CHECKING:
    import argparse

REQUIRED = (
    "torch",
    "lightning",
    "transformers",
    "tokenizers",
    "peft",
    "monai",
    "torchmetrics",
    "timm",
    "einops",
    "numpy",
    "scipy",
    "pandas",
    "nibabel",
    "isal",
    "safetensors",
    "jsonargparse",
    "rich",
    "matplotlib",
)
OPTIONAL = {
    "flash_attn": ("flash-attn", "fused attention on CUDA; without it PyTorch's own attention runs (extra `flash`)"),
    "flash_attn.cute": ("flash-attn-4", "the same for newer CUDA devices, needs no compiler (extra `flash4`)"),
    "triton": ("triton", "fused kernels on CUDA; comes with CUDA builds of torch"),
    "av": ("av", "films (MP4) of volumes; without it frames stay in memory (extra `video`)"),
    "pycocoevalcap": ("pycocoevalcap", "the reference BLEU our own is tested against (extra `metrics`)"),
    "tensorboard": ("tensorboard", "TensorBoard logs; without it Lightning logs to CSV"),
}
"""Import name to distribution name and purpose."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ct-vlm env``."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(args: argparse.Namespace) -> int:
    """Print the environment."""
    found = collect()
    if args.json:
        say_json(found)
        return 0
    for title, values in found.items():
        if title != "ops":
            say_table(title, ("name", "value"), [(name, str(value)) for name, value in values.items()])
            say("")
    rows = [
        (op, name, "chosen" if entry["chosen"] else "available" if entry["available"] else "off", entry["reason"])
        for op, backends in found["ops"].items()
        for name, entry in backends.items()
    ]
    say_table("ops", ("op", "backend", "state", "reason"), rows)
    return 0


def collect() -> dict[str, dict[str, Any]]:
    """Return system, devices, required and optional packages, and the backends of every op.

    Example:
        >>> sorted(collect())
        ['devices', 'ops', 'optional packages', 'packages', 'system']
    """
    from ct_vlm import __version__

    return {
        "system": {
            "ct_vlm": __version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cpu cores": os.cpu_count(),
        },
        "devices": _devices(),
        "packages": {name: version(name) or "MISSING: reinstall ct_vlm" for name in REQUIRED},
        "optional packages": {name: _optional(name) for name in OPTIONAL},
        "ops": _ops(),
    }


def version(distribution: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available()
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if cuda else []
    return {
        "torch CUDA build": torch.version.cuda or "none (CPU build)",
        "CUDA devices": names or "none visible",
        "MPS": "available" if torch.backends.mps.is_available() else "not available",
        "torch threads": torch.get_num_threads(),
    }


def _ops() -> dict[str, dict[str, dict[str, Any]]]:
    """Return which backends of every op run here, for a small typical call on the best device."""
    from ct_vlm.ops import list_ops
    from ct_vlm.ops.dispatch import explain

    return {
        op: {
            status.name: {"available": status.available, "chosen": status.chosen, "reason": status.reason}
            for status in explain(op)
        }
        for op in list_ops()
    }


def _optional(name: str) -> str:
    distribution, purpose = OPTIONAL[name]
    found = version(distribution)
    if found is not None:
        return found
    # two distributions share the name `flash_attn`: a module within it tells nothing of the one asked for
    present = "." not in name and importlib.util.find_spec(name) is not None
    return "present, version unknown" if present else f"absent: {purpose}"
