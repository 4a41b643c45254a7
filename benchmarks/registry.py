"""The ops that can be timed: what a file of ``benchmarks/ops`` must and may define.

It must define ``CASES`` (dicts with a ``name``), ``make_inputs(case, device, dtype)``, ``PROVIDERS``
(name to a function of the inputs), ``REFERENCE`` (the provider that runs in float64), ``BASELINE``
(the provider that ratios are quoted against), ``GRADIENTS`` (inputs to differentiate; none: forward
only) and ``floor(case, dtype)`` (least ``flops`` and ``bytes`` of a forward pass).

It may define

- ``TESTS``: the folder of the op's tests, if it is not ``tests/ops/<op>``;
- ``FORWARD_ONLY``: name of a provider or a case to the reason why its backward is not timed;
- ``MISSING``: name of a provider that cannot run on this machine at all to the reason;
- ``shrink(case)``: a smaller case of the same name, on which differences are taken where float64 of
  the case itself does not fit.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

    import torch
    from torch import Tensor

    Case = Mapping[str, Any]
    Inputs = dict[str, Any]
    Provider = Callable[[Inputs], Tensor | tuple[Tensor, ...]]


@dataclass(frozen=True)
class Op:
    """One op with its sizes, its providers and its least work; fields as in the module's docstring."""

    name: str
    cases: Sequence[Case]
    make_inputs: Callable[[Case, str | torch.device, torch.dtype], Inputs]
    providers: Mapping[str, Provider]
    reference: str
    baseline: str
    floor: Callable[[Case, torch.dtype], Mapping[str, int]]
    gradients: tuple[str, ...]
    tests: str
    forward_only: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    shrink: Callable[[Case], Case] | None = None

    @classmethod
    def from_module(cls, module: ModuleType) -> Op:
        """Read the definitions of a module."""
        name = module.__name__.rpartition(".")[2]
        return cls(
            name=name,
            cases=module.CASES,
            make_inputs=module.make_inputs,
            providers=module.PROVIDERS,
            reference=module.REFERENCE,
            baseline=module.BASELINE,
            floor=module.floor,
            gradients=tuple(module.GRADIENTS),
            tests=getattr(module, "TESTS", f"tests/ops/{name}"),
            forward_only=getattr(module, "FORWARD_ONLY", {}),
            missing=getattr(module, "MISSING", {}),
            shrink=getattr(module, "shrink", None),
        )

    def select(self, case: str | None) -> list[Case]:
        """Return the case of a name, or all cases.

        Raises:
            ConfigError: If there is no such case.
        """
        found = [item for item in self.cases if case in {None, item["name"]}]
        if not found:
            cause = f"`{self.name}` has no case `{case}`."
            raise ConfigError(cause, f"Its cases are: {', '.join(item['name'] for item in self.cases)}.")
        return found


def op_names() -> list[str]:
    """Return the names of all ops that can be timed."""
    package = importlib.import_module("benchmarks.ops")
    return sorted(info.name for info in pkgutil.iter_modules(package.__path__) if not info.name.startswith("_"))


def load_op(name: str) -> Op:
    """Import an op's file.

    Raises:
        ConfigError: If there is no such op.
    """
    if name not in op_names():
        cause = f"There is no benchmark of an op `{name}`."
        raise ConfigError(cause, f"Use one of: {', '.join(op_names())}.")
    return Op.from_module(importlib.import_module(f"benchmarks.ops.{name}"))
