"""Lung opacity and consolidation (consolidation alone is not an opacity)."""

from __future__ import annotations

from ct_vlm.metrics.labeler.lexicon.places import IN_LUNG, ONLY_LUNG
from ct_vlm.metrics.labeler.rules import Finding, LabelRule, rewrite, stems, words

_NAMED_OTHERWISE = (
    r"(?:fibro\w+|sequel\w+|band\w*|pleur\w+ ?parenchymal|calcif\w+"
    r"|metal\w*|soft tissue|fat\w*|fluid|liquid|air|bone"
    r"|sclerotic|lytic|contrast|blood|cystic|low|lower|decreas\w+|reduced|normal|liver"
    r"|vertebra\w*|mediastinal|medullary)"
)

OPACITY = LabelRule(
    label="Lung opacity",
    stems=stems("opaci glass densit ggo"),
    also=stems("opaci glass ggo icy frost increas area elevat patch acin alveol nodul reticul dep[ea]nd focal diffuse"),
    rewrites=(
        # densities whose nature the report names: they belong to another label
        rewrite(
            rf"\b{_NAMED_OTHERWISE}(?:[ ,]+(?!ground|frost|glass|consol|patch|infilt"
            rf"|nodul)\w+){{0,2}} (?:densit\w+|opacit\w+)"
        ),
        rewrite(
            r"(?<!glass )\b(?:densit\w+|opacit\w+)"
            r"(?:[ ,]+(?!and\b|(?<!consistent )(?<!compatible )with\b|ground|frost|patch|opacit)\w+){0,12}?"
            r"[ ,]+(?:pleuro ?parenchym\w+ )?(?:sequel|fibrot|scar|consolid)\w*"
        ),
        rewrite(r"\b(?:fat\w*|steato\w*|bone marrow) infiltrat\w+", r"\binfiltrat\w+ of fat"),
        rewrite(r"\bopaci\w+ (?:of|by|with) (?:the )?(?:contrast|vessel|lumen|arter)\w*", r"\bcontrast opaci\w+"),
    ),
    findings=(
        Finding(
            "ground glass",
            words(
                r"\b(?:ground|frosted|icy|iced|matte?|buzlu) ?glass\w*", r"\b(?:icy|frosted) densit\w+", r"\bggos?\b"
            ),
        ),
        Finding("opacity", words(r"\bopacit\w+", r"\bopacif\w+"), place=IN_LUNG),
        Finding(
            "density increase",
            words(
                r"\bdensit(?:y|ies)(?: \w+)? (?:increas\w+|areas?|elevations?|patches)",
                r"\bincreas\w+(?: (?:in|of|the|lung|parenchymal))* densit\w+",
                r"\b(?:patchy|nodular|acinar|alveolar|reticulo ?nodular|reticular|dep[ea]nd[ea]nt|focal"
                r"|diffuse)(?:[ ,]+\w+){0,2} densit(?:y|ies)",
            ),
            place=ONLY_LUNG,
        ),
    ),
)

CONSOLIDATION = LabelRule(
    label="Consolidation",
    stems=stems("consol konsol"),
    rewrites=(
        rewrite(r"\b(?:ground|frosted|icy) glass consolidat\w*"),
        rewrite(r"\b(?:fractur\w+|callus)(?: \w+){0,3} consolidat\w*", r"\bconsolidat\w*(?: \w+){0,2} fractur\w+"),
    ),
    findings=(Finding("consolidation", words(r"\b[ck]onsolid\w*", r"\bconsoli\w+")),),
)
