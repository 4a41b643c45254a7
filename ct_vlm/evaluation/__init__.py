"""Evaluation of report files: read, pair, score, compare, and show.

``ct-vlm evaluate`` is this package on the command line; the scores themselves are
:mod:`ct_vlm.metrics`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct_vlm.evaluation.beating import baseline_scores as baseline_scores
    from ct_vlm.evaluation.cases import Case as Case
    from ct_vlm.evaluation.cases import make_cases as make_cases
    from ct_vlm.evaluation.cases import rank_cases as rank_cases
    from ct_vlm.evaluation.classifier import score_probabilities as score_probabilities
    from ct_vlm.evaluation.comparing import compare as compare
    from ct_vlm.evaluation.export import write_cases as write_cases
    from ct_vlm.evaluation.export import write_challenge as write_challenge
    from ct_vlm.evaluation.export import write_json as write_json
    from ct_vlm.evaluation.html import Page as Page
    from ct_vlm.evaluation.html import write_html as write_html
    from ct_vlm.evaluation.labelers import get_labeler as get_labeler
    from ct_vlm.evaluation.overlays import region_overlay as region_overlay
    from ct_vlm.evaluation.overlays import write_overlays as write_overlays
    from ct_vlm.evaluation.pairing import Pairs as Pairs
    from ct_vlm.evaluation.pairing import pair_reports as pair_reports
    from ct_vlm.evaluation.reliance import read_reliance as read_reliance
    from ct_vlm.evaluation.scorers import outside_scores as outside_scores
    from ct_vlm.evaluation.scoring import Evaluation as Evaluation
    from ct_vlm.evaluation.scoring import Settings as Settings
    from ct_vlm.evaluation.scoring import evaluate as evaluate
    from ct_vlm.evaluation.study import Extras as Extras
    from ct_vlm.evaluation.study import Files as Files
    from ct_vlm.evaluation.study import Study as Study
    from ct_vlm.evaluation.study import evaluate_files as evaluate_files
    from ct_vlm.evaluation.tables import ReportTable as ReportTable
    from ct_vlm.evaluation.tables import read_reports as read_reports

_MODULES = {
    "Case": "cases",
    "Extras": "study",
    "Files": "study",
    "Page": "html",
    "Study": "study",
    "baseline_scores": "beating",
    "evaluate_files": "study",
    "outside_scores": "scorers",
    "read_reliance": "reliance",
    "region_overlay": "overlays",
    "write_overlays": "overlays",
    "score_probabilities": "classifier",
    "make_cases": "cases",
    "rank_cases": "cases",
    "compare": "comparing",
    "Evaluation": "scoring",
    "Settings": "scoring",
    "evaluate": "scoring",
    "write_cases": "export",
    "write_challenge": "export",
    "write_json": "export",
    "write_html": "html",
    "get_labeler": "labelers",
    "Pairs": "pairing",
    "pair_reports": "pairing",
    "ReportTable": "tables",
    "read_reports": "tables",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List public names without importing them."""
    return sorted(__all__)
