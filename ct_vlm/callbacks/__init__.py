"""Lightning callbacks."""

from __future__ import annotations

from ct_vlm.callbacks.prediction_writer import ReportWriter
from ct_vlm.callbacks.rng_state import RNGState

__all__ = ["RNGState", "ReportWriter"]
