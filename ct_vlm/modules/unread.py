"""Parameters that no loss reads: they take no gradient, and are handed on as ready to train as ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import nn

# on modules, not on tensors: copies of a module keep it
_MARK = "_ct_vlm_unread"


def leave_unread(module: nn.Module, parts: Iterable[str], read: Callable[[str], bool] | None = None) -> None:
    """Turn the gradients of some parts off until :func:`wake_unread`.

    Data parallelism waits for the gradient of every parameter that requires one, so parts that no loss
    reads must require none. Unlike frozen parts they keep their mode, and parameters that are frozen
    already are not noted as unread.

    Args:
        module: Holds the parts.
        parts: Names of parts; those that it does not have are passed over.
        read: Tells of a parameter's name whether something reads it after all; nothing does unless given.

    Example:
        >>> from torch import nn
        >>> from ct_vlm.modules.unread import leave_unread, unread_names, wake_unread
        >>> model = nn.ModuleDict({"body": nn.Linear(2, 2), "head": nn.Linear(2, 1)})
        >>> leave_unread(model, ["head"])
        >>> model["head"].weight.requires_grad, sorted(unread_names(model))
        (False, ['head.bias', 'head.weight'])
        >>> wake_unread(model)
        >>> model["head"].weight.requires_grad, sorted(unread_names(model))
        (True, [])
    """
    inside = tuple(f"{part}." for part in parts)
    for path, owner in module.named_modules():
        for name, parameter in owner.named_parameters(recurse=False):
            full = f"{path}.{name}" if path else name
            if full.startswith(inside) and parameter.requires_grad and not (read is not None and read(full)):
                parameter.requires_grad_(False)
                owner.__dict__.setdefault(_MARK, set()).add(name)


def unread_names(module: nn.Module) -> frozenset[str]:
    """Return the names of the parameters that :func:`leave_unread` turned off.

    Args:
        module: Holds them.
    """
    return frozenset(
        f"{path}.{name}" if path else name for path, owner in module.named_modules() for name in _marks(owner)
    )


def wake_unread(module: nn.Module) -> None:
    """Turn the gradients of unread parameters on again, e.g. for a task built from the parts of another one.

    Args:
        module: Holds them.
    """
    for owner in module.modules():
        for name in _marks(owner):
            parameter = owner._parameters.get(name)
            if parameter is not None:
                parameter.requires_grad_(True)
        owner.__dict__.pop(_MARK, None)


def _marks(owner: nn.Module) -> set[str]:
    marks: set[str] = owner.__dict__.get(_MARK, set())
    return marks
