"""Mosaic attenuation, peribronchial thickening, bronchiectasis and interlobular septal thickening."""

from __future__ import annotations

from ct_vlm.metrics.labeler.rules import Finding, LabelRule, any_of, rewrite, stems, within, words

_THICK = r"thick(?!ness(?:es)? (?:is|are|was|were) (?:normal|natural|within))\w*"
_BRONCHI = r"\b(?:tracheo ?)?bronch(?:i|us|es|al|ial|ic|iol\w+)\b"
# words that end the reach from one word of a finding to the other
_ANOTHER = any_of(
    "infiltr|consol|opac|dens|glass|nodul|lymph|atelect|emphys|lesion|mass|effusion|esoph|oesoph|gastr|stomach|aort",
    "fissur|normal|natural|open",
)
_NO_AIRWAY = f"{_ANOTHER}|pleura"

MOSAIC = LabelRule(
    label="Mosaic attenuation pattern",
    stems=stems("mosai mozai"),
    findings=(Finding("mosaic", words(r"\bmo[sz]ai[ck]\w*")),),
)

PERIBRONCHIAL = LabelRule(
    label="Peribronchial thickening",
    stems=stems("bronch"),
    also=stems("thick cuff promin increas sheath"),
    findings=(
        Finding(
            "peribronchial thickening",
            words(
                rf"\bperi ?bronch\w*{within(6, _NO_AIRWAY, 'ectas|bronchiect|sept|interlob')}"
                rf"(?:{_THICK}|cuff\w*|promin\w*|increas\w*|sheath\w*)"
            ),
        ),
        Finding(
            "thickening around the bronchi",
            words(rf"\b(?:{_THICK}|cuff\w*){within(9, _NO_AIRWAY)}peri ?bronch(?!iect)\w*"),
        ),
    ),
)

_WIDE = r"(?:ectas\w+|ectatic|dilat\w+|enlarg\w+|widen\w+|expan\w+)"
BRONCHIECTASIS = LabelRule(
    label="Bronchiectasis",
    stems=stems("bronch"),
    also=stems("ect ekt bronchie dilat enlarg widen expan"),
    rewrites=(rewrite(r"\b(?:aort\w*|vascular|arter\w*|duct\w*|biliary)(?: \w+){0,3} ectas\w*"),),
    findings=(
        Finding(
            "bronchiectasis",
            words(r"\b\w*bronchi?o?l?o? ?e[ck]ta[sztc]\w*", r"\bbronchiekt\w+", r"\bbronchect\w+", r"\bbronchiec\w+"),
        ),
        Finding("dilated bronchi", words(rf"{_BRONCHI}{within(5, _NO_AIRWAY, 'vasc|arter|wall|thick|pulmon')}{_WIDE}")),
        Finding(
            "dilatation of bronchi", words(rf"\b{_WIDE}{within(5, _NO_AIRWAY, 'vasc|arter|wall|thick')}{_BRONCHI}")
        ),
    ),
)

_SEPTA = (
    r"(?:inter ?lob(?:ul)?ar sept\w*|inter ?lobul\w+|intra ?lobul\w+|inter ?sept\w+|intra ?sept\w+"
    r"|sept(?:a|al|as|ae|um|ums)\b)"
)

SEPTAL = LabelRule(
    label="Interlobular septal thickening",
    stems=stems("sept lobul kerley"),
    rewrites=(
        rewrite(r"\b(?:nasal|inter ?ventricular|inter ?atrial|ventricular|atrial|cardiac|rectovaginal) sept\w+"),
    ),
    findings=(
        Finding(
            "septal thickening",
            words(rf"\b{_SEPTA}{within(6, _ANOTHER)}(?:{_THICK}|promin\w*|clarif\w*|distinct\w*)"),
        ),
        Finding("thickening of septa", words(rf"\b(?:{_THICK}|prominence\w*){within(6, _NO_AIRWAY)}{_SEPTA}")),
        Finding("septal lines", words(r"\bkerley", r"\bseptal lines?\b", r"\bsmooth septa\w*")),
    ),
)
