"""Emphysema, atelectasis and lung nodules."""

from __future__ import annotations

from dataclasses import replace

from ct_vlm.metrics.labeler.lexicon.places import IN_LUNG, ONLY_LUNG
from ct_vlm.metrics.labeler.rules import Finding, LabelRule, any_of, rewrite, stems, words

_SOFT_TISSUE = any_of(
    r"sub ?cutaneous|cutaneous|skin|soft|tissues?|mediastinal|int(?:ra|er) ?muscular|muscles?|chest wall|neck",
    r"cervical|pectoral|axillary",
)
EMPHYSEMA = LabelRule(
    label="Emphysema",
    stems=stems("mphys mphis nphys nphis bull bleb"),
    rewrites=(
        # air outside the lung
        rewrite(
            rf"\b(?:{_SOFT_TISSUE}|pneumo ?mediastinum)"
            rf"(?:[ ,]+(?:and|or|air|diffuse|widespread|{_SOFT_TISSUE}|planes?))* [ae]mph[yi]sem\w*"
        ),
        rewrite(
            rf"\b[ae]mph[yi]sem\w*(?: (?!and\b|with\b|lung|lobe)\w+){{0,6}} "
            rf"(?:{_SOFT_TISSUE}|in the mediastinum)\b"
        ),
        rewrite(r"\bbullets?\b"),
    ),
    findings=(
        Finding("emphysema", words(r"\b[ae](?:m|n)ph[yi]sem\w*")),
        Finding("bulla", words(r"\bbull(?:a|ae|as|ous|e|es|ea|i)\b", r"\bblebs?\b", r"\b\w*bullous\b")),
    ),
)

ATELECTASIS = LabelRule(
    label="Atelectasis",
    stems=stems("tele tale telac collap"),
    # scarred lung that has lost volume: the labels count it as sequela
    rewrites=(rewrite(r"\bfibro(?:tic|us)? ?at[ea]l\w*"),),
    findings=(
        Finding("atelectasis", words(r"\b\w*at[ea]le[ckt]t?\w*", r"\b\w*atelac\w*", r"\bdys ?telect\w+")),
        Finding(
            "collapse",
            words(r"\bcollaps\w+"),
            unless=words(
                r"\bvertebr\w*",
                r"\bcorpus",
                r"\bend ?plate",
                r"\bgall ?bladder",
                r"\bstomach",
                r"\btrache\w+",
                r"\besophag\w+",
                r"\bvena",
                r"\bbronch\w+ collaps",
            ),
            place=ONLY_LUNG,
        ),
    ),
)

# reports call nodules of glands and of the liver hypodense, those of the lung solid or ground glass
_NODULE_PLACE = replace(IN_LUNG, foreign=words(IN_LUNG.foreign.pattern, r"\bmediastin\w+", r"\b(?:hypo|iso) ?dens\w*"))
NODULE = LabelRule(
    label="Lung nodule",
    stems=stems("nodul"),
    also=stems("nodul(?!ar) lesion struct mass foc metasta"),
    rewrites=(
        rewrite(
            r"\bnodular(?: \w+)? (?:thicken\w*|contours?|margins?|hyperplasi\w+)", r"\bthicken\w*(?: \w+)? nodular"
        ),
        rewrite(
            r"\bnodular (?:style |pattern )?(?:ground|frosted) ?glass",
            r"\bnodular (?:\w+ )?(?:consolidat|infiltrat)\w*",
        ),
        # of the pleura itself; "pleural based" is a nodule of the lung
        rewrite(r"\bpleural nodul\w*", r"\bnodul\w+(?: lesions?)?(?: \w+){0,3} in the pleura\b"),
        rewrite(r"\b(?:lymph|thyroid|adrenal|surrenal|breast|sub ?cutaneous|skin|pleural thickening) nodul\w*"),
        rewrite(r"\bschmorl\w*(?: s)? nodul\w*"),
        rewrite(r"\breticulo ?nodular", r"\bnodularit\w+"),
    ),
    findings=(
        Finding("nodule", words(r"\b(?:micro ?|pseudo ?|macro ?)?nodul(?:es?|i|us|e?s)\b"), place=_NODULE_PLACE),
        Finding(
            "nodular lesion",
            words(r"\b(?:micro ?)?nodular(?: \w+){0,2} (?:lesions?|structures?|mass\w*|foc(?:us|i)|metasta\w+)"),
            place=_NODULE_PLACE,
        ),
    ),
)
