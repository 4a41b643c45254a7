"""How reports name the findings that are taken for one another."""

from __future__ import annotations

from ct_vlm.text.finding_forms import FindingPhrases, finding, form_of

__all__ = ["FINDINGS", "FindingPhrases", "form_of"]

_GGO = "ground[- ]glass"
# words of one finding give the other away where they stay behind
_SMALL = r"mill?imetric|tiny|punctate|micro\w*"
_NODULAR = rf"{_SMALL}|tree|spicul\w*|metasta\w*|ground|part[ -]solid|subsolid|cavit\w*"
_LOST = "volume loss|loss of volume"
_BRONCHOGRAM = r"bronchograms?"
_NODAL = r"axis|fatty|stations?|patholog\w*|enlarged|conglomerat\w*|nodal|hil(?:um|us) structure"
_LUNG = (
    finding(
        "consolidation",
        "Consolidation",
        kinds="pneumonic|airspace",
        where="lobar|parenchymal",
        said={"many": "consolidations", "one": "consolidation area", "mass": "consolidation"},
        found={
            "many": "consolidation areas|areas of consolidation|consolidat(?:ive|ed) (?:areas|changes)",
            "one": "area of consolidation|consolidat(?:ive|ed) area",
        },
        clash=f"{_NODULAR}|{_LOST}",
    ),
    finding(
        "ground glass opacity",
        "Lung opacity",
        said={"many": "ground glass opacities", "one": "area of ground glass opacity", "mass": "ground glass opacity"},
        found={
            "many": f"{_GGO} (?:opacities|densities|areas|density increases)"
            f"|(?:patches|areas) of {_GGO} (?:opacity|density)",
            "one": f"{_GGO} area|patch of {_GGO} (?:opacity|density)",
            "mass": f"opacity of {_GGO} density|(?:increased )?{_GGO} (?:opacity|density increase|density|attenuation)",
        },
        clash=f"solid|dense|{_NODULAR}|{_LOST}|{_BRONCHOGRAM}",
    ),
    finding(
        "atelectasis",
        "Atelectasis",
        kinds="linear|band|plate-?like|passive|compressive|discoid",
        where="sub-?segmental|segmental|lobar",
        said={"many": "atelectatic changes", "one": "area of atelectasis", "mass": "atelectasis"},
        found={
            "many": "atelectatic (?:bands|areas)|areas of (?:linear )?atelectasis|atelectases",
            "one": "atelectatic (?:band|area)",
            "mass": "atelectasis in the form of bands|atelectatic change",
        },
        clash=f"solid|{_NODULAR}",
    ),
    finding(
        "emphysema",
        "Emphysema",
        kinds=r"centri\w+|panacinar|panlobular|bullous",
        where="para-?septal",
        said={"many": "emphysematous changes", "one": "emphysematous area", "mass": "emphysema"},
        found={
            "many": "emphysematous (?:areas|bullae)|areas of emphysema",
            "one": "area of emphysema",
            "mass": "emphysema with bullae|emphysematous change",
        },
    ),
    finding(
        "bronchiectasis",
        "Bronchiectasis",
        kinds="tubular|cystic|cylindrical|varicose|saccular|traction",
        said={"many": "bronchiectatic changes", "one": "area of bronchiectasis", "mass": "bronchiectasis"},
        found={
            "many": "dilated bronchi compatible with bronchiectasis|bronchiectases",
            "one": "cluster of bronchiectasis",
            "mass": "bronchiectatic dilatation",
        },
        clash=r"para-?septal|main bronch\w+|trache\w*",
    ),
    finding(
        "mosaic attenuation",
        "Mosaic attenuation pattern",
        said={"many": "areas of mosaic attenuation", "mass": "mosaic attenuation", "one": "mosaic attenuation pattern"},
        found={
            "many": "attenuation differences in a mosaic pattern",
            "one": r"(?<=\ba )mosaic attenuation(?: pattern)?",
            "mass": "mosaic attenuation pattern|mosaic pattern of lung attenuation",
        },
        has_size=False,
        clash=rf"para-?septal|bullae?|{_LOST}",
    ),
    finding(
        "nodule",
        "Lung nodule",
        kinds="solid|calcified|calcific|non-?calcified|non-?specific",
        where="pulmonary|parenchymal",
        said={"many": "nodules", "one": "nodule"},
        found={"many": "nodular lesions", "one": "nodular lesion"},
        clash=rf"patch\w*|(?:sub-?)?segmental|lobar|pleuro-?parenchymal|{_LOST}|{_BRONCHOGRAM}",
    ),
    finding(
        "sequela",
        "Pulmonary fibrotic sequela",
        kinds="chronic|fibrotic",
        where="pleuro-?parenchymal",
        said={"many": "sequela fibrotic changes", "one": "sequela fibrotic band"},
        found={
            "many": "sequelae? (?:(?:fibrotic|parenchymal) )*(?:changes|bands|densities|recessions)"
            "|sequelae of fibrosis|sequelae|fibrotic densities of sequela nature",
            "one": "sequela (?:fibrotic )?(?:change|density)",
        },
        clash=f"solid|{_NODULAR}",
    ),
    finding(
        "septal thickening",
        "Interlobular septal thickening",
        kinds="smooth",
        said={"many": "interlobular septal thickenings", "mass": "interlobular septal thickening"},
        found={
            "many": "thickened interlobular septa",
            "mass": "interlobular septal thickness increase|septal thickening of interlobular type",
        },
        has_size=False,
        clash=rf"patch\w*|focal|(?:sub-?)?segmental|lobar|pleuro-?parenchymal|{_LOST}",
    ),
    finding("honeycombing", said={"mass": "honeycombing"}, found={"many": "honeycomb cysts"}, clash="para-?septal"),
    finding(
        "air cyst", said={"many": "thin-walled air cysts", "one": "thin-walled air cyst"}, found={"many": "air cysts"}
    ),
)
_AIRWAYS = (
    finding(
        "peribronchial thickening",
        "Peribronchial thickening",
        said={"many": "peribronchial thickenings", "mass": "peribronchial thickening"},
        found={
            "mass": "(?:increased bronchial wall thickness with )?peribronchial (?:wall )?thick(?:ening|ness increase)"
            "|thickening of the peribronchial tissue"
        },
    ),
    finding("mucus plug", said={"many": "mucus plugs", "one": "mucus plug", "mass": "mucus plugging"}),
)
_WIDTH = r"thick\w*|fluid|free|dependent|loculat\w*"
_HEART = (
    finding(
        "cardiomegaly",
        "Cardiomegaly",
        said={"clause": "heart size is increased", "one": "enlarged heart", "mass": "cardiomegaly"},
        found={
            "clause": "(?:size of the heart|heart size|heart dimensions|the heart)"
            " (?:is|are|has|have) (?:increased|enlarged)"
            "|the heart is larger than normal|cardiothoracic index is increased in favor of the heart"
            "|increased cardiothoracic ratio is compatible with cardiomegaly",
        },
        has_size=False,
    ),
    finding(
        "pericardial effusion",
        "Pericardial effusion",
        said={
            "clause": "pericardial effusion is observed",
            "one": "pericardial effusion",
            "mass": "pericardial effusion",
        },
        found={"mass": "thickened pericardial fluid as pericardial effusion|effusion"},
    ),
    finding(
        "pericardial thickening",
        said={
            "clause": "pericardial thickening is observed",
            "one": "pericardial thickening",
            "mass": "pericardial thickening",
        },
        clash=_WIDTH,
    ),
    finding(
        "coronary calcification",
        "Coronary artery wall calcification",
        kinds="calcific|calcified|atherosclerotic|atheromatous",
        where="coronary|artery|wall",
        said={"many": "calcified plaques", "one": "calcified plaque", "mass": "calcification"},
        found={"many": "(?:atheroma )?plaques(?: with calcification)?|calcifications", "one": "plaque"},
    ),
    finding(
        "coronary stent",
        "Medical material",
        kinds="metallic",
        where="coronary|artery",
        said={"many": "metallic stents", "one": "metallic stent", "mass": "metallic stent material"},
        found={"many": "stents", "one": "stent"},
        clash="walls?|line",
    ),
)
_MEDIASTINUM = (
    finding(
        "arterial calcification",
        "Arterial wall calcification",
        # what they are taken for is mural itself: the wall is still told
        kinds="calcific|calcified|atherosclerotic|atheromatous|mural|wall",
        where="arterial|aortic",
        said={"many": "calcified plaques", "one": "calcified plaque", "mass": "wall calcification"},
        found={"many": "(?:atheroma |calcified )*plaques|calcifications", "one": "plaque", "mass": "calcification"},
    ),
    finding("mural thrombus", said={"many": "mural thrombi", "one": "mural thrombus", "mass": "mural thrombus"}),
    finding("intramural hematoma", said={"many": "intramural hematomas", "mass": "intramural hematoma"}),
    finding(
        "lymphadenopathy",
        "Lymphadenopathy",
        said={"many": "enlarged lymph nodes", "mass": "lymphadenopathy"},
        found={
            "many": r"(?:pathologically )?enlarged (?P<kept>(?:(?!lymph)[\w-]+ ){0,3})lymph nodes|lymph nodes"
            "|lymphadenopathies",
        },
    ),
    finding("mediastinal cyst", said={"many": "cystic lesions", "one": "cystic lesion"}, clash=_NODAL),
    finding("soft tissue", said={"many": "soft tissue thickenings", "mass": "soft tissue thickening"}, clash=_NODAL),
)
_STOMACH = r"gastric|stomach|type|sliding|hiat\w+"
_ESOPHAGUS = (
    finding(
        "hiatal hernia",
        "Hiatal hernia",
        kinds="sliding type|sliding",
        where="gastric",
        said={"one": "hiatal hernia", "mass": "hiatal hernia"},
        found={
            "mass": "(?:the stomach protrudes through the hiatus|herniation of the stomach) as (?:a )?hiatal hernia",
        },
    ),
    finding(
        "diverticulum",
        said={"one": "epiphrenic diverticulum", "mass": "epiphrenic diverticulum"},
        found={"one": "diverticulum"},
        clash=_STOMACH,
    ),
    finding("esophageal mass", said={"one": "esophageal mass", "mass": "esophageal mass"}, clash=_STOMACH),
)
_PRESSED = r"compress\w*|passive|adjacent|atelecta\w*"
_PLEURA = (
    finding(
        "pleural effusion",
        "Pleural effusion",
        kinds="free|thick",
        said={"many": "pleural effusions", "mass": "pleural effusion"},
        found={"many": "effusions", "mass": "effusion"},
    ),
    finding(
        "pleural thickening",
        said={"many": "pleural thickenings", "mass": "pleural thickening"},
        clash=rf"{_WIDTH}|{_PRESSED}",
    ),
    finding(
        "pneumothorax",
        said={"many": "pneumothoraces", "mass": "pneumothorax"},
        clash=rf"fluid|dependent|loculat\w*|{_PRESSED}",
    ),
)
_SPINE = r"vertebra\w*|end ?plates?|corpus|spin(?:e|al)|corners?"
_BROKEN = r"heights?|collaps\w*|compress\w*|displac\w*|callus|wedg\w*"
_BONE = (
    finding(
        "osteophyte",
        kinds="degenerative",
        said={"many": "osteophytes", "one": "osteophyte"},
        clash=_BROKEN,
        needs=_SPINE,
    ),
    finding(
        "fracture",
        kinds="compression|old|healed",
        said={"many": "fractures", "one": "fracture"},
        clash=r"metal\w*|artifact|material|placement|bridg\w*",
    ),
    finding(
        "sternal wire",
        "Medical material",
        said={"many": "sternal wires", "one": "sternal wire"},
        found={"many": "sternotomy wire(?:s| sutures)"},
        needs=r"stern\w+",
    ),
    finding("lytic lesion", said={"many": "lytic lesions", "one": "lytic lesion"}),
    finding("sclerotic lesion", said={"many": "sclerotic lesions", "one": "sclerotic lesion"}),
    finding("bone island", said={"many": "bone islands", "one": "bone island"}),
    finding("vertebral hemangioma", said={"many": "hemangiomas", "one": "hemangioma"}, needs=_SPINE),
    finding(
        "schmorl node",
        said={"many": "Schmorl nodes", "one": "Schmorl node"},
        found={"many": "Schmorl(?:['\u2019 ]?s)? nod(?:ul)?es"},
        clash=_BROKEN,
        needs=_SPINE,
    ),
    finding("scoliosis", said={"mass": "scoliosis"}, has_size=False, clash=r"angulation|forwards?"),
    finding(
        "kyphosis",
        said={"mass": "kyphosis"},
        has_size=False,
        clash=r"opening|facing|left\w*|right\w*|lateral\w*|shaped|rotat\w*",
    ),
)
_GLANDS = (
    finding("thyroid nodule", kinds="hypodense|solid", said={"many": "nodules", "one": "nodule"}),
    finding("thyroid cyst", said={"many": "cysts", "one": "cyst"}),
    finding(
        "breast mass",
        kinds="solid",
        said={"many": "masses", "one": "mass"},
        found={"many": "mass lesions", "one": "mass lesion"},
    ),
    finding("breast cyst", said={"many": "cysts", "one": "cyst"}),
)
_ABDOMEN = (
    finding("gallstone", said={"many": "gallstones", "one": "gallstone"}),
    finding("gallbladder polyp", said={"many": "gallbladder polyps", "one": "gallbladder polyp"}),
    finding("cyst", kinds="simple", where="cortical", said={"many": "cysts", "one": "cyst"}),
    finding("solid lesion", said={"many": "solid lesions", "one": "solid lesion"}),
    finding(
        "steatosis",
        said={"mass": "hepatic steatosis"},
        found={"mass": "hepatosteatosis"},
        has_size=False,
        clash=r"sizes?|larg\w*|enlarg\w*|increas\w*|length|craniocaudal\w*",
    ),
    finding("hepatomegaly", said={"mass": "hepatomegaly"}, clash=r"densit\w*|attenuat\w*|fat\w*|h[yi]\w+dens\w*"),
    finding("adrenal adenoma", said={"many": "adrenal adenomas", "one": "adrenal adenoma"}),
    finding("adrenal metastasis", said={"many": "adrenal metastases", "one": "adrenal metastasis"}),
)

FINDINGS: dict[str, FindingPhrases] = {
    entry.name: entry
    for group in (_LUNG, _AIRWAYS, _HEART, _MEDIASTINUM, _ESOPHAGUS, _PLEURA, _BONE, _GLANDS, _ABDOMEN)
    for entry in group
}
"""Findings by name. The phrases are inferred: those of CT-RATE-style reports, not a published list."""
