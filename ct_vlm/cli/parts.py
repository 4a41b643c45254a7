"""Find every part of the library, so that commands can list it and YAML files can name it briefly."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import NamedTuple

import ct_vlm
from ct_vlm.errors import MissingDependencyError

PART_PACKAGES = (
    "encoders",
    "modules",
    "decoders",
    "losses",
    "metrics",
    "transforms",
    "datasets",
    "datamodules",
    "models",
    "tasks",
    "callbacks",
)
"""Sub-packages whose classes a YAML file may name by their short name."""


class Part(NamedTuple):
    """One public class: its name, sub-package, import path and first docstring line."""

    name: str
    package: str
    path: str
    summary: str


def import_parts() -> dict[str, str]:
    """Import every module of the part packages.

    Returns:
        Module name to the reason why it could not be imported, for modules of optional packages.
    """
    absent = {}
    for package_name in PART_PACKAGES:
        package = importlib.import_module(f"{ct_vlm.__name__}.{package_name}")
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            try:
                importlib.import_module(info.name)
            except MissingDependencyError as error:
                absent[info.name] = str(error)
    return absent


def subclasses(base: type) -> list[type]:
    """Return every imported subclass of a class, at any depth, each once.

    Args:
        base: The class to start from; not part of the result.

    Returns:
        Classes in the order they are met.

    Example:
        >>> [cls.__name__ for cls in subclasses(ArithmeticError)][:3]
        ['FloatingPointError', 'OverflowError', 'ZeroDivisionError']
    """
    found: dict[type, None] = {}
    waiting: list[type] = [base]
    while waiting:
        children: list[type] = waiting.pop().__subclasses__()
        waiting.extend(child for child in children if child not in found)
        found.update(dict.fromkeys(children))
    return list(found)


def list_parts() -> list[Part]:
    """Return the public parts of the library, in the order of the packages and then by name."""
    from lightning import Callback, LightningDataModule
    from torch import nn
    from torch.utils.data import Dataset

    import_parts()
    classes = [cls for base in (nn.Module, Callback, LightningDataModule, Dataset) for cls in subclasses(base)]
    parts = {f"{cls.__module__}.{cls.__qualname__}": _describe(cls) for cls in classes if _is_public_part(cls)}
    return sorted(parts.values(), key=lambda part: (PART_PACKAGES.index(part.package), part.name))


def _is_public_part(cls: type) -> bool:
    root, _, rest = cls.__module__.partition(".")
    hidden = cls.__name__.startswith("_") or inspect.isabstract(cls)
    return root == ct_vlm.__name__ and rest.split(".")[0] in PART_PACKAGES and not hidden


def _describe(cls: type) -> Part:
    summary = (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")
    return Part(cls.__name__, cls.__module__.split(".")[1], f"{cls.__module__}.{cls.__qualname__}", summary)
