"""Arterial and coronary artery wall calcification."""

from __future__ import annotations

from dataclasses import replace

from ct_vlm.metrics.labeler.rules import Finding, LabelRule, Place, any_of, rewrite, stems, words

_STEMS = stems("calcif ather plaque calcium sclero")
_CALCIFIED = r"(?<!non )(?<!un)\bcalcif\w+"
_CORONARY = r"\bcoronar(?!y sinus)\w*"
_ARTERY = any_of(
    r"\baort\w*",
    r"\barter(?!iovenous)\w*",
    r"\barcus",
    r"\barkus",
    r"\barch\b",
    r"\bvascular",
    r"\bvessels?\b",
    r"\bcarotid\w*",
    r"\bsubclavian",
    r"\bbrachio ?cephalic",
    r"\binnominate",
    r"\bsupra ?aortic",
    r"\btrunc\w+",
    r"\biliac",
    r"\bceliac",
    r"\bcoeliac",
    r"\bwalls? of (?:the )?great",
)
_REWRITES = (
    # coronary arteries under one word, so that "artery" left over means another artery
    rewrite(
        r"\b(?:(?:left|right) )?(?:main )?coronar(?:y|ies)(?: (?:main|arter\w+|vascular|vessels?"
        r"|structures?|branch\w*|walls?))*",
        r"\b(?:left )?anterior descending(?: (?:coronary|arter\w+|branch\w*))*",
        r"\bcircumflex(?: (?:coronary|arter\w+|branch\w*))*",
        r"\bl ?a ?d(?: arter\w+)?\b",
        r"\brca\b",
        r"\blmca\b",
        r"\blcx\b",
        r"\bcx\b",
        r"\bleft main(?: arter\w+)?\b",
        r"\bmain coronar\w+",
        to="coronary",
    ),
    # valves, and places named after the aorta
    rewrite(
        r"\b(?:(?:aortic|aort\w*|mitral|tricuspid|pulmonary|cardiac|heart)(?:, | and | or "
        r"| ))+(?:valv\w+|annul\w+|cusps?|leaflets?)"
    ),
    rewrite(r"\b(?:mitral|annul\w+|valv\w+)\b"),
    rewrite(
        r"\baort\w*o? ?pulmonary(?: window)?",
        r"\b(?:para|pre|retro|peri|inter)(?: ?aort\w+| ?vascular)",
        r"\baorto ?\w*caval",
    ),
    # calcium that is not in an artery
    rewrite(
        r"\bcalcif\w+(?: (?!plaq|ather|aort|arter|coron|vasc)\w+){0,3} (?:lymph\w*|nod\w+|granulom\w+|lesions?|mass\w*"
        r"|cysts?|disc\w*|cartilag\w+|tendon\w*)"
    ),
    rewrite(
        r"\b(?:lymph nodes?|nodul\w+|granulom\w+|lesions?|mass|cysts?|cartilag\w+)(?: (?!aort"
        r"|arter|coronar)\w+){0,4} calcif\w+"
    ),
    rewrite(
        r"\bpleura\w*(?: (?!aort|arter|coronar)\w+){0,4} (?:calcif\w+|plaques?)",
        r"\b(?:calcif\w+ )?(?:plaques? )?(?:\w+ )?pleura\w*(?: plaques?)?",
    ),
    rewrite(r"\bcalcif\w+(?: (?!aort|arter|coronar|ather)\w+){0,5} pleura\w*"),
    rewrite(
        r"\b(?:tracheo\w+|trache\w+|bronch\w+)(?: \w+){0,3} calcif\w+",
        r"\bcalcif\w+(?: \w+){0,4} (?:trache|bronch|peric)\w+",
    ),
)
_NOT_CORONARY_ALONE = Place(own=words(_ARTERY), foreign=words(_CORONARY), default=True)
_ARTERIES = replace(_NOT_CORONARY_ALONE, default=False)
_CORONARIES = Place(own=words(_CORONARY), foreign=words(_ARTERY), default=False)

ARTERIAL = LabelRule(
    label="Arterial wall calcification",
    stems=_STEMS,
    also=stems("arter aort arch ar[ck]us vasc vessel carot clav brachio innomin trunc iliac celiac coeliac wall plaq"),
    rewrites=_REWRITES,
    findings=(
        Finding("atheroma of an artery", words(r"\bather\w+"), place=_ARTERIES),
        Finding("calcified artery", words(_CALCIFIED), place=_ARTERIES),
        Finding("plaque in an artery", words(r"\bplaques?\b"), place=_ARTERIES),
        Finding(
            "calcified plaque",
            words(rf"{_CALCIFIED}(?: \w+)? plaques?\b", r"\bather\w+ plaques?\b"),
            place=_NOT_CORONARY_ALONE,
        ),
    ),
)

CORONARY = LabelRule(
    label="Coronary artery wall calcification",
    stems=_STEMS,
    also=stems(r"coron descend circumflex ^lad\b ^l\b ^rca\b ^lmca\b ^lcx\b ^cx\b ^left\b"),
    rewrites=_REWRITES,
    findings=(
        Finding("calcified coronary artery", words(_CALCIFIED), place=_CORONARIES),
        Finding(
            "coronary atheroma",
            words(r"\bather\w+", r"\bplaques?\b", r"\bcalcium\b", r"\bsclero(?:sis|tic)\b"),
            place=_CORONARIES,
        ),
    ),
)
