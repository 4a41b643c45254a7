"""One report beside its reference, as HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from ct_vlm.evaluation.highlights import marked_reports

if TYPE_CHECKING:
    from collections.abc import Callable

    from ct_vlm.evaluation.cases import Case
    from ct_vlm.metrics import Explanation


def case_card(case: Case, explain: Callable[[str], Explanation] | None = None) -> str:
    """Return one report beside its reference, with the labels that differ.

    Args:
        case: The report.
        explain: Says why a text has its labels; None for no marks in the texts.
    """
    chips = "".join(
        f'<span class="chip {kind}">{escape(label)}{mark}</span>'
        for kind, mark, labels in (
            ("found", "", case.found),
            ("missed", ": missed", case.missed),
            ("invented", ": invented", case.invented),
        )
        for label in labels
    )
    numbers = ", ".join(f"{name} {value:.2f}" for name, value in case.scores.items() if name in {"bleu_4", "rouge_l"})
    f1 = "" if case.f1 is None else f"label F1 {case.f1:.2f}"
    head = f"<strong>{escape(case.id)}</strong> <small>{escape(', '.join(filter(None, (f1, numbers))))}</small>"
    plain = (escape(case.prediction or ""), escape(case.reference or ""))
    shown = plain if explain is None else marked_reports(case, explain)
    sides = "".join(
        f"<div><small>{side}</small><p>{text or '<em>missing</em>'}</p></div>"
        for side, text in zip(("prediction", "reference"), shown, strict=True)
    )
    return f'<div class="case">{head}<div>{chips}</div><div class="pair">{sides}</div></div>'
