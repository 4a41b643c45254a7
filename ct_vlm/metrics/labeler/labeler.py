"""Label reports by rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ct_vlm.errors import ConfigError
from ct_vlm.metrics.labeler.engine import Sentence, WordIndex, find_mentions, states
from ct_vlm.metrics.labeler.explanation import Decision, Explanation, Mention
from ct_vlm.metrics.labeler.lexicon import LABEL_RULES
from ct_vlm.metrics.labeler.rules import change_rules
from ct_vlm.text.labels import CT_RATE_LABELS
from ct_vlm.text.sections import clean_missing, is_missing
from ct_vlm.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ct_vlm.metrics.labeler.rules import LabelRule

Uncertain = Literal["positive", "negative", "nan"]
"""What a label that is only left open counts as."""

_INDEX = WordIndex(LABEL_RULES)
_MAX_KNOWN = 2**16
_Columns = tuple[int, ...]


class RuleLabeler:
    r"""Find the 18 CT-RATE labels in report text: deterministic, offline and explained.

    Each sentence is cut into the clauses within which a negation reaches; a label's lexicon is
    looked for in them; a mention counts unless its clause denies it. The conventions are those of
    manual labels of CT-RATE-style reports, where the plain meaning of a label's name would say
    otherwise:

    - any lymph node stated, even a tiny one, is lymphadenopathy (not one inside the lung);
    - plaques of the coronary arteries alone are not arterial wall calcification, and
      "atherosclerosis" without an artery is neither;
    - consolidation or infiltration alone is not lung opacity, and "ground glass consolidation" is
      opacity only;
    - fibroatelectatic change is sequela, not atelectasis; pulmonary fibrosis, honeycombing and
      distortion alone are not sequela;
    - thickening must be peribronchial: a thick bronchial wall alone does not count; crazy paving is
      not septal thickening, air trapping is not mosaic attenuation, air cysts are not emphysema;
    - an operation that was done is not medical material, what it left behind (sutures, stents) is.

    Scores from these labels are not comparable with scores from a RadBERT-type classifier; results
    carry :attr:`name` for that reason. A labeler may be shared by threads.

    Attributes:
        name: ``"rules"``, put beside every score.
        label_names: The labels, in the order of the columns.

    Args:
        uncertain: What a label counts as that a report only leaves open ("may be", "cannot be
            excluded", "consolidation?"): ``"positive"``, ``"negative"`` or ``"nan"``.
        extra: Label to regular expressions of your own, for text in lower case with hyphens and
            slashes as blanks; negation applies to them too.
        without: Names of findings (``Mention.rule``) to switch off.

    Raises:
        ConfigError: If ``uncertain``, a label or a finding does not exist, or an expression does
            not compile.

    Example:
        >>> from ct_vlm.metrics import RuleLabeler
        >>> labeler = RuleLabeler()
        >>> row = labeler(["Heart size increased. Pleural effusion was not observed."])[0]
        >>> [name for name, value in zip(labeler.label_names, row) if value]
        ['Cardiomegaly']
        >>> broad = RuleLabeler(extra={"Peribronchial thickening": [r"bronchial wall thicken\w+"]})
        >>> broad("Bronchial wall thickening is seen.").sum().item()
        1
    """

    name = "rules"
    label_names: tuple[str, ...] = CT_RATE_LABELS

    def __init__(
        self,
        uncertain: Uncertain = "positive",
        extra: Mapping[str, Sequence[str]] | None = None,
        without: Sequence[str] = (),
    ) -> None:
        if uncertain not in get_args(Uncertain):
            cause = f"`uncertain` is {uncertain!r}."
            raise ConfigError(cause, f"Choose from: {', '.join(get_args(Uncertain))}.")
        self.uncertain = uncertain
        self.extra = {label: tuple(patterns) for label, patterns in (extra or {}).items()}
        self.without = tuple(without)
        self._rules: tuple[LabelRule, ...] = LABEL_RULES
        self._index = _INDEX
        if self.extra or self.without:
            self._rules = change_rules(LABEL_RULES, self.extra, self.without)
            self._index = WordIndex(self._rules)
        # reports repeat their sentences, so what a sentence states and leaves open is remembered
        self._known: dict[str, tuple[_Columns, _Columns]] = {}

    def __call__(self, texts: Sequence[str | None] | str) -> NDArray[Any]:
        """Label reports.

        Args:
            texts: Reports; ``None``, NaN and "Not given." count as empty. One string is one report.

        Returns:
            0 or 1 for each report and label, as integers; with ``uncertain="nan"`` as floats, with
            NaN for what a report leaves open. A report without text has no label: callers who take
            it for unknown leave it out.

        Shape:
            - Output: ``(B, K)`` with K = 18.

        Raises:
            ConfigError: If an item is neither text nor missing.
        """
        reports = [texts] if isinstance(texts, str) else list(texts)
        stated = np.zeros((len(reports), len(self._rules)), dtype=np.int64)
        left_open = np.zeros_like(stated)
        for row, report in enumerate(reports):
            columns: set[int] = set()
            open_columns: set[int] = set()
            before = ""
            for written in _sentences(report, row):
                known = self._known.get(written) or self._read(written, before)
                columns.update(known[0])
                open_columns.update(known[1])
                before = written
            stated[row, list(columns)] = 1
            left_open[row, list(open_columns)] = 1
        if self.uncertain == "nan":
            return np.where((stated == 0) & (left_open == 1), np.nan, stated)
        return stated

    def _read(self, written: str, before: str) -> tuple[_Columns, _Columns]:
        """Return the columns that a sentence states and leaves open.

        They are remembered if they do not depend on the sentence before.
        """
        sentence = Sentence(written, before)
        weigh_doubt = self.uncertain != "positive"
        stated: list[int] = []
        left_open: list[int] = []
        for column in self._index.rules_of(sentence):
            found = states(self._rules[column], sentence, weigh_doubt=weigh_doubt)
            if found is not False:
                (left_open if found is None else stated).append(column)
        columns = (tuple(stated), tuple(left_open))
        if not sentence.has_looked_back:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[written] = columns
        return columns

    def explain(self, text: str) -> Explanation:
        """Return why each label was given or not.

        Args:
            text: One report.

        Returns:
            Every label with its decision; ``str()`` of it is a readable account.

        Example:
            >>> from ct_vlm.metrics import RuleLabeler
            >>> mention = RuleLabeler().explain("No pleural effusion was seen.")["Pleural effusion"].mentions[0]
            >>> mention.words, mention.negated, mention.cue
            ('effusion', True, 'no')
        """
        mentions: dict[str, list[Mention]] = {label: [] for label in self.label_names}
        before = ""
        for written in _sentences(text, 0):
            sentence = Sentence(written, before)
            for column in self._index.rules_of(sentence):
                mentions[self.label_names[column]].extend(find_mentions(self._rules[column], sentence))
            before = written
        return Explanation({label: self._decide(label, tuple(found)) for label, found in mentions.items()})

    def _decide(self, label: str, mentions: tuple[Mention, ...]) -> Decision:
        """Return the decision on a label from its mentions."""
        values = {"positive": 1.0, "uncertain": {"positive": 1.0, "negative": 0.0, "nan": np.nan}[self.uncertain]}
        return Decision(label, values.get(Decision(label, 0.0, mentions).status, 0.0), mentions)

    def __repr__(self) -> str:
        """Return the constructor call."""
        given = {"uncertain": self.uncertain, "extra": self.extra, "without": self.without}
        defaults = {"uncertain": "positive", "extra": {}, "without": ()}
        changed = (f"{name}={value!r}" for name, value in given.items() if value != defaults[name])
        return f"RuleLabeler({', '.join(changed)})"


def _sentences(report: Any, row: int) -> list[str]:
    """Return the sentences of a report."""
    if not isinstance(report, str) and not is_missing(report):
        cause = f"Report {row} is a {type(report).__name__} ({report!r}), not text."
        raise ConfigError(cause, "Pass strings, or None for a missing report.")
    text = clean_missing(report)
    # in a report all in capitals a capital says nothing about where a sentence starts
    return split_sentences(text.lower() if text.isupper() else text)
