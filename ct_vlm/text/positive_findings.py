"""Reports of positive findings alone: what is abnormal, in random order, and nothing else.

Paper: Ker-VLJEPA-3B, https://arxiv.org/abs/2603.23308. Most sentences of a report are normal; a
decoder trained on them learns to write normal text and to look away from the image.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.text.labels import CT_RATE_LABELS
from ct_vlm.text.positive_templates import NORMAL_FINDINGS, POSITIVE_TEMPLATES
from ct_vlm.text.sections import clean_missing
from ct_vlm.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_STATED = 0.5


def positive_findings(
    labels: Sequence[float],
    *,
    seed: int | str,
    label_names: Sequence[str] = CT_RATE_LABELS,
    templates: Mapping[str, Sequence[str]] = POSITIVE_TEMPLATES,
    normal: str = NORMAL_FINDINGS,
) -> str:
    """Write one sentence for each positive label, in random order.

    Args:
        labels: 1 or 0 a label; a number that is NaN is unknown, and nothing is said of it.
        seed: What order and phrasing depend on; name sample and epoch in it to vary them, e.g.
            ``f"{volume_id}/{epoch}"``.
        label_names: Names of the labels, in their order.
        templates: Label to sentences, of which one is drawn.
        normal: Text if no label is positive.

    Raises:
        ShapeError: If there is not one number a label.
        ConfigError: If a number is neither 0, 1 nor NaN, none is known, or a label has no sentence.

    Example:
        >>> from ct_vlm.text import CT_RATE_LABELS, positive_findings
        >>> labels = [float(name in {"Emphysema", "Lung nodule"}) for name in CT_RATE_LABELS]
        >>> positive_findings(labels, seed="train_1_a_1/0")
        'There is a pulmonary nodule. There is pulmonary emphysema.'
        >>> positive_findings([0.0] * 18, seed=0)
        'No significant thoracic abnormalities identified.'

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308: segments of the positive classes alone, their order random,
        and the normal sentence. Inferred: that a segment is a sentence of a bank; the sentences.
    """
    rng = random.Random(str(seed))  # noqa: S311  (no secret)
    positive = _positive(labels, label_names)
    rng.shuffle(positive)
    return " ".join(_draw(rng, name, templates) for name in positive) or normal


def mine_positive_sentences(
    report: str | None, labeler: Callable[[Sequence[str]], Any], label_names: Sequence[str] | None = None
) -> dict[str, list[str]]:
    """Return the sentences of a report that state each label.

    Args:
        report: Report text, usually the findings section.
        labeler: Sentences to rows of 0 and 1, such as ``ct_vlm.metrics.RuleLabeler()``; it reads
            every sentence alone.
        label_names: Names of its columns; None takes its ``label_names``, else the 18 of CT-RATE.

    Returns:
        Label to sentences in the report's order; labels that nothing states are left out.

    Raises:
        ShapeError: If the labeler has another number of columns.

    Example:
        >>> from ct_vlm.metrics import RuleLabeler
        >>> from ct_vlm.text import mine_positive_sentences
        >>> report = "Trachea is open. A 4 mm nodule is seen in the left lung. No pleural effusion is seen."
        >>> mine_positive_sentences(report, RuleLabeler())
        {'Lung nodule': ['A 4 mm nodule is seen in the left lung.']}
    """
    names = _names(labeler, label_names)
    sentences = split_sentences(clean_missing(report))
    if not sentences:
        return {}
    rows = [[float(value) for value in row] for row in labeler(sentences)]
    if len(rows) != len(sentences) or any(len(row) != len(names) for row in rows):
        cause = f"Expected {len(sentences)} rows of {len(names)} labels from the labeler, but got {len(rows)}."
        raise ShapeError(cause, "Pass the names of its columns as `label_names`.")
    pairs = list(zip(sentences, rows, strict=True))
    found = {name: [text for text, row in pairs if row[column] > _STATED] for column, name in enumerate(names)}
    return {name: stated for name, stated in found.items() if stated}


def positive_sentences(
    report: str | None,
    labeler: Callable[[Sequence[str]], Any],
    labels: Sequence[float] | None = None,
    *,
    seed: int | str,
    label_names: Sequence[str] | None = None,
    templates: Mapping[str, Sequence[str]] | None = POSITIVE_TEMPLATES,
    normal: str = NORMAL_FINDINGS,
) -> str:
    """Keep of a report the sentences that state a positive label, label by label in random order.

    A sentence that states several labels is written once, with the first of them. It is kept whole,
    with whatever else it says.

    Args:
        report: Report text, usually the findings section.
        labeler: Sentences to rows of 0 and 1, such as ``ct_vlm.metrics.RuleLabeler()``.
        labels: 1, 0 or NaN a label; None takes what the labeler finds.
        seed: What the order depends on.
        label_names: Names of the labels; None takes those of the labeler, else the 18 of CT-RATE.
        templates: Where a positive label that no sentence states gets its sentence from; None leaves
            it out.
        normal: Text if no label is positive.

    Raises:
        ShapeError: If there is not one number a label.
        ConfigError: If a number is no label, or there is neither a text nor a known label.

    Example:
        >>> from ct_vlm.metrics import RuleLabeler
        >>> from ct_vlm.text import positive_sentences
        >>> report = "The trachea is open. There is a hiatal hernia of 12 mm."
        >>> positive_sentences(report, RuleLabeler(), seed=0)
        'There is a hiatal hernia of 12 mm.'

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308, does not say where its segments come from: mining is inferred.
    """
    names = _names(labeler, label_names)
    mined = mine_positive_sentences(report, labeler, names)
    if labels is None and not clean_missing(report):
        msg = "There is neither a report nor labels, so nothing is known of what is abnormal."
        raise ConfigError(msg, "Leave such a sample out.")
    positive = [name for name in names if name in mined] if labels is None else _positive(labels, names)
    rng = random.Random(str(seed))  # noqa: S311  (no secret)
    rng.shuffle(positive)
    chosen: dict[str, None] = {}
    for name in positive:
        stated = mined.get(name) or ([] if templates is None else [_draw(rng, name, templates)])
        chosen.update(dict.fromkeys(stated))
    return " ".join(map(_closed, chosen)) or normal


def _positive(labels: Sequence[float], names: Sequence[str]) -> list[str]:
    """Return the names of the positive labels."""
    values = [float(value) for value in labels]
    if len(values) != len(names):
        cause = f"Expected one number for each of {len(names)} labels, but got {len(values)}."
        raise ShapeError(cause, "Pass `label_names` in the order of the labels.")
    wrong = [value for value in values if value not in {0.0, 1.0} and not math.isnan(value)]
    if wrong:
        cause = f"Expected labels 0, 1 or NaN, but got {wrong[0]}."
        raise ConfigError(cause, "Compare probabilities with a threshold first.")
    if all(map(math.isnan, values)):
        msg = "No label is known, so nothing is known of what is abnormal."
        raise ConfigError(msg, "Leave such a sample out.")
    return [name for name, value in zip(names, values, strict=True) if value == 1.0]


def _draw(rng: random.Random, name: str, templates: Mapping[str, Sequence[str]]) -> str:
    """Return one sentence of a label's."""
    if not templates.get(name):
        cause = f"No sentence states `{name}`; there are sentences for {sorted(templates)}."
        raise ConfigError(cause, "Add one to `templates`.")
    return rng.choice(templates[name])


def _names(labeler: Any, label_names: Sequence[str] | None) -> Sequence[str]:
    """Return the names of a labeler's columns."""
    return getattr(labeler, "label_names", CT_RATE_LABELS) if label_names is None else label_names


def _closed(sentence: str) -> str:
    """Return a sentence that ends, so that the next one starts."""
    return sentence if sentence.endswith((".", "?", "!")) else f"{sentence}."
