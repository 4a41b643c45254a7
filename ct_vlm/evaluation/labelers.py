"""Where labels come from, by name."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ct_vlm.errors import ConfigError
from ct_vlm.metrics import CallableLabeler, RuleLabeler
from ct_vlm.metrics.progress import track
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ct_vlm.metrics.clinical import Labeler

GIVEN = "given"
"""Name of labels that came with the files."""

_BLOCK = 64
_KINDS = "rules, radbert:PATH, module:function or given"


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
        return CallableLabeler(spec, getattr(spec, "__name__", "callable"))
    if spec == GIVEN:
        return None
    if spec == "rules":
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
    return CallableLabeler(function, spec)


def label_texts(
    texts: Sequence[str | None], labeler: Labeler, what: str = "reports", *, progress: bool = False
) -> NDArray[np.float64]:
    """Label reports, with progress where the labeler reads one by one.

    Args:
        texts: Reports.
        labeler: Labels them; what is missing is passed on as "".
        what: What is labelled, for the progress bar.
        progress: Show progress on a terminal.

    Returns:
        Labels; NaN for a missing report.

    Shape:
        - Output: ``(N, 18)``.
    """
    written = [text or "" for text in texts]
    # other labelers may need all reports at once, and show their own progress
    size = _BLOCK if isinstance(labeler, RuleLabeler) else max(1, len(written))
    starts = range(0, len(written), size)
    blocks = [
        np.asarray(labeler(written[start : start + size]), dtype=np.float64)
        for start in track(starts, f"Labelling {what}", show=progress)
    ]
    labels = np.concatenate(blocks) if blocks else np.empty((0, len(CT_RATE_LABELS)))
    labels[[text is None for text in texts]] = np.nan
    return labels
