"""Cardiomegaly and pericardial effusion."""

from __future__ import annotations

from ct_vlm.metrics.labeler.rules import Finding, LabelRule, any_of, rewrite, stems, within, words

_HEART = r"\b(?:heart|cardiac|cardio ?thoracic|cardio ?mediastinal|ctr|cti|kto)\b"
_BIG = (
    r"(?:increas\w+|enlarg\w+|larger|bigger|greater|higher|dilat\w+|expan\w+|grown|hypertroph\w+|big\b|large\b"
    r"|prominent|above|exceed\w*|over \d)"
)
# words that end the reach from the heart to a word of size
_NOT_HEART = any_of(
    "aort|pulmon|pericard|normal|natural|effusion|lymph|wall|dens|calcif|coronar|ascend|vena|valve|fat|pacemaker|not",
    "arter|apex|upper limit|decreas|rate",
)

CARDIOMEGALY = LabelRule(
    label="Cardiomegaly",
    stems=stems(r"heart cardiac cardio megacard ^ctr\b ^cti\b ^kto\b"),
    also=stems(
        "increas enlarg larg big great high dilat expan grow hypertroph promin above exceed over mega ratio"
        r" index ^ctr\b ^cti\b"
    ),
    rewrites=(
        rewrite(r"\b(?:left|right) (?:heart )?(?:atri\w+|ventric\w+|chambers?|cavit\w+|spaces?)"),
        rewrite(
            r"\bheart (?:failure|rate|valve\w*|disease|attack|transplant\w*)",
            r"\bcardiac (?:valve\w*|tamponade|arrest|apex)",
        ),
    ),
    findings=(
        Finding("cardiomegaly", words(r"\bcardio ?megal\w+", r"\bmegacard\w+")),
        Finding("heart enlarged", words(rf"{_HEART}{within(9, _NOT_HEART)}{_BIG}")),
        Finding(
            "enlarged heart",
            words(rf"\b(?:increas\w+|enlarg\w+|dilat\w+|growth|large|larger|big){within(4, _NOT_HEART)}{_HEART}"),
        ),
        Finding(
            "cardiothoracic ratio above one half",
            words(r"\b(?:cardio ?thoracic (?:ratio|index)|ctr|cti)[\w, ]{0,20}\b0_(?:5[1-9]|[6-9])\d?"),
        ),
    ),
)

_FLUID = r"(?:effusions?|fluids?|hemo ?pericardium|liquid)\b"
_JOIN = r"(?:[ ,]+(?:and|or|nor|with)?[ ,]*)"
PERICARDIAL = LabelRule(
    label="Pericardial effusion",
    stems=stems("pericard"),
    also=stems("effus fluid liquid hemo haemo hydro tampon"),
    rewrites=(
        rewrite(
            r"\bepi ?pericard\w*",
            r"\bsuperior pericardi\w* recess\w*",
            r"\bpericard\w* (?:fat|cyst|lipoma\w*)(?: \w+)?",
        ),
    ),
    findings=(
        Finding("pericardial effusion", words(rf"\bpericardi\w*{within(8, 'pleur|hemithor|perihep')}{_FLUID}")),
        Finding(
            "pericardial and pleural effusion",
            words(rf"\bpericardi\w*{_JOIN}(?:bilateral |right |left )?pleural?(?: \w+){{0,3}} {_FLUID}"),
        ),
        Finding(
            "effusion in the pericardium",
            words(rf"\b{_FLUID}(?:[ ,]+(?!and\b|or\b|pleur|hemithor)\w+){{0,14}}?[ ,]+pericardi\w*(?! thick)"),
        ),
        Finding(
            "effusion in both serous spaces",
            words(rf"\b{_FLUID}(?: \w+){{0,6}} pleura\w*(?: \w+)? (?:and|or) (?:in )?(?:the )?pericardi\w*"),
        ),
        Finding(
            "fluid by name",
            words(r"\bhaemo ?pericard\w+", r"\bhemo ?pericard\w+", r"\bhydro ?pericard\w+", r"\bpericardial tamponade"),
        ),
    ),
)
