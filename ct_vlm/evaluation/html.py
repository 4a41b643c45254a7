"""An evaluation as one self-contained HTML file."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.evaluation import sections
from ct_vlm.evaluation.cards import case_card
from ct_vlm.evaluation.cases import Case, rank_cases
from ct_vlm.evaluation.page import document, picture
from ct_vlm.evaluation.pictures import label_bars, length_histograms
from ct_vlm.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ct_vlm.metrics import Explanation, RelianceResult


_LEGEND = (
    '<p class="note">Marked: sentences that decided a label which <mark class="found">both state</mark>, the '
    'prediction <mark class="missed">misses</mark> or <mark class="invented">invents</mark>; words in bold matched.</p>'
)


@dataclass(frozen=True)
class Page:
    """What the report shows.

    Args:
        systems: Name of each system to its scores; the first is the one that is looked at closely.
        cases: Reports of the first system.
        comparison: From :func:`ct_vlm.evaluation.compare`, if there are two systems.
        reliance: A visual-reliance study of the first system.
        num_cases: Worst and best cases shown, each.
        title: Title of the page.
        explain: Says why a text has its labels, to mark the sentences that decided, e.g.
            :meth:`RuleLabeler.explain <ct_vlm.metrics.RuleLabeler.explain>`; None for no marks.
    """

    systems: Mapping[str, Mapping[str, Any]]
    cases: Sequence[Case]
    comparison: Mapping[str, Any] | None = None
    reliance: RelianceResult | None = None
    num_cases: int = 5
    title: str = "Evaluation of CT reports"
    explain: Callable[[str], Explanation] | None = None


def write_html(path: str | Path, page: Page) -> None:
    """Write the report: scores with intervals, labels, lengths, worst and best cases.

    The file needs no network and no other file: pictures are inside, and there are no scripts.

    Args:
        path: The file; written whole or not at all.
        page: What to show.
    """
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    text = document(page.title, _parts(page))
    with atomic_path(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _parts(page: Page) -> Iterator[str]:
    """Yield the sections."""
    scores = next(iter(page.systems.values()))
    yield sections.circumstances(scores)
    yield "<h2>Scores</h2>"
    yield sections.scores_table(page.systems)
    yield from sections.outside(scores)
    if page.comparison:
        yield "<h2>Difference of the systems</h2>"
        yield sections.differences(page.comparison, list(page.systems))
    yield from sections.baselines(scores, next(iter(page.systems)))
    clinical = {name: found for name, found in page.systems.items() if found["clinical"]}
    if clinical:
        yield "<h2>Labels</h2>"
        yield picture(label_bars(clinical), "F1 of each label")
        yield sections.confusion(clinical)
    yield from sections.classifier(scores)
    yield from sections.regions(scores)
    if scores["nlg"]:
        yield "<h2>Lengths</h2>"
        yield picture(length_histograms(page.cases), "Words of predicted and true reports")
    if scores["collapse"]:
        yield "<h2>Variety</h2>"
        yield sections.variety(scores["collapse"])
    if page.reliance:
        yield from sections.reliance(page.reliance)
    yield from _cases(page, next(iter(page.systems)))


def _cases(page: Page, name: str) -> Iterator[str]:
    """Yield the worst and the best reports."""
    worst, best = rank_cases(page.cases, page.num_cases)
    for title, cases in (("Worst cases", worst), ("Best cases", best)):
        if cases:
            yield f"<h2>{title}{f' of {escape(name)}' if len(page.systems) > 1 else ''}</h2>"
            if page.explain is not None:
                yield _LEGEND
            yield from (case_card(case, page.explain) for case in cases)
