"""Fill a cache with preprocessed volumes: processes, shards, clusters, and a report of bad files.

Imports are lazy: a worker process that imports :mod:`ct_vlm.datasets.preprocessing.worker` must
not load numpy before its thread counts are set.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct_vlm.datasets.preprocessing.estimating import Estimate, estimate
    from ct_vlm.datasets.preprocessing.outcome import Failure, Outcome
    from ct_vlm.datasets.preprocessing.report import FailureReport
    from ct_vlm.datasets.preprocessing.resources import WorkerPlan, plan_workers
    from ct_vlm.datasets.preprocessing.run import PreprocessResult, preprocess
    from ct_vlm.datasets.preprocessing.shards import Shard
    from ct_vlm.datasets.preprocessing.timing import WorkerTiming, time_workers

_MODULES = {
    "Estimate": "estimating",
    "Failure": "outcome",
    "FailureReport": "report",
    "Outcome": "outcome",
    "PreprocessResult": "run",
    "Shard": "shards",
    "WorkerPlan": "resources",
    "WorkerTiming": "timing",
    "estimate": "estimating",
    "plan_workers": "resources",
    "preprocess": "run",
    "time_workers": "timing",
}

__all__ = [
    "Estimate",
    "Failure",
    "FailureReport",
    "Outcome",
    "PreprocessResult",
    "Shard",
    "WorkerPlan",
    "WorkerTiming",
    "estimate",
    "plan_workers",
    "preprocess",
    "time_workers",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that the package itself stays light."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
