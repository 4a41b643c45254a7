"""The base of every part: a LightningModule that round-trips through a JSON config."""

from __future__ import annotations

import enum
import functools
import importlib
import inspect
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch
from lightning import LightningModule
from torch import nn

from ct_vlm.errors import CheckpointError, ConfigError
from ct_vlm.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
_CONFIG_KEYS = {"class_path", "init_args"}


class _Recorded(enum.Enum):
    """What the record of arguments holds in place of a component; equal to itself after copies."""

    COMPONENT = "read the attribute of the same name"


class Component(LightningModule):
    """Base of every encoder, connector, decoder, head and task.

    A component is a plain ``nn.Module`` to whoever calls it in bare PyTorch: no trainer, no
    ``self.log`` and no optimizer are needed. The base adds a JSON config (recorded from the
    constructor's arguments), ``save_pretrained`` / ``from_pretrained`` with safetensors, and use
    inside a parent LightningModule that owns optimizer and logging.

    Constructor arguments must be JSON values, objects with ``to_config``, or other components
    (alone, in a list or in a dict). **A component argument is stored under the attribute of the
    same name**; the config reads it there, so a part that was swapped later is saved as it is.

    Example:
        >>> import torch
        >>> from ct_vlm.component import Component
        >>> class Scale(Component):
        ...     def __init__(self, dim: int, init: float = 1.0) -> None:
        ...         super().__init__()
        ...         self.weight = torch.nn.Parameter(torch.full((dim,), init))
        >>> Scale(4, init=0.5).to_config()["init_args"]
        {'dim': 4, 'init': 0.5}
    """

    _init_args: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Record the arguments of every subclass constructor."""
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]

    def to_config(self) -> dict[str, Any]:
        """Return ``{"class_path": ..., "init_args": {...}}`` with JSON values only.

        Raises:
            ConfigError: If an argument is neither JSON, a component nor has ``to_config``, or the
                class cannot be built again: it is defined in a function, or takes arguments by
                position only.
        """
        args = getattr(self, "_init_args", {})
        _check_rebuildable(type(self), args)
        values = {
            name: _to_json(
                self._attribute(name) if value is _Recorded.COMPONENT else value, f"{type(self).__name__}.{name}"
            )
            for name, value in args.items()
        }
        if "<locals>" in type(self).__qualname__:
            cause = f"`{type(self).__qualname__}` is defined in a function, where a config cannot find it."
            raise ConfigError(cause, "Move the class to a module.")
        return {"class_path": f"{type(self).__module__}.{type(self).__qualname__}", "init_args": values}

    def _attribute(self, name: str) -> Any:
        """Return the component that the constructor got as argument ``name``."""
        if not hasattr(self, name):
            cause = f"`{type(self).__name__}` got a component as `{name}` and has no attribute of that name."
            raise ConfigError(cause, f"Store it in the constructor: `self.{name} = {name}`.")
        return getattr(self, name)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build a component from what :meth:`to_config` returned.

        Args:
            config: ``class_path`` and ``init_args``; nested configs are built first.

        Raises:
            ConfigError: If the class cannot be found, is no subclass of this class, or refuses
                the arguments.
        """
        component = build_from_config(config)
        if not isinstance(component, cls):
            cause = f"Expected a config of `{cls.__name__}`, but got `{config.get('class_path')}`."
            raise ConfigError(cause, "Call `from_config` on the class that the config names, or on `Component`.")
        return component

    def save_pretrained(self, directory: str | Path) -> Path:
        """Write ``config.json`` and ``model.safetensors`` into a directory, atomically.

        Args:
            directory: Where to write; made if absent.

        Returns:
            The directory.
        """
        from safetensors.torch import save_model

        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_config(), indent=2, allow_nan=False)
        with atomic_path(folder / WEIGHTS_NAME) as temporary:
            save_model(self, str(temporary))
        with atomic_path(folder / CONFIG_NAME) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return folder

    @classmethod
    def from_pretrained(cls, source: str | Path) -> Self:
        """Rebuild a component from a directory or a hub id; every key must match.

        Weights keep the floating-point type that they were saved in.

        Args:
            source: Directory written by :meth:`save_pretrained`, or a Hugging Face hub id.

        Raises:
            CheckpointError: If files are absent or unreadable, or keys are missing or unexpected.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_model

        folder = _resolve_source(source)
        try:
            config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            cause = f"Cannot read `{folder / CONFIG_NAME}`: {error}."
            raise CheckpointError(cause, "Pass a directory written by `save_pretrained`.") from error
        component = cls.from_config(config)
        try:
            match_dtypes(component, _stored_dtypes(folder / WEIGHTS_NAME))
            load_model(component, str(folder / WEIGHTS_NAME), strict=True)
        except (OSError, RuntimeError, SafetensorError) as error:
            cause = f"`{folder / WEIGHTS_NAME}` does not fit the model that its config describes: {error}"
            raise CheckpointError(cause, "Save config and weights from one model, in one call.") from error
        return component

    def freeze(self) -> Self:
        """Stop training every parameter (``requires_grad`` off) and switch to eval mode."""
        self.requires_grad_(False)
        return self.eval()


def match_dtypes(module: nn.Module, dtypes: Mapping[str, torch.dtype]) -> None:
    """Give floating-point parameters and buffers the types that stored tensors have.

    Args:
        module: Module to change in place.
        dtypes: State-dict key to type; other keys are ignored.
    """
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    for key, tensor in named:
        dtype = dtypes.get(key, tensor.dtype)
        if dtype != tensor.dtype and dtype.is_floating_point and tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)


def _stored_dtypes(file: Path) -> dict[str, torch.dtype]:
    """Return the type of every floating-point tensor of a safetensors file."""
    from safetensors import safe_open

    names = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    with safe_open(str(file), framework="pt") as tensors:
        stored = {key: tensors.get_slice(key).get_dtype() for key in tensors.keys()}  # noqa: SIM118  (no mapping)
    return {key: names[name] for key, name in stored.items() if name in names}


def build_from_config(config: Mapping[str, Any]) -> Any:
    """Build the object that a ``class_path`` / ``init_args`` config names.

    Only classes that offer ``from_config`` or derive from :class:`Component` are built.

    Args:
        config: Exactly the keys ``class_path`` and (optionally) ``init_args``.

    Raises:
        ConfigError: If the class cannot be found or built from these arguments.
    """
    keys = sorted(config) if isinstance(config, Mapping) else [type(config).__name__]
    if (
        not isinstance(config, Mapping)
        or not isinstance(config.get("class_path"), str)
        or not set(keys) <= _CONFIG_KEYS
    ):
        cause = f"Expected a config with the keys `class_path` and `init_args`, but got {keys}."
        raise ConfigError(cause, "Use the output of `to_config`.")
    target = import_object(config["class_path"])
    if not (isinstance(target, type) and (issubclass(target, Component) or hasattr(target, "from_config"))):
        cause = f"`{config['class_path']}` is not a component."
        raise ConfigError(cause, "Derive the class from `ct_vlm.component.Component`.")
    args = {name: _from_json(value) for name, value in (config.get("init_args") or {}).items()}
    if not issubclass(target, Component):
        return target.from_config(args)
    try:
        inspect.signature(target).bind(**args)
    except TypeError as error:
        known = ", ".join(inspect.signature(target).parameters)
        cause = f"`{target.__name__}` does not accept this config: {error}."
        raise ConfigError(cause, f"Its arguments are: {known}.") from error
    return target(**args)


def import_object(path: str) -> Any:
    """Import ``package.module.Name``, or a class within a class, ``package.module.Outer.Inner``.

    Raises:
        ConfigError: If the module or the name does not exist.
    """
    parts = path.split(".")
    try:
        module, rest = _longest_module(parts)
        return functools.reduce(getattr, rest, module)
    except (ImportError, AttributeError, ValueError) as error:
        cause = f"Cannot import `{path}`: {error}."
        if parts[0] == "__main__":
            cure = "It was defined in a script or notebook: move it to a module that can be imported."
        else:
            cure = "Install or import the package that defines it first."
        raise ConfigError(cause, cure) from error


def _longest_module(parts: Sequence[str]) -> tuple[Any, Sequence[str]]:
    """Import the longest prefix that is a module; return it and the names that are left."""
    for end in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:end])
        try:
            return importlib.import_module(name), parts[end:]
        except ModuleNotFoundError as error:
            # a prefix that is no module is tried shorter; what a module itself lacks is an error
            if end == 1 or error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
    msg = "not enough values: a module and a name are needed"
    raise ValueError(msg)


def _check_rebuildable(cls: type[Component], args: Mapping[str, Any]) -> None:
    """Raise if the recorded arguments cannot be given to the constructor by name."""
    kinds = inspect.Parameter
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind in (kinds.VAR_POSITIONAL, kinds.POSITIONAL_ONLY) and name in args:
            cause = f"`{cls.__name__}` takes `{name}` by position only, which a config cannot record."
            raise ConfigError(cause, "Give the argument a name that can be used in a call (a list instead of `*args`).")
    try:
        inspect.signature(cls).bind(**args)
    except TypeError as error:
        cause = f"The recorded arguments of `{cls.__name__}` do not fit its constructor: {error}."
        raise ConfigError(cause, "Record only names that its constructor takes.") from error


def _recording(init: Callable[..., None]) -> Callable[..., None]:
    """Wrap a constructor so that the outermost call stores its bound arguments."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(self: Component, *args: Any, **kwargs: Any) -> None:
        if "_init_args" not in self.__dict__:
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            object.__setattr__(self, "_init_args", _flatten_arguments(signature, bound.arguments))
        init(self, *args, **kwargs)

    return wrapper


