"""Visual-reliance studies of a file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.errors import CTVLMError, DatasetError
from ct_vlm.metrics import RelianceResult
from ct_vlm.metrics.functional import Interval
from ct_vlm.metrics.reliance_result import REAL

if TYPE_CHECKING:
    from collections.abc import Mapping

_CURE = 'Save `RelianceResult.to_dict()` as JSON, or write {"real": 0.5, "other_patient": 0.1}.'


def read_reliance(path: str | Path) -> RelianceResult:
    """Read a study that was saved from :func:`~ct_vlm.metrics.visual_reliance`, or an arm's value each.

    Args:
        path: JSON of :meth:`RelianceResult.to_dict <ct_vlm.metrics.RelianceResult.to_dict>`, or an
            object from arm to value; ``real`` must be among the arms.

    Raises:
        DatasetError: If it is neither.

    Example:
        >>> import tempfile, pathlib
        >>> from ct_vlm.evaluation import read_reliance
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "reliance.json")
        ...     _ = file.write_text('{"real": 0.5, "other_patient": 0.1}')
        ...     read_reliance(file).reliance["other_patient"]["score"].value
        0.8
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        found = RelianceResult.from_dict(content) if "arms" in content else _of_values(content)
    except (OSError, ValueError, AttributeError, TypeError, CTVLMError) as error:
        cause = f"`{path}` is no visual-reliance study: {error}"
        raise DatasetError(cause, _CURE) from error
    if not found.arms.get(REAL):
        cause = f"`{path}` has no arm {REAL!r}, but {', '.join(found.arms) or 'none'}."
        raise DatasetError(cause, _CURE)
    return found


def _of_values(arms: Mapping[str, Any]) -> RelianceResult:
    """Return a study of which only one value an arm is known."""
    values = {str(arm): float(value) for arm, value in arms.items()}
    real = values.get(REAL, math.nan)
    return RelianceResult(
        arms={arm: {"score": _alone(value)} for arm, value in values.items()},
        reliance={
            arm: {"score": _alone(1 - value / real if real else math.nan)}
            for arm, value in values.items()
            if arm != REAL
        },
        seed_spread={},
        seeds=(),
        confidence=0.0,
        n_resamples=0,
        num_samples=0,
        num_patients=0,
        scorer="unknown",
    )


def _alone(value: float) -> Interval:
    """Return a value of which no interval is known."""
    return Interval(value, math.nan, math.nan, math.nan)
