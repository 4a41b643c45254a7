"""An evaluation as one self-contained HTML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from ct_vlm.evaluation.cases import Case, rank_cases
from ct_vlm.evaluation.page import document, picture, table
from ct_vlm.evaluation.pictures import label_bars, length_histograms, reliance_bars
from ct_vlm.evaluation.values import score_names, with_interval
from ct_vlm.files import atomic_path
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Page:
    """What the report shows.

    Args:
        systems: Name of each system to its scores; the first is the one that is looked at closely.
        cases: Reports of the first system.
        comparison: From :func:`ct_vlm.evaluation.compare`, if there are two systems.
        reliance: Arm to ``value``, ``low`` and ``high`` of a visual-reliance study of the first.
        num_cases: Worst and best cases shown, each.
        title: Title of the page.
    """

    systems: Mapping[str, Mapping[str, Any]]
    cases: Sequence[Case]
    comparison: Mapping[str, Any] | None = None
    reliance: Mapping[str, Any] | None = None
    num_cases: int = 5
    title: str = field(default="Evaluation of CT reports")


def write_html(path: Path, page: Page) -> None:
    """Write the report: scores with intervals, labels, lengths, worst and best cases.

    The file needs no network and no other file: pictures are inside, and there are no scripts.

    Args:
        path: The file; written whole or not at all.
        page: What to show.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = document(page.title, _parts(page))
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _parts(page: Page) -> Iterator[str]:
    """Yield the sections."""
    scores = next(iter(page.systems.values()))
    yield _circumstances(scores)
    yield "<h2>Scores</h2>"
    yield _scores(page.systems)
    if page.comparison:
        yield "<h2>Difference of the systems</h2>"
        yield _differences(page.comparison, list(page.systems))
    clinical = {name: found for name, found in page.systems.items() if found["clinical"]}
    if clinical:
        yield "<h2>Labels</h2>"
        yield picture(label_bars(clinical), "F1 of each label")
        yield _confusion(next(iter(clinical.values()))["clinical"]["per_label"])
    if scores["nlg"]:
        yield "<h2>Lengths</h2>"
        yield picture(length_histograms(page.cases), "Words of predicted and true reports")
    if scores["collapse"]:
        yield "<h2>Variety</h2>"
        yield _variety(scores["collapse"])
    if page.reliance:
        yield "<h2>Visual reliance</h2>"
        yield picture(reliance_bars(page.reliance), "Score by what volume the model was shown")
        yield '<p class="note">A model that writes as well from another patient\'s volume does not read volumes.</p>'
    yield from _cases(page)


def _circumstances(scores: Mapping[str, Any]) -> str:
    """Say what was scored and how."""
    nlg, clinical = scores["nlg"] or {}, scores["clinical"] or {}
    facts = [f"{scores['num_reports']} reports of {scores['num_patients']} patients"]
    if scores["patients_from"] == "reports":
        facts[0] += " (patients unknown: every report counts as one)"
    missing = nlg.get("missing_predictions", clinical.get("missing_predictions"))
    facts.append(f"{missing} missing predictions, counted as empty")
    if nlg:
        facts.append(f"word overlap by protocol {nlg['protocol']}")
    if clinical:
        facts.append(
            f"labels of predictions: {clinical['labeler']}, of references: {clinical['target_labeler']}, "
            f"unit: {clinical['unit']}, zero division: {clinical['zero_division']:g}"
        )
    if "resamples" in scores:
        drawn = scores["resamples"]
        facts.append(f"{100 * drawn['confidence']:g} % intervals: {drawn['method']}, {drawn['n_resamples']} resamples")
    facts.append(f"ct_vlm {scores['ct_vlm']}, {scores['created']}")
    items = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
    skipped = "".join(
        f'<li class="note">not computed: {escape(name)}: {escape(why)}</li>'
        for name, why in nlg.get("skipped", {}).items()
    )
    return f"<ul>{items}{skipped}</ul>"


def _scores(systems: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of scores with intervals, one column a system."""
    rows = [
        (name, *(with_interval(found, name) or None for found in systems.values())) for name in score_names(systems)
    ]
    return table(["score", *systems], rows)


def _differences(comparison: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return the table of differences."""
    rows = []
    for name, found in comparison["difference"].items():
        if name.startswith("per_label/") or found["value"] is None:
            continue
        interval = None if found["low"] is None else f"[{found['low']:+.3f}, {found['high']:+.3f}]"
        tested = comparison["permutation"].get(name)
        rows.append((name, f"{found['value']:+.3f}", interval, found["p_value"], tested))
    head = [f"{names[0]} minus {names[1]}", "difference", "interval", "p, bootstrap", "p, permutation"]
    return table(head, rows)


def _confusion(per_label: Mapping[str, Mapping[str, Any]]) -> str:
    """Return counts by label."""
    head = ["label", "both", "missed", "invented", "neither", "precision", "recall", "F1"]
    rows = [
        [label, *(per_label[label][key] for key in ("tp", "fn", "fp", "tn", "precision", "recall", "f1"))]
        for label in CT_RATE_LABELS
    ]
    return table(head, rows, ["", "tp", "fn", "fp", "", "", "", ""])


def _variety(collapse: Mapping[str, Any]) -> str:
    """Say how far reports differ from each other."""
    numbers = [(name.replace("_", " "), value) for name, value in collapse.items() if name != "most_frequent_report"]
    frequent = escape(str(collapse["most_frequent_report"])[:600])
    return table(["", "value"], numbers) + f"<p><small>Most frequent report:</small> {frequent}</p>"


def _cases(page: Page) -> Iterator[str]:
    """Yield the worst and the best reports."""
    worst, best = rank_cases(page.cases, page.num_cases)
    for title, cases in (("Worst cases", worst), ("Best cases", best)):
        if cases:
            yield f"<h2>{title}</h2>"
            yield from map(_case, cases)


def _case(case: Case) -> str:
    """Return one report beside its reference."""
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
    sides = "".join(
        f"<div><small>{side}</small><p>{escape(text) if text else '<em>missing</em>'}</p></div>"
        for side, text in (("prediction", case.prediction), ("reference", case.reference))
    )
    return f'<div class="case">{head}<div>{chips}</div><div class="pair">{sides}</div></div>'
