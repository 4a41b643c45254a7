"""Rows of results as Markdown tables: mean over seeds, and the range."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.studies.absteering.runs import PARTS

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = dict[str, Any]
_TEXTS = {
    "micro_precision": "micro P",
    "micro_recall": "micro R",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "shuffled_micro_f1": "micro F1, another patient",
    "list/micro_f1": "list's micro F1",
    "list/macro_f1": "list's macro F1",
}
_PAIRS = {
    "hard/own/likelier": "hard: likelier",
    "hard/own/accuracy": "hard: accuracy",
    "hard/other/accuracy": "hard: accuracy, another video",
    "retold/own/likelier": "retold: likelier",
    "retold/own/accuracy": "retold: accuracy",
    "retold/other/accuracy": "retold: accuracy, another video",
    "random/own/likelier": "random: likelier",
    "random/own/accuracy": "random: accuracy",
    "random/other/accuracy": "random: accuracy, another video",
}


def study_tables(rows: Sequence[Row]) -> str:
    """Return the table of texts and that of pairs.

    Args:
        rows: From :func:`benchmarks.studies.absteering.runs.run_backbone`.

    Example:
        >>> from benchmarks.studies.absteering.tables import study_tables
        >>> row = {"backbone": "internvl", "part": "cot", "seed": 0, "micro_f1": 0.5, "preferences": {}}
        >>> print(study_tables([row, {**row, "seed": 1, "micro_f1": 0.75}]).splitlines()[2])
        | internvl | CoT | 0, 1 | - | - | .625 (.500 to .750) | - | - | - | - |
    """
    keys = dict.fromkeys((row["backbone"], row["part"]) for row in rows)
    groups = [[row for row in rows if (row["backbone"], row["part"]) == key] for key in keys]
    texts = [[*_names(group), *(_range([row.get(key) for row in group]) for key in _TEXTS)] for group in groups]
    pairs = [
        [*_names(group), *(_range([row["preferences"].get(key) for row in group]) for key in _PAIRS)]
        for group in groups
    ]
    head = ["backbone", "trained", "seeds"]
    return "\n\n".join([_table([*head, *_TEXTS.values()], texts), _table([*head, *_PAIRS.values()], pairs)])


def _names(group: Sequence[Row]) -> list[str]:
    seeds = ", ".join(str(seed) for seed in sorted({row["seed"] for row in group}))
    return [group[0]["backbone"], PARTS[group[0]["part"]].title, seeds]


def _range(values: Sequence[float | None]) -> str:
    """Return the mean over seeds, with the lowest and the highest value where there are several."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = _number(sum(known) / len(known))
    return mean if len(known) == 1 else f"{mean} ({_number(min(known))} to {_number(max(known))})"


def _number(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
