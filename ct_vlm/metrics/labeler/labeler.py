"""Label reports by rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.errors import ConfigError
from ct_vlm.metrics.labeler.engine import Mention, Sentence, WordIndex, find_mentions, states
from ct_vlm.metrics.labeler.lexicon import LABEL_RULES
from ct_vlm.text.labels import CT_RATE_LABELS
from ct_vlm.text.sections import clean_missing
from ct_vlm.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_INDEX = WordIndex(LABEL_RULES)
_MAX_KNOWN = 2**16


class RuleLabeler:
    """Find the 18 CT-RATE labels in report text: deterministic, offline and explained.

    Each sentence is cut into the clauses within which a negation reaches; a label's lexicon is
    looked for in them; a mention counts unless its clause denies it. Uncertain statements
    ("pneumonia?") count as positive. The conventions are those of manual labels of CT-RATE-style
    reports: any lymph node stated, even a tiny one, is lymphadenopathy; plaques of the coronary
    arteries alone are not arterial wall calcification; consolidation alone is not lung opacity; an
    organ that was removed is not medical material.

    Scores from these labels are not comparable with scores from a RadBERT-type classifier; results
    carry :attr:`name` for that reason.

    Attributes:
        name: ``"rules"``, put beside every score.
        label_names: The labels, in the order of the columns.

    Example:
        >>> from ct_vlm.metrics import RuleLabeler
        >>> labeler = RuleLabeler()
        >>> row = labeler(["Heart size increased. Pleural effusion was not observed."])[0]
        >>> [name for name, value in zip(labeler.label_names, row) if value]
        ['Cardiomegaly']
    """

    name = "rules"
    label_names: tuple[str, ...] = CT_RATE_LABELS

    def __init__(self) -> None:
        # reports repeat their sentences, so what a sentence states is remembered
        self._known: dict[str, tuple[int, ...]] = {}

    def __call__(self, texts: Sequence[str | None] | str) -> NDArray[np.int64]:
        """Label reports.

        Args:
            texts: Reports; ``None``, NaN and "Not given." count as empty. One string is one report.

        Returns:
            0 or 1 for each report and label.

        Shape:
            - Output: ``(B, K)`` with K = 18.

        Raises:
            ConfigError: If an item is neither text nor missing.
        """
        reports = [texts] if isinstance(texts, str) else list(texts)
        labels = np.zeros((len(reports), len(LABEL_RULES)), dtype=np.int64)
        for row, report in enumerate(reports):
            before = ""
            for written in _sentences(report, row):
                columns = self._known.get(written)
                labels[row, list(self._read(written, before) if columns is None else columns)] = 1
                before = written
        return labels

    def _read(self, written: str, before: str) -> tuple[int, ...]:
        """Return the columns that a sentence states; remember them if they do not depend on the sentence before."""
        sentence = Sentence(written, before)
        columns = tuple(c for c in _INDEX.rules_of(sentence) if states(LABEL_RULES[c], sentence))
        if not sentence.has_looked_back:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[written] = columns
        return columns

    def explain(self, text: str) -> dict[str, list[Mention]]:
        """Return why each label was given or not.

        Args:
            text: One report.

        Returns:
            Every label with its mentions in order of the text; a label is positive if one of them
            is not negated, and an empty list means that it was not mentioned.

        Example:
            >>> from ct_vlm.metrics import RuleLabeler
            >>> mention = RuleLabeler().explain("No pleural effusion was seen.")["Pleural effusion"][0]
            >>> mention.words, mention.negated, mention.cue
            ('effusion', True, 'no')
        """
        mentions: dict[str, list[Mention]] = {label: [] for label in self.label_names}
        before = ""
        for written in _sentences(text, 0):
            sentence = Sentence(written, before)
            for column in _INDEX.rules_of(sentence):
                mentions[self.label_names[column]].extend(find_mentions(LABEL_RULES[column], sentence))
            before = written
        return mentions

    def __repr__(self) -> str:
        """Return the constructor call."""
        return "RuleLabeler()"


def _sentences(report: Any, row: int) -> list[str]:
    """Return the sentences of a report."""
    if not isinstance(report, str) and report is not None and not (isinstance(report, float) and np.isnan(report)):
        cause = f"Report {row} is a {type(report).__name__} ({report!r}), not text."
        raise ConfigError(cause, "Pass strings, or None for a missing report.")
    return split_sentences(clean_missing(report))
