"""Lymphadenopathy: by the data set's convention any lymph node stated, even a tiny one."""

from __future__ import annotations

from ct_vlm.metrics.labeler.rules import Finding, LabelRule, rewrite, stems, words

NODES = LabelRule(
    label="Lymphadenopathy",
    stems=stems("lymph lap node adeno lenf"),
    rewrites=(
        rewrite(r"\blymph ?nod\w* (?:stations?|dissections?|excisions?|biops\w+|chains?|groups?)"),
        # a nodule that may be a lymph node of the lung
        rewrite(r"\b(?:intra ?pulmonary|intra ?parenchymal|peri ?fissural|sub ?pleural) lymph ?nod\w*"),
        rewrite(r"\blymphangi\w+"),
    ),
    findings=(
        Finding("lymph node", words(r"\blymph(?:atic|oid)? ?(?:nodes?|nodules?|nodi|glands?|nods?)\b", r"\blenf\w*")),
        Finding(
            "lymphadenopathy",
            words(r"\blymph ?adeno\w+", r"\badenopath\w+", r"\badenomegal\w+", r"\blaps?\b", r"\blymph ?adenit\w+"),
        ),
        Finding(
            "node",
            words(
                r"\b(?:enlarged|mediastinal|hilar|axillary|supra ?clavicular|para ?tracheal|sub ?carinal"
                r"|pathological|conglomerated?|pre ?vascular|necrotic) nodes?\b"
            ),
        ),
    ),
)
