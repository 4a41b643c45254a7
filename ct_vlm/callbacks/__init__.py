"""Lightning callbacks."""

from __future__ import annotations

from ct_vlm.callbacks.collapse import CollapsePoint, CollapseRule
from ct_vlm.callbacks.collapse_monitor import CollapseMonitor
from ct_vlm.callbacks.norm_calibration import NormCalibration
from ct_vlm.callbacks.phase_schedule import FreezeAfterEpoch, ReduceLROnMetric
from ct_vlm.callbacks.prediction_writer import ReportWriter
from ct_vlm.callbacks.rng_state import RNGState

__all__ = [
    "CollapseMonitor",
    "CollapsePoint",
    "CollapseRule",
    "FreezeAfterEpoch",
    "NormCalibration",
    "RNGState",
    "ReduceLROnMetric",
    "ReportWriter",
]
