"""Sections of the HTML report."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

from ct_vlm.evaluation.page import picture, table
from ct_vlm.evaluation.values import score_names, score_value, with_interval
from ct_vlm.metrics import plot_reliance
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ct_vlm.metrics import RelianceResult
    from ct_vlm.metrics.functional import Interval

BASELINE_SCORES = ("bleu_1", "bleu_4", "bleu_mean", "rouge_l", "cider", "micro_f1", "macro_f1", "crg")
"""Scores that the table of baselines has."""

REGION_SCORES = (
    "num_references", "coverage", "invented", "micro_precision", "micro_recall", "micro_f1", "bleu_4", "rouge_l",
)  # fmt: skip
"""Scores that the table of regions has."""


def circumstances(scores: Mapping[str, Any]) -> str:
    """Say what was scored and how.

    Args:
        scores: Of a system, from :func:`ct_vlm.evaluation.evaluate`; so everywhere below.
    """
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
    facts += scores.get("notes", [])
    facts.append(f"ct_vlm {scores['ct_vlm']}, {scores['created']}")
    items = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
    return f"<ul>{items}{_skipped(nlg.get('skipped', {}))}</ul>"


def _skipped(reasons: Mapping[str, str]) -> str:
    """Return a line about each score that could not be computed."""
    lines = (f"not computed: {name}: {why}" for name, why in reasons.items())
    return "".join(f'<li class="note">{escape(line)}</li>' for line in lines)


def scores_table(systems: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of scores with intervals, one column a system.

    Args:
        systems: Name of each system to its scores.
    """
    rows = [
        (name, *(with_interval(found, name) or None for found in systems.values())) for name in score_names(systems)
    ]
    return table(["score", *systems], rows)


def differences(comparison: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return the table of differences.

    Args:
        comparison: From :func:`ct_vlm.evaluation.compare`.
        names: Names of the two systems.
    """
    if comparison["notes"]:
        return "".join(f'<p class="note">{escape(note)}</p>' for note in comparison["notes"])
    rows = []
    for name, found in comparison["difference"].items():
        if name.startswith("per_label/") or found["value"] is None:
            continue
        interval = None if found["low"] is None else f"[{found['low']:+.3f}, {found['high']:+.3f}]"
        tested = comparison["permutation"].get(name)
        rows.append((name, f"{found['value']:+.3f}", interval, found["p_value"], tested))
    head = [f"{names[0]} minus {names[1]}", "difference", "interval", "p, bootstrap", "p, permutation"]
    return table(head, rows)


def confusion(systems: Mapping[str, Mapping[str, Any]]) -> str:
    """Return counts by label, of each system.

    Args:
        systems: Name of each system to its scores.
    """
    head = ["label", "both", "missed", "invented", "neither", "precision", "recall", "F1"]
    tables = []
    for name, found in systems.items():
        per_label = found["clinical"]["per_label"]
        rows = [
            [label, *(per_label[label][key] for key in ("tp", "fn", "fp", "tn", "precision", "recall", "f1"))]
            for label in CT_RATE_LABELS
        ]
        title = f"<h3>{escape(name)}</h3>" if len(systems) > 1 else ""
        tables.append(title + table(head, rows, ["", "tp", "fn", "fp", "", "", "", ""]))
    return "\n".join(tables)


def variety(collapse: Mapping[str, Any]) -> str:
    """Say how far reports differ from each other.

    Args:
        collapse: From :func:`~ct_vlm.metrics.functional.collapse_scores`.
    """
    numbers = [(name.replace("_", " "), value) for name, value in collapse.items() if name != "most_frequent_report"]
    frequent = escape(str(collapse["most_frequent_report"])[:600])
    return table(["", "value"], numbers) + f"<p><small>Most frequent report:</small> {frequent}</p>"


def baselines(scores: Mapping[str, Any], name: str) -> Iterator[str]:
    """Yield the scores of reports that need no image, below the system's own.

    Args:
        scores: Of the system.
        name: Name of the system.
    """
    found = scores.get("baselines")
    if not found:
        return
    rows = {name: scores, **found}
    shown = [key for key in BASELINE_SCORES if any(score_value(row, key) is not None for row in found.values())]
    yield "<h2>Baselines</h2>"
    yield table(["", *shown], [[title, *(score_value(row, key) for key in shown)] for title, row in rows.items()])
    yield (
        '<p class="note">Reports made of training reports. Template and retrieval are given the labels of the '
        "system's own reports; the oracle is given the true ones.</p>"
    )


def outside(scores: Mapping[str, Any]) -> Iterator[str]:
    """Yield the scores of other packages.

    Args:
        scores: Of the system.
    """
    found = scores.get("scorers")
    if not found:
        return
    rows = [(scorer, key, value) for scorer, one in found["scores"].items() for key, value in one["scores"].items()]
    if rows:
        yield table(["scorer", "score", "value"], rows)
    if found["skipped"]:
        yield f"<ul>{_skipped(found['skipped'])}</ul>"


def regions(scores: Mapping[str, Any]) -> Iterator[str]:
    """Yield scores by region.

    Args:
        scores: Of the system.
    """
    found = scores.get("regions")
    if not found:
        return
    keys = [key for key in REGION_SCORES if any(row.get(key) is not None for row in found["regions"].values())]
    rows = [[name, *(row.get(key) for key in keys)] for name, row in found["regions"].items()]
    rows.append(["mean", *(found["mean"].get(key) for key in keys)])
    yield f"<h2>Regions ({escape(found['scheme'])}, texts {escape(found['source'])})</h2>"
    yield table(["region", *(key.replace("_", " ") for key in keys)], rows)


def classifier(scores: Mapping[str, Any]) -> Iterator[str]:
    """Yield scores of label probabilities.

    Args:
        scores: Of the system.
    """
    found = scores.get("classifier")
    if not found:
        return
    yield "<h2>Label probabilities</h2>"
    ranking = found["ranking"]
    yield table(
        ["", "value"],
        [("macro AUROC", ranking["macro_auroc"]), ("macro average precision", ranking["macro_average_precision"])],
    )
    kinds = [kind for kind in ("fixed", "calibrated", "oracle") if kind in found]
    titles = {"fixed": "0.5", "calibrated": "calibrated", "oracle": "oracle (fitted to these data)"}
    names = ("macro_f1", "micro_f1", "macro_precision", "macro_recall")
    rows = [[name, *(found[kind][name] for kind in kinds)] for name in names]
    yield table(["threshold", *(titles[kind] for kind in kinds)], rows)


def reliance(study: RelianceResult) -> Iterator[str]:
    """Yield the plot and the values of a visual-reliance study.

    Args:
        study: What a model scored with the right volumes and with others.
    """
    yield "<h2>Visual reliance</h2>"
    yield picture(plot_reliance(study), "Score by what volume the model was shown")
    rows: list[Any] = []
    for arm, row in study.arms.items():
        for score, value in row.items():
            relied = study.reliance.get(arm, {}).get(score)
            rows.append((arm.replace("_", " "), score, _interval(value), None if relied is None else _interval(relied)))
    yield table(["shown", "score", "value", "reliance = 1 - value / real"], rows)
    yield '<p class="note">A model that writes as well from another patient\'s volume does not read volumes.</p>'


def _interval(value: Interval) -> str | None:
    """Return a value with its interval, if there is one."""
    if math.isnan(value.value):
        return None
    return f"{value.value:.3f}" + ("" if math.isnan(value.low) else f" [{value.low:.3f}, {value.high:.3f}]")
