"""Pleural effusion."""

from __future__ import annotations

from ct_vlm.metrics.labeler.rules import Finding, LabelRule, Place, rewrite, stems, words

_ELSEWHERE = words(
    r"\bperi ?hepat\w*",
    r"\bperi ?splen\w*",
    r"\babdom\w*",
    r"\bintra ?abdom\w*",
    r"\bpelvi\w+",
    r"\bascit\w*",
    r"\bperiton\w*",
    r"\bjoints?\b",
    r"\bknee",
    r"\bshoulder",
    r"\bgleno\w+",
    r"\bmiddle ear",
    r"\bmastoid",
    r"\bsinus(?:es)?\b(?<!phrenic sinus)(?<!phrenic sinuses)",
    r"\bpericard\w*",
    r"\b(?:peri|para)?(?: ?renal|nephric)",
    r"\bkidneys?\b",
    r"\bspleen|\bsplenic",
    r"\bsub ?capsular",
    r"\bsub ?dural",
    r"\bscrot\w+",
    r"\bmaxillary",
)
_PLEURA = words(
    r"\bpleur\w*",
    r"\bhemi ?thora\w+",
    r"\bcosto ?phrenic",
    r"\bfissur\w+",
    r"\blungs?\b",
    r"\bthorac\w+ cavit\w+",
    r"\bbilateral",
)

PLEURAL = LabelRule(
    label="Pleural effusion",
    stems=stems("effus fluid hydro hemo haemo empyem liquid pyo"),
    rewrites=(
        # effusion of the pericardium, unless the pleura shares the word
        rewrite(
            r"(?<!pleural )(?<!pleural and )(?<!pleural or )(?<!pleural nor )(?<!pleural, )(?<!pleural, and )"
            r"\bpericardi\w*(?:[ ,]+(?!pleur|hemithor)\w+){0,8}?[ ,]+"
            r"(?:effusions?|fluids?|liquid)\b(?!(?: \w+){0,4} pleur)"
        ),
        rewrite(
            r"\beffusions?(?:[ ,]+(?!and\b|or\b|pleur|hemithor"
            r"|bilateral)\w+){0,12}?[ ,]+pericardi\w*(?!(?: and| or)(?: \w+){0,3} pleur)"
        ),
        rewrite(
            r"\b(?:cerebrospinal|free|amniotic|contrast|extravasated) fluid(?! in (?:the )?(?:right "
            r"|left |both )?(?:pleur|hemithor))"
        ),
    ),
    findings=(
        Finding("effusion", words(r"\beffusions?\b"), place=Place(own=_PLEURA, foreign=_ELSEWHERE, default=True)),
        Finding(
            "pleural fluid",
            words(
                r"\b\w*pleura\w*(?: (?!pericard)\w+){0,4} (?:fluids?|liquid)\b",
                r"\b(?:fluids?|liquid)(?: (?!pericard)\w+){0,6} (?:pleura\w*|hemi ?thora\w+|costo ?phrenic|fissur\w+)",
            ),
        ),
        Finding(
            "fluid by name",
            words(
                r"\bhydro ?thora\w+",
                r"\bh(?:a)?emo ?thora\w+",
                r"\b(?:hydro|h(?:a)?emo|pyo) ?pneumo ?thora\w+",
                r"\bempyem\w*",
                r"\bpyothora\w+",
            ),
        ),
    ),
)
