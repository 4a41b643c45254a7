"""The study's tables as Markdown: mean over seeds, with the lowest and the highest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.studies.ker_vljepa.plans import COLD, FULL
from benchmarks.studies.ker_vljepa.scoring import ARMS, VISUAL, WRITING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Result = Mapping[str, Any]

_NAMES = {
    "phase1": "1",
    "phase2": "2",
    COLD: "3, cold",
    FULL: "3, cold, whole reports",
    "phase3": "3, warm bridge",
    "phase4": "4, whole reports",
}


def study_tables(results: Sequence[Result]) -> str:
    """Return all tables.

    Args:
        results: Scores of each seed, from :func:`benchmarks.studies.ker_vljepa.scoring.score_seed`.
    """
    return "\n\n".join([_visual(results), _writing(results), _epochs(results)])


def _visual(results: Sequence[Result]) -> str:
    keys = {
        "macro_f1": "macro F1",
        "micro_f1": "micro F1",
        "other_patient_macro_f1": "macro F1, another patient's labels",
        "fitted_macro_f1": "macro F1, fitted thresholds",
        "oracle_macro_f1": "macro F1, oracle",
        "macro_auroc": "AUROC",
    }
    rows = [
        [_NAMES[name], *(_spread([result["classifier"][name][key] for result in results]) for key in keys)]
        for name in VISUAL
    ]
    return _table(["classifier after phase", *keys.values()], rows)


def _writing(results: Sequence[Result]) -> str:
    rows = []
    for name in WRITING:
        arms = [result["arms"][name] for result in results]
        cells = [_spread([arm["real"]["micro_f1"] for arm in arms])]
        rows.append([_NAMES[name], *cells, *(_spread([arm[key]["macro_f1"] for arm in arms]) for key in ARMS)])
    shown = [f"macro F1, {arm.replace('_', ' ')}" for arm in ARMS]
    return _table(["reports after phase", "micro F1, real", *shown], rows)


def _epochs(results: Sequence[Result]) -> str:
    curves = [[result["epochs"][name] for result in results] for name in (COLD, FULL)]
    count = min(len(curve) for runs in curves for curve in runs)
    rows = [[str(epoch + 1), *(_spread([curve[epoch] for curve in runs]) for runs in curves)] for epoch in range(count)]
    return _table(["epoch of phase 3", "positive findings", "whole reports"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spread(values: Sequence[float]) -> str:
    """Return the mean, and the range where there are several seeds."""
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f}-{max(values):.3f})"
