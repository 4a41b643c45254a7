"""Reports as HTML in which the sentences that made the labels are marked."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ct_vlm.evaluation.cases import Case
    from ct_vlm.metrics.labeler import Explanation, Mention

FOUND, MISSED, INVENTED = "found", "missed", "invented"


def marked_reports(case: Case, explain: Callable[[str], Explanation]) -> tuple[str | None, str | None]:
    """Return prediction and reference as HTML, each sentence that decided a label marked.

    In the prediction, sentences that state what both or only it states are marked, and those that
    deny what the reference states; in the reference, what both or only it states, and what denies
    what the prediction invents. None where there is no text.

    Args:
        case: A report beside its reference.
        explain: From text to why it has its labels.
    """
    kinds = {label: kind for kind in (FOUND, MISSED, INVENTED) for label in getattr(case, kind)}

    def marked(text: str | None, denied: str) -> str | None:
        return _mark(text, explain(text), kinds, denied) if text else None

    return marked(case.prediction, MISSED), marked(case.reference, INVENTED)


def _mark(text: str, explanation: Explanation, kinds: dict[str, str], denied: str) -> str:
    """Mark the sentences of one report."""
    spans: dict[tuple[int, int], list[tuple[Mention, str]]] = {}
    for label, kind in kinds.items():
        for mention in explanation[label].mentions:
            # a denial matters where the other side states the label; elsewhere a statement does
            span = _find(text, mention.sentence) if mention.negated == (kind == denied) else None
            if span is not None:
                spans.setdefault(span, []).append((mention, kind))
    pieces, end = [], 0
    for (start, stop), mentions in sorted(spans.items(), key=lambda item: item[0]):
        if start >= end:
            pieces += [escape(text[end:start]), _marked(text[start:stop], mentions)]
            end = stop
    return "".join(pieces) + escape(text[end:])


def _marked(sentence: str, mentions: list[tuple[Mention, str]]) -> str:
    """Return one marked sentence, its deciding words in bold; the worst kind gives the colour."""
    kind = next(kind for kind in (INVENTED, MISSED, FOUND) if any(kind == other for _, other in mentions))
    reasons = "; ".join(dict.fromkeys(f"{m.label}, {m.status}: {m.words}" for m, _ in mentions))
    words = [found for m, _ in mentions for part in (m.words, m.cue) if part and (found := _find(sentence, part))]
    pieces, end = [], 0
    for start, stop in sorted(set(words)):
        if start >= end:
            pieces += [escape(sentence[end:start]), f"<b>{escape(sentence[start:stop])}</b>"]
            end = stop
    inside = "".join(pieces) + escape(sentence[end:])
    return f'<mark class="{kind}" title="{escape(reasons)}">{inside}</mark>'


def _find(text: str, words: str) -> tuple[int, int] | None:
    """Return where words stand, whatever blanks, hyphens and case they are written with."""
    parts = [re.escape(part) for part in re.split(r"[\s/-]+", words.strip()) if part]
    match = re.search(r"[\s/-]+".join(parts), text, re.IGNORECASE) if parts else None
    return None if match is None else match.span()