def _flatten_arguments(signature: inspect.Signature, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Drop ``self``, merge ``**kwargs`` and keep no second reference to a component."""
    flat: dict[str, Any] = {}
    for position, (name, parameter) in enumerate(signature.parameters.items()):
        if position == 0 or name not in arguments:
            continue
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL and not arguments[name]:
            continue
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            flat.update({key: _record(value) for key, value in arguments[name].items()})
        else:
            flat[name] = _record(arguments[name])
    return flat


def _record(value: Any) -> Any:
    """Return what to keep of an argument: no component, and containers that nobody else changes."""
    return _Recorded.COMPONENT if _holds_component(value) else _copy_containers(value)


def _copy_containers(value: Any) -> Any:
    """Copy nested dicts, lists and tuples, so that later changes by the caller are not recorded."""
    if isinstance(value, dict):
        return {key: _copy_containers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copy_containers(item) for item in value]
    return value


def _holds_component(value: Any) -> bool:
    """Tell whether a value is a component or a container with one in it."""
    if isinstance(value, dict | nn.ModuleDict):
        value = list(value.values())
    if isinstance(value, list | tuple | nn.ModuleList):
        return any(_holds_component(item) for item in value)
    return isinstance(value, Component)


def _to_json(value: Any, where: str) -> Any:
    """Turn an argument into JSON values."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        cause = f"`{where}` is {value}, which JSON cannot hold."
        raise ConfigError(cause, "Pass a finite number, or None.")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "to_config") and not isinstance(value, type):
        return value.to_config()
    if isinstance(value, dict | nn.ModuleDict):
        for key in value:
            if not isinstance(key, str):
                cause = f"`{where}` has the key {key!r}, but keys of a JSON config are strings."
                raise ConfigError(cause, "Use strings as keys, or a list.")
        return {key: _to_json(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple | nn.ModuleList):
        return [_to_json(item, f"{where}[{index}]") for index, item in enumerate(cast("list[Any]", value))]
    cause = f"`{where}` is a {type(value).__name__}, which a JSON config cannot hold."
    raise ConfigError(cause, "Pass numbers, strings, lists, dicts, components or objects with `to_config`.")


def _from_json(value: Any) -> Any:
    """Build nested configs inside JSON values."""
    if isinstance(value, dict):
        if "class_path" in value and set(value) <= _CONFIG_KEYS:
            return build_from_config(value)
        return {key: _from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return value


def _resolve_source(source: str | Path) -> Path:
    """Return a local directory, fetching a hub id if no such directory exists."""
    folder = Path(source)
    if folder.is_dir():
        return folder
    if isinstance(source, Path) or source.count("/") != 1 or source.startswith((".", "/", "~")):
        cause = f"No directory `{source}`."
        raise CheckpointError(cause, "Pass a directory written by `save_pretrained`, or a hub id `owner/name`.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=[CONFIG_NAME, WEIGHTS_NAME]))
    except Exception as error:
        cause = f"No directory `{source}`, and the hub gave no such model: {error}."
        raise CheckpointError(cause, "Check the path or the hub id and the network.") from error
