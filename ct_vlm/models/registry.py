"""Builders of the published systems by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_vlm.errors import ConfigError
from ct_vlm.models.absteering import absteering
from ct_vlm.models.ker_vljepa import ker_vljepa
from ct_vlm.models.medregion_ct import medregion_ct
from ct_vlm.models.u_vlm import u_vlm

if TYPE_CHECKING:
    from collections.abc import Callable

    from ct_vlm.models.vlm import VisionLanguageModel

MODELS: dict[str, Callable[..., VisionLanguageModel]] = {
    "absteering": absteering,
    "ker_vljepa": ker_vljepa,
    "medregion_ct": medregion_ct,
    "u_vlm": u_vlm,
}
"""System name to builder."""


def build_model(name: str, *args: Any, **kwargs: Any) -> VisionLanguageModel:
    """Build a published system by name.

    Args:
        name: Key of :data:`MODELS`.
        args: Positional arguments of the builder.
        kwargs: Keyword arguments of the builder.

    Raises:
        ConfigError: If the name is unknown.
    """
    if name not in MODELS:
        msg = f"No model named {name!r}."
        raise ConfigError(msg, f"Choose one of {sorted(MODELS)}.")
    return MODELS[name](*args, **kwargs)


def list_models() -> list[str]:
    """Return the names of the published systems.

    Example:
        >>> from ct_vlm.models import list_models
        >>> list_models()
        ['absteering', 'ker_vljepa', 'medregion_ct', 'u_vlm']
    """
    return sorted(MODELS)
