"""Pulmonary fibrotic sequela."""

from __future__ import annotations

from ct_vlm.metrics.labeler.lexicon.places import IN_LUNG
from ct_vlm.metrics.labeler.rules import Finding, LabelRule, rewrite, stems, words

SEQUELA = LabelRule(
    label="Pulmonary fibrotic sequela",
    stems=stems("sequel secuel fibro ^pleuro ^band scar cicatri"),
    rewrites=(
        rewrite(
            r"\bse[qc]uel\w*(?:[ ,]+(?!fibro|pleuro|atelect|densit|chang|band"
            r"|linear)\w+){0,2} (?:lymph|fractur|granul|nodul|calcif|cyst|infarct|rib|bone)\w*"
        ),
        rewrite(
            r"\b(?:fractur\w+|granulom\w+|infarct\w*)(?: \w+){0,2} se[qc]uel\w*",
            r"\bcalcif\w+ se[qc]uel\w* (?:nodul|lymph|granul)\w*",
        ),
        rewrite(
            r"\bfibro ?(?:adenom\w*|glandular|ma\b|mas\b|muscular|fatty|cystic|lipom\w*|epithel\w*|blast\w*|scan)\w*",
            r"\bmyo ?fibro\w+",
        ),
    ),
    findings=(
        Finding("sequela", words(r"\bse[qc]uel\w*"), place=IN_LUNG),
        Finding(
            "fibrosis",
            words(
                r"\bfibro(?:tic|us|se)\b",
                r"\bfibro ?(?:at[ea]l|bullous|calcif|nodul|indurat|cicat|retract|linear)\w*",
            ),
            place=IN_LUNG,
        ),
        Finding("fibroatelectasis", words(r"\bfibro(?:tic)? ?at[ea]l\w*")),
        Finding("pleuroparenchymal change", words(r"\bpleuro ?parenchym\w+")),
        Finding("parenchymal band", words(r"\b(?:parenchymal|sub ?pleural) bands?")),
        Finding("scar", words(r"\bscar(?:s|ring|red)?\b", r"\bcicatri\w+"), place=IN_LUNG),
    ),
)
