"""Choose which implementation of an op runs.

An op is a folder of ``ct_vlm.ops`` whose package defines

- its public function, which ends in :func:`dispatch`,
- ``BACKENDS``: its implementations in order of preference, and
- ``example_inputs(device)``: keyword arguments of a small typical call, on which :func:`explain`
  (``ct-vlm env``) finds out what runs on a machine.

``auto`` takes the first backend that can run the inputs. The environment variable ``CT_VLM_OPS``
replaces ``auto`` (never an explicit argument): ``CT_VLM_OPS=naive`` for every op that has such a
backend, ``CT_VLM_OPS=zone_attention=naive,mask_pooling=torch`` for single ops.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import torch

NAMES = ("auto", "flash", "varlen", "triton", "sdpa", "torch", "naive")
"""Backend names; which of them an op has, its ``BACKENDS`` say."""

VARIABLE = "CT_VLM_OPS"
OLDEST_CAPABILITY = (7, 0)  # tensor cores; Triton compiles for nothing older


@dataclass(frozen=True)
class Backend:
    """One implementation of an op.

    Args:
        name: One of :data:`NAMES` except ``auto``.
        run: Called with the op's arguments.
        why_not: Called with the same arguments; why this backend cannot run them, or None.
    """

    name: str
    run: Callable[..., Any]
    why_not: Callable[..., str | None]


@dataclass(frozen=True)
class BackendStatus:
    """What :func:`explain` says about one backend of an op.

    Args:
        op: Name of the op.
        name: Name of the backend.
        available: Whether it can run the op's example inputs.
        chosen: Whether ``auto`` takes it for them.
        reason: Why it is off, or why an available backend is not taken; empty if chosen.
    """

    op: str
    name: str
    available: bool
    chosen: bool
    reason: str


def dispatch(op: str, backends: Sequence[Backend], backend: str, *args: Any, **kwargs: Any) -> Any:
    """Run an op by the backend asked for, or by the first that can.

    Args:
        op: Name of the op, as in ``CT_VLM_OPS``.
        backends: Its implementations in order of preference.
        backend: ``auto`` or the name of one of them.
        *args: Arguments of the op.
        **kwargs: Keyword arguments of the op.

    Returns:
        What the backend returns.

    Raises:
        ConfigError: If the backend is unknown or cannot run these inputs, or none can.

    Example:
        >>> from ct_vlm.ops.dispatch import Backend, dispatch
        >>> slow = Backend("naive", lambda x: x + 1, lambda x: None)
        >>> fast = Backend("triton", lambda x: x + 1, lambda x: "no GPU")
        >>> dispatch("increment", [fast, slow], "auto", 1)
        2
    """
    return choose(op, backends, backend, *args, **kwargs).run(*args, **kwargs)


def choose(op: str, backends: Sequence[Backend], backend: str, *args: Any, **kwargs: Any) -> Backend:
    """Return the backend that :func:`dispatch` runs for these arguments; same arguments and errors."""
    source = "`backend`"
    if backend == "auto":
        asked = override(op, [item.name for item in backends])
        if asked is not None:
            backend, source = asked, f"The environment variable `{VARIABLE}`"
    if backend == "auto":
        return _first_usable(op, backends, args, kwargs)
    named = {item.name: item for item in backends}
    if backend not in named:
        cause = f"{source} asks for `{backend}`, which `{op}` does not have."
        raise ConfigError(cause, f"Use one of: {', '.join(['auto', *named])}.")
    reason = named[backend].why_not(*args, **kwargs)
    if reason is not None:
        cause = f"{source} asks for `{backend}`, which cannot run these inputs of `{op}`: {reason}."
        raise ConfigError(cause, 'Use `backend="auto"`, or change what it names.')
    return named[backend]


def explain(op: str, device: str | torch.device | None = None) -> list[BackendStatus]:
    """Say for every backend of an op whether it runs here, whether it is chosen, and why it is off.

    Args:
        op: Name of a folder of ``ct_vlm.ops``.
        device: Device of the example inputs; the first CUDA device if there is one, else the CPU.

    Raises:
        ConfigError: If there is no such op.

    Example:
        >>> from ct_vlm.ops.dispatch import explain
        >>> [status.chosen for status in explain("zone_attention", "cpu")].count(True)
        1
    """
    from ct_vlm.ops import list_ops

    if op not in list_ops():
        cause = f"There is no op `{op}`."
        raise ConfigError(cause, f"Ops are: {', '.join(list_ops())}.")
    module = importlib.import_module(f"ct_vlm.ops.{op}")
    inputs = module.example_inputs(_default_device() if device is None else device)
    try:
        chosen = choose(op, module.BACKENDS, "auto", **inputs).name
    except ConfigError as error:
        chosen, other = "", str(error)
    else:
        other = f"`{chosen}` is taken before it"
    found = []
    for item in module.BACKENDS:
        reason = item.why_not(**inputs)
        is_chosen = item.name == chosen
        text = "" if is_chosen else reason or other
        found.append(BackendStatus(op, item.name, reason is None, is_chosen, text))
    return found


def runs_anywhere(*_args: Any, **_kwargs: Any) -> None:
    """Say that a backend runs any inputs: the ``why_not`` of references."""


def triton_usable(device: str | torch.device) -> str | None:
    """Return why Triton kernels cannot run on tensors of a device, or None if they can.

    They run on CUDA devices, and on the CPU in Triton's interpreter, which checks results and is
    far too slow for anything else: ``TRITON_INTERPRET=1`` must be set before Triton is imported.

    Args:
        device: Where the tensors are.

    Example:
        >>> from ct_vlm.ops.dispatch import triton_usable
        >>> "meta" in (triton_usable("meta") or "")
        True
    """
    import torch

    device = torch.device(device)
    if device.type not in {"cpu", "cuda"}:
        return f"Triton kernels run on CUDA devices, not on `{device.type}`"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (it comes with CUDA builds of torch)"
    if device.type == "cpu":
        return _interpreter_off()
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST_CAPABILITY:
        return f"compute capability {capability[0]}.{capability[1]} is older than {OLDEST_CAPABILITY[0]}.0"
    return None


def override(op: str, names: Sequence[str]) -> str | None:
    """Return the backend that ``CT_VLM_OPS`` asks for, or None.

    Args:
        op: Name of the op.
        names: Its backends; one name for all ops touches only those that have it.

    Raises:
        ConfigError: If the variable holds a name that no op has.
    """
    asked = None
    for entry in filter(None, (part.strip() for part in os.environ.get(VARIABLE, "").split(","))):
        target, has_target, name = entry.rpartition("=")
        if name not in NAMES:
            cause = f"The environment variable `{VARIABLE}` holds `{entry}`, and `{name}` is no backend."
            raise ConfigError(cause, f"Backends are: {', '.join(NAMES)}; write `op=backend` or one name for all ops.")
        if target == op:
            return name
        if not has_target and name in names:
            asked = name
    return asked


def _interpreter_off() -> str | None:
    """Return why Triton's interpreter is off, or None."""
    if os.environ.get("TRITON_INTERPRET") not in {"1", "true", "on", "yes", "y"}:
        return "tensors are on the CPU (Triton's interpreter can check kernels there: TRITON_INTERPRET=1)"
    import triton.language as tl

    # Triton decorates its own library at import: set later, the variable gives kernels that call compiled code
    if type(tl.sum).__name__ != "InterpretedFunction":
        return "TRITON_INTERPRET was set after triton was imported"
    return None


def _first_usable(op: str, backends: Sequence[Backend], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Backend:
    """Return the first backend that can run the inputs; never the interpreter."""
    reasons = {}
    for item in backends:
        reason = item.why_not(*args, **kwargs)
        if reason is None and item.name == "triton" and not _on_gpu([*args, *kwargs.values()]):
            reason = "the interpreter is for checks only"
        if reason is None:
            return item
        reasons[item.name] = reason
    cause = f"No backend of `{op}` can run these inputs: " + "; ".join(f"{k}: {v}" for k, v in reasons.items()) + "."
    raise ConfigError(cause, "Change what they name.")


def _on_gpu(values: Iterable[Any]) -> bool:
    return any(getattr(value, "is_cuda", False) for value in values)


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
