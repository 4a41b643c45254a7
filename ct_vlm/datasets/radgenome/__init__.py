"""RadGenome-ChestCT: volumes with region masks, region reports and questions."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ct_vlm.text.region_scheme import RegionScheme, region_scheme

if TYPE_CHECKING:
    from ct_vlm.datasets.radgenome.attributes import MeasuredAttributes, measure_radgenome
    from ct_vlm.datasets.radgenome.dataset import RadGenomeDataset
    from ct_vlm.datasets.radgenome.layout import RadGenomeLayout
    from ct_vlm.datasets.radgenome.questions import TASKS, TEMPLATES, Question, read_questions
    from ct_vlm.datasets.radgenome.report import RadGenomeReport
    from ct_vlm.datasets.radgenome.vqa import RadGenomeVQA

_MODULES = {
    "TASKS": "questions",
    "TEMPLATES": "questions",
    "MeasuredAttributes": "attributes",
    "Question": "questions",
    "RadGenomeDataset": "dataset",
    "RadGenomeLayout": "layout",
    "RadGenomeReport": "report",
    "RadGenomeVQA": "vqa",
    "measure_radgenome": "attributes",
    "read_questions": "questions",
}

__all__ = [
    "TASKS",
    "TEMPLATES",
    "MeasuredAttributes",
    "Question",
    "RadGenomeDataset",
    "RadGenomeLayout",
    "RadGenomeReport",
    "RadGenomeVQA",
    "RegionScheme",
    "measure_radgenome",
    "read_questions",
    "region_scheme",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that the package itself stays light."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
