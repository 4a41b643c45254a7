"""Where labels come from, by name."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ct_vlm.metrics.clinical import Labeler

_KINDS = "rules, radbert:PATH, module:function or given"


@dataclass
class CallableLabeler:
    """A user's function as a labeler.

    Args:
        name: Put beside every score.
        function: Reports to ``(N, 18)`` labels.
    """

    name: str
    function: Callable[[Sequence[str]], Any]

    def __call__(self, texts: Sequence[str]) -> Any:
        """Label reports."""
        return self.function(texts)


def get_labeler(spec: str | Labeler | Callable[[Sequence[str]], Any]) -> Labeler | None:
    """Return a labeler by name.

    ============== =====================================================================
    name           labels
    ============== =====================================================================
    ``rules``      this library's rule labeler
    ``radbert:P``  a RadBERT-type text classifier of the folder or file P
    ``m:f``        function ``f`` of the module ``m``: reports to ``(N, 18)`` labels
    ``given``      no labeler: predictions and references must hold labels (returns None)
    ============== =====================================================================

    Args:
        spec: A name, a labeler or a function.

    Raises:
        ConfigError: If the name is unknown or the function cannot be imported.

    Example:
        >>> from ct_vlm.evaluation import get_labeler
        >>> get_labeler("rules").name
        'rules'
    """
    if not isinstance(spec, str):
        if hasattr(spec, "name"):
            return cast("Labeler", spec)
        return CallableLabeler(getattr(spec, "__name__", "callable"), spec)
    if spec == "given":
        return None
    if spec == "rules":
        from ct_vlm.metrics import RuleLabeler

        return RuleLabeler()
    kind, separator, value = spec.partition(":")
    if not separator or not value:
        cause = f"Unknown labeler {spec!r}."
        raise ConfigError(cause, f"Use {_KINDS}.")
    if kind == "radbert":
        from ct_vlm.metrics.adapters import TextClassifierLabeler

        return TextClassifierLabeler(value)
    try:
        function = getattr(importlib.import_module(kind), value)
    except (ImportError, AttributeError) as error:
        cause = f"The labeler {spec!r} cannot be imported: {error}."
        raise ConfigError(cause, f"Use {_KINDS}; a module of your own must be on the Python path.") from error
    return CallableLabeler(spec, function)
