"""Rows of results as Markdown tables: mean over seeds, and the range."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Row = dict[str, Any]


def ablation_table(rows: Sequence[Row]) -> str:
    """Return the scores of each set of parts.

    Args:
        rows: From :func:`benchmarks.studies.medregion.ablations.run_ablations`.

    Example:
        >>> from benchmarks.studies.medregion.tables import ablation_table
        >>> row = {"parts": "full", "seed": 0, "micro_f1": 0.5, "macro_f1": 0.4, "shuffled_micro_f1": 0.1}
        >>> row.update(bleu_mean=0.3, distinct_reports=7, regions={"lung": {"micro_f1": 0.6, "bleu_mean": None}})
        >>> print(ablation_table([row, {**row, "seed": 1, "micro_f1": 0.7}]).splitlines()[-1])
        | full | 0, 1 | .600 (.500 to .700) | .400 (.400 to .400) | .100 (.100 to .100) | .600 | .300 | 7 |
    """
    head = (
        "parts",
        "seeds",
        "micro F1",
        "macro F1",
        "another patient's volume",
        "micro F1 in the lung",
        "BLEU",
        "distinct",
    )
    columns: tuple[Callable[[Sequence[Row]], str], ...] = (
        _seeds,
        lambda group: _range(group, "micro_f1"),
        lambda group: _range(group, "macro_f1"),
        lambda group: _range(group, "shuffled_micro_f1"),
        lambda group: _number(_mean([row["regions"].get("lung", {}).get("micro_f1") for row in group])),
        lambda group: _number(_mean([row["bleu_mean"] for row in group])),
        lambda group: f"{_mean([row['distinct_reports'] for row in group]):.0f}",
    )
    names = dict.fromkeys(row["parts"] for row in rows)
    groups = {name: [row for row in rows if row["parts"] == name] for name in names}
    return _table(head, [[name, *(column(group) for column in columns)] for name, group in groups.items()])


def selection_table(rows: Sequence[Row]) -> str:
    """Return the scores of each policy by where the lesion lies.

    Args:
        rows: From :func:`benchmarks.studies.medregion.selection.run_selection`.
    """
    head = ("lesion in", "slices kept", "tokens", "seeds", "macro AUROC", "right region")
    keys = dict.fromkeys((row["placement"], row["policy"]) for row in rows)
    groups = [[row for row in rows if (row["placement"], row["policy"]) == key] for key in keys]
    cells = [
        [
            group[0]["placement"],
            group[0]["policy"],
            str(group[0]["tokens"]),
            _seeds(group),
            _range(group, "macro_auroc"),
            _range(group, "right_region"),
        ]
        for group in groups
    ]
    return _table(head, cells)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _seeds(rows: Sequence[Row]) -> str:
    return ", ".join(str(seed) for seed in sorted({row["seed"] for row in rows}))


def _range(rows: Sequence[Row], key: str) -> str:
    """Return the mean over seeds with the lowest and the highest value."""
    values = [row[key] for row in rows]
    return f"{_number(_mean(values))} ({_number(min(values))} to {_number(max(values))})"


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")


def _number(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"
