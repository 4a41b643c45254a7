"""Scores of an evaluation on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_vlm.cli.output import say, say_table

if TYPE_CHECKING:
    from ct_vlm.evaluation import Study

_SHOWN = (
    "bleu_1", "bleu_4", "bleu_mean", "rouge_l", "meteor", "cider",
    "micro_precision", "micro_recall", "micro_f1", "macro_f1", "weighted_f1", "samples_f1", "crg",
)  # fmt: skip


def print_scores(study: Study) -> None:
    """Print the table of the main scores, what they depend on, and what else was asked for.

    Args:
        study: From :func:`ct_vlm.evaluation.evaluate_files`.
    """
    from ct_vlm.evaluation.values import score_value, with_interval

    scores = {name: found.scores for name, found in study.systems.items()}
    comparison = study.comparison if study.comparison and study.comparison["difference"] else None
    rows = []
    for name in _SHOWN:
        if any(score_value(found, name) is not None for found in scores.values()):
            rows.append([name, *(with_interval(found, name) for found in scores.values())])
            if comparison:
                rows[-1] += _difference(comparison, name)
    say_table("Scores", ["score", *scores, *(["difference", "p"] if comparison else [])], rows)
    for name, found in scores.items():
        _print_circumstances(name, found)
    for note in (study.comparison or {}).get("notes", ()):
        say(f"comparison: {note}")
    _print_extras(next(iter(scores.values())))


def _difference(comparison: dict[str, Any], name: str) -> list[str]:
    """Return the cells of a difference."""
    found = comparison["difference"].get(name, {})
    value, tested = found.get("value"), comparison["permutation"].get(name, found.get("p_value"))
    return ["" if value is None else f"{value:+.3f}", "" if tested is None else f"{tested:.3g}"]


def _print_circumstances(name: str, found: dict[str, Any]) -> None:
    """Say what a system's scores are of, and what could not be computed."""
    nlg, clinical = found["nlg"] or {}, found["clinical"] or {}
    missing = nlg.get("missing_predictions", clinical.get("missing_predictions", 0))
    say(
        f"{name}: {found['num_reports']} reports of {found['num_patients']} patients, {missing} missing; "
        f"protocol {nlg.get('protocol', '-')}, labels {clinical.get('labeler', '-')} "
        f"against {clinical.get('target_labeler', '-')}"
    )
    for note in found["notes"]:
        say(f"  {note}")
    for family, reason in nlg.get("skipped", {}).items():
        say(f"  not computed: {family}: {reason}")


def _print_extras(found: dict[str, Any]) -> None:
    """Print what was asked for besides the main scores."""
    from ct_vlm.evaluation.sections import BASELINE_SCORES
    from ct_vlm.evaluation.values import score_value

    baselines = found.get("baselines", {})
    shown = [key for key in BASELINE_SCORES if any(score_value(row, key) is not None for row in baselines.values())]
    if baselines:
        rows = [[title, *(_cell(score_value(row, key)) for key in shown)] for title, row in baselines.items()]
        say_table("Baselines, to beat", ["", *shown], rows)
    outside = found.get("scorers", {"scores": {}, "skipped": {}})
    for name, one in outside["scores"].items():
        say(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in one["scores"].items()))
    for name, reason in outside["skipped"].items():
        say(f"not computed: {name}: {reason}")
    for kind in ("fixed", "calibrated", "oracle"):
        scores = found.get("classifier", {}).get(kind)
        if scores:
            f1 = f"macro F1 {_cell(scores['macro_f1'])}, micro F1 {_cell(scores['micro_f1'])}"
            say(f"probabilities, {kind} thresholds: {f1}")
    if "regions" in found:
        mean = found["regions"]["mean"]
        say(f"regions: mean micro F1 {_cell(mean['micro_f1'])}, mean coverage {_cell(mean['coverage'])}")


def _cell(value: float | None) -> str:
    """Return a score as text."""
    return "-" if value is None else f"{value:.3f}"
