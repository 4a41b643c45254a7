"""Why a report got its labels: mentions, the decision for each label, and a readable form of both."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Mention:
    """One place in a report that states or denies a label.

    Args:
        label: The label.
        rule: Name of the finding that matched.
        words: The words that matched, as normalised.
        negated: Whether they are denied.
        cue: The words that deny them ("" if none).
        doubt: The words that leave them open ("" if none, and for what is denied).
        clause: The normalised clause in which a negation reaches.
        sentence: The sentence as written.
    """

    label: str
    rule: str
    words: str
    negated: bool
    cue: str
    doubt: str
    clause: str
    sentence: str

    @property
    def status(self) -> str:
        """``"negative"``, ``"uncertain"`` or ``"positive"``."""
        if self.negated:
            return "negative"
        return "uncertain" if self.doubt else "positive"

    def __str__(self) -> str:
        """Return one line: status, words, rule, cue and sentence."""
        cue = f', denied by "{self.cue}"' if self.negated else f', left open by "{self.doubt}"' if self.doubt else ""
        return f'{self.status}: "{self.words}" ({self.rule}{cue}) in: {self.sentence}'


@dataclass(frozen=True)
class Decision:
    """What was decided for one label, and from which mentions.

    Args:
        label: The label.
        value: 1, 0, or NaN for what is only uncertain (where the labeler was asked to say so).
        mentions: Every mention in the order of the text; none where the label is not spoken of.
    """

    label: str
    value: float
    mentions: tuple[Mention, ...]

    @property
    def status(self) -> str:
        """``"positive"``, ``"uncertain"``, ``"negative"`` or ``"not mentioned"``: the strongest mention's."""
        found = {mention.status for mention in self.mentions}
        return next((status for status in ("positive", "uncertain", "negative") if status in found), "not mentioned")


class Explanation(dict[str, Decision]):
    """Every label's :class:`Decision`, by label; ``str()`` gives a readable account.

    Example:
        >>> from ct_vlm.metrics import RuleLabeler
        >>> print(RuleLabeler().explain("Heart size is increased. No pleural effusion was seen."))
        [1] Cardiomegaly
            positive: "heart size is increased" (heart enlarged) in: Heart size is increased.
        [0] Pleural effusion
            negative: "effusion" (effusion, denied by "no") in: No pleural effusion was seen.
    """

    def __str__(self) -> str:
        """Return a readable account of the labels that the report speaks of."""
        lines: list[str] = []
        for decision in self.values():
            if decision.mentions:
                value = "?" if math.isnan(decision.value) else f"{decision.value:.0f}"
                lines += [f"[{value}] {decision.label}", *(f"    {mention}" for mention in decision.mentions)]
        return "\n".join(lines) or "No label is mentioned."
