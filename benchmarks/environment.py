"""What every row says about where and when it was measured."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from ct_vlm.errors import ConfigError
from ct_vlm.ops.dispatch import VARIABLE

ROOT = Path(__file__).resolve().parents[1]
CODE = ("ct_vlm", "benchmarks", ":!benchmarks/results")


@dataclass(frozen=True)
class Environment:
    """Where and when a run took place."""

    date: str
    revision: str
    device: str
    processor: str
    torch: str
    triton: str
    threads: int


def describe(device: torch.device) -> Environment:
    """Look at the machine, the packages and the working tree."""
    return Environment(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        revision=_revision(),
        device=device.type,
        processor=torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        torch=torch.__version__,
        triton=importlib.metadata.version("triton") if importlib.util.find_spec("triton") else "",
        threads=torch.get_num_threads(),
    )


def check_comparable(device: torch.device, dtype: torch.dtype) -> None:
    """Refuse settings under which a time would say nothing about speed.

    Raises:
        ConfigError: If the device is absent, the data type is a slow one there, or the environment
            replaces what runs.
    """
    if device.type == "cuda" and not torch.cuda.is_available():
        cause = "There is no CUDA device."
        raise ConfigError(cause, "Use `--device cpu`.")
    if device.type == "cpu" and dtype.itemsize < 4:
        cause = f"{str(dtype).removeprefix('torch.')} on a CPU is emulated by many of them, so its time says nothing."
        raise ConfigError(cause, "Use `--dtype float32`, or `--device cuda`.")
    if os.environ.get("TRITON_INTERPRET", "0") not in {"", "0"}:
        cause = "`TRITON_INTERPRET` is set: kernels would run in an interpreter, whose time says nothing."
        raise ConfigError(cause, "Unset it; tests set it for themselves.")
    if os.environ.get(VARIABLE):
        cause = f"`{VARIABLE}` is set: it replaces the backends that rows are named after."
        raise ConfigError(cause, "Unset it.")


def load() -> float:
    """Return the mean number of running processes over the last minute."""
    return os.getloadavg()[0]


def cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _revision() -> str:
    """Return the commit, with a mark if the code is not as committed; empty outside a working tree."""
    head = _git("rev-parse", "--short=12", "HEAD")
    return f"{head}-dirty" if head and _git("status", "--porcelain", "--", *CODE) else head


def _git(*arguments: str) -> str:
    try:
        # fixed arguments; git is found as in a shell
        command = ["git", *arguments]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        return ""
    return ended.stdout.strip() if ended.returncode == 0 else ""


def _processor() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
