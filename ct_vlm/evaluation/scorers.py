"""Scores of other packages beside our own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.errors import ConfigError, CTVLMError, DatasetError
from ct_vlm.evaluation.progress import step
from ct_vlm.metrics.adapters import external_scores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ct_vlm.evaluation.pairing import Pairs


def outside_scores(
    pairs: Pairs, scorers: Sequence[str], models: Mapping[str, Mapping[str, str]], *, progress: bool = False
) -> dict[str, Any]:
    """Score reports with GREEN, RaTEScore or RadGraph F1.

    Args:
        pairs: The reports.
        scorers: Names of scorers.
        models: Scorer to the folders of its models.
        progress: Show progress on a terminal.

    Returns:
        ``scores`` (scorer to its scores and settings) and ``skipped`` (scorer to why not).

    Raises:
        DatasetError: If there are no reports on both sides.

    Example:
        >>> from ct_vlm.evaluation import ReportTable, outside_scores, pair_reports
        >>> truth = ReportTable(("a",), ("Lungs are clear.",))
        >>> found = outside_scores(pair_reports(truth, truth), ["green"], {})
        >>> found["scores"], list(found["skipped"])
        ({}, ['green'])
    """
    if pairs.predictions is None or pairs.references is None:
        cause = "Outside scorers need reports on both sides."
        raise DatasetError(cause, "Pass files with reports.")
    scores: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for name in scorers:
        try:
            with step(f"Scoring with {name}", show=progress):
                found = external_scores(pairs.predictions, pairs.references, name, models.get(name))
            scores[name] = {
                "scores": found.scores,
                "settings": found.settings,
                "missing_predictions": found.missing_predictions,
            }
        except CTVLMError as error:
            skipped[name] = " ".join(str(error).split())
    return {"scores": scores, "skipped": skipped}


def parse_models(given: Sequence[str]) -> dict[str, dict[str, str]]:
    """Read ``scorer.role=FOLDER`` settings.

    Args:
        given: The settings.

    Raises:
        ConfigError: If one is of another form.

    Example:
        >>> from ct_vlm.evaluation.scorers import parse_models
        >>> parse_models(["green.model=weights"])
        {'green': {'model': 'weights'}}
    """
    found: dict[str, dict[str, str]] = {}
    for text in given:
        key, _, path = text.partition("=")
        scorer, _, role = key.partition(".")
        if not (scorer and role and path):
            cause = f"Cannot read the scorer's model {text!r}."
            raise ConfigError(cause, "Write scorer.role=FOLDER, e.g. green.model=weights/GREEN.")
        found.setdefault(scorer, {})[role] = str(Path(path).expanduser())
    return found
