"""Which sentences of a report state something abnormal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ct_vlm.metrics.labeler import RuleLabeler
from ct_vlm.metrics.labeler.engine import Sentence
from ct_vlm.metrics.labeler.negation import find_negation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Inferred: what reports of chest CTs call abnormal beside the 18 labels; in normalised text.
_LUNG = (
    r"nodul\w+|mass(?:es)?|lesions?|cyst(?:s|ic)?|cavit\w+|consolidat\w+|infiltrat\w+|ground glass|opacit\w+"
    r"|emphysem\w+|bulla\w*|blebs?|atelecta\w+|fibro\w+|sequel\w+|scars?|scarring|honeycomb\w*|bronchiect\w+"
    r"|bronchiolectas\w+|air trapping|mosaic|crazy paving|tree in bud|secretions?|muc(?:us|oid)\w*|pneumoni\w+"
    r"|edema|contusion\w*|h[ae]+morrhag\w+|reticul\w+|granulom\w+|hamartom\w*|hyperinflat\w+|hyperaerat\w+"
    r"|volume (?:loss|decrease)|loss of volume|(?:linear|patchy|nodular|band|hazy|frosted glass) densit\w+"
    r"|densit\w+ increases?|interstitial lung disease|covid\w*|tubercul\w+|infarct\w*|collaps\w+"
)
_CHEST = (
    r"effusions?|pneumothora\w+|h[ae]+mothora\w+|empyem\w*|thicken\w+|thickness increase\w*|calcif\w+|plaques?"
    r"|ather\w+|aneurysm\w*|dilat\w+|ectasi\w+|ectatic|stenos\w+|thromb\w+|embol\w+|dissect\w+|cardiomegaly"
    r"|enlarg\w+|hypertroph\w+|lymphadenop\w+|hernia\w*|diverticul\w+|tumou?r\w*|malignan\w+|carcinom\w+"
    r"|neoplas\w+|metasta\w+|abscess\w*|h[ae]+matom\w+|increas\w+ in (?:size|diameter|caliber)"
    r"|(?:is|are|was|were|has|have) (?:\w+ )?increased|wider than|larger than"
    r"|(?:size|diameter|caliber|calibration|width)s?(?: \w+){0,8} increased|^increased$"
    r"|(?:above|over|exceed\w*|beyond|greater than|higher than) (?:the )?(?:upper )?(?:normal|limits? of normal)"
    r"|fluid|collections?|deviat\w+|displac\w+|elevat\w+|compress(?:ion|ed|es|ing)|invad\w+|invasion|varic\w+"
    r"|tortuo\w+|aberrant|anomal\w+|pneumomediastin\w+"
)
_ELSEWHERE = (
    r"fractur\w+|lytic|sclero\w+|osteophyt\w+|osteopor\w+|osteopeni\w+|osteoarthr\w+|degenerat\w+|spondyl\w+"
    r"|scolio\w+|kyphosis|(?:loss of|decreased?) height|height loss|h[ae]+mangiom\w+|schmorl\w*|deform\w+|goit\w+"
    r"|adenom\w+|polyp\w*|calcul[iu]\w*|(?:gall)?stones?|\w*lithiasis|steatosis"
    r"|fatty (?:liver|infiltration|change\w*)|hepatosteatosis|hepatomegaly|splenomegaly|hydroneph\w+|ascit\w+"
    r"|atroph\w+|pectus|kyphotic|lipom\w+|asymmetr\w+|erosi\w+|destruct\w+|gyn[ae]+comastia|hypodens\w+|hyperdens\w+|heterogene\w+"
)
_TREATED = (
    r"stents?|bypass\w*|grafts?|valve replacement|tubes?|drains?|electrodes?"
    r"|pacemaker\w*|catheters?|prosthe\w+|implants?|sutur\w+|clips?|wires?|(?:post ?)?operat\w+|resect\w+"
    r"|\w+ectomy|nephrost\w+|tracheostom\w+"
)
_WORDS = re.compile(rf"(?<![a-z])(?:{_LUNG}|{_CHEST}|{_ELSEWHERE}|{_TREATED})(?![a-z])")
_NORMAL = re.compile(
    r"\bno(?:t|rmal)(?: \w+)? (?:increased|enlarged|dilated|thickened|larger|wider|elevated|deviated|displaced)\b"
    r"|\bwithin normal limits\b"
    r"|\bnot (?:\w+ )?(?:above|over|exceed\w*|beyond|greater|higher)\b"
    r"|\b(?:is|are|was|were) (?!above |over |beyond )(?:\w+ )?(?:normal|natural|unremarkable)\b"
)


class AbnormalSentences:
    """Tell which sentences state something abnormal.

    A sentence does if the labeler finds a label in it, or if a clause holds a word for something
    abnormal that neither is denied nor called normal. What is only left open ("may be") counts as
    stated. Words and rule are inferred; the paper had a language model and a manual check.

    Args:
        labeler: Sentences to rows of 0 and 1; the rule labeler by default.
        extra: Regular expressions of further words, for text in lower case with hyphens as blanks.

    Example:
        >>> from ct_vlm.datasets.steering import AbnormalSentences
        >>> sentences = ["Dextrocardia.", "No fracture is seen.", "Heart size is normal.", "A 4 mm nodule."]
        >>> AbnormalSentences()(sentences)
        [False, False, False, True]
        >>> AbnormalSentences(extra=["dextrocardia"])(sentences)[0]
        True
    """

    def __init__(self, labeler: Callable[[Sequence[str]], Any] | None = None, extra: Sequence[str] = ()) -> None:
        self._labeler = RuleLabeler() if labeler is None else labeler
        self._patterns = (_WORDS, *(re.compile(rf"(?<![a-z])(?:{pattern})(?![a-z])") for pattern in extra))

    def __call__(self, sentences: Sequence[str]) -> list[bool]:
        """Return for each sentence whether it states something abnormal.

        Args:
            sentences: Sentences of a report.
        """
        if not sentences:
            return []
        rows = self._labeler(list(sentences))
        return [
            any(value == 1 for value in row) or self._names_one(sentence)
            for sentence, row in zip(sentences, rows, strict=True)
        ]

    def _names_one(self, sentence: str) -> bool:
        """Tell whether a clause holds a word that is not denied."""
        return any(
            not find_negation(clause, match.start(), match.end())
            for clause in Sentence(sentence).clauses
            if _NORMAL.search(clause) is None
            for pattern in self._patterns
            for match in pattern.finditer(clause)
        )
