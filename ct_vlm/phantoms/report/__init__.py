"""Report text written from the facts of a phantom."""

from __future__ import annotations

from ct_vlm.phantoms.report.compose import Report, write_report

__all__ = ["Report", "write_report"]
