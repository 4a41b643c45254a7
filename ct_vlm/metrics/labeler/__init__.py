"""The rule labeler: 18 labels out of a report's text, with reasons."""

from ct_vlm.metrics.labeler.explanation import Decision, Explanation, Mention
from ct_vlm.metrics.labeler.labeler import RuleLabeler

__all__ = ["Decision", "Explanation", "Mention", "RuleLabeler"]
