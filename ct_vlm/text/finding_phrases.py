"""How reports name findings, in forms that stand for one another: a head noun can be put in another's place.

Forms differ in grammar: ``many`` is a plural, ``one`` takes an article, ``mass`` takes none, and
``clause`` has a verb. Place, size, side and number stay outside the phrase.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Literal

from ct_vlm.text.finding_signs import SIGNS

Form = Literal["many", "one", "mass", "clause"]

_SIZE = re.compile(r"\d ?(?:mm|cm)\b", re.IGNORECASE)
_FORMS: tuple[Form, ...] = ("clause", "many", "one", "mass")


@dataclass(frozen=True)
class FindingPhrases:
    """One finding: how its phrases are found, and how it is said.

    Args:
        name: Its name.
        label: Its label in ``CT_RATE_LABELS``, or None.
        said: Words of each form.
        found: Regular expression of each form, for any case. A group ``kept`` stays in the text.
        kinds: Expressions of adjectives that only this finding has; they go with it.
        where: Expressions of adjectives among those that say where it is; they stay.
        has_size: Whether it can be measured in millimetres.
        clash: Expression of words that cannot be said of it, or "".
        needs: Expression of words of which one must be said with it, or "".
        also: Expression of all that may mean it, for text in lower case with hyphens as blanks; never
            what is replaced.
    """

    name: str
    label: str | None
    said: dict[Form, str]
    found: dict[Form, str]
    kinds: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    has_size: bool = True
    clash: str = ""
    needs: str = ""
    also: str = ""

    def suits(self, text: str) -> bool:
        """Tell whether the finding can be said with everything else that a sentence says.

        Args:
            text: The sentence.
        """
        if not self.has_size and _SIZE.search(text):
            return False
        if self.needs and not _has_word(self.needs, text):
            return False
        return not (self.clash and _has_word(self.clash, text))

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        """Finds a phrase; the group of its form says which form it has."""
        adjectives = "|".join((*self.kinds, *self.where))
        before = rf"(?P<before>(?:(?:{adjectives})[ -]+)*)" if adjectives else ""
        forms = "|".join(f"(?P<{form}>{self.found[form]})" for form in _FORMS if form in self.found)
        return re.compile(rf"(?<![\w-]){before}(?:{forms})(?![\w-])", re.IGNORECASE)

    @functools.cached_property
    def signs(self) -> re.Pattern[str]:
        """Finds whatever may mean the finding, in text in lower case with hyphens as blanks."""
        return re.compile(rf"(?<![a-z])(?:{self.also})(?![a-z])" if self.also else r"(?!)")

    @functools.cached_property
    def _places(self) -> re.Pattern[str]:
        """Finds adjectives of place."""
        return re.compile(rf"\b(?:{'|'.join(self.where)})\b" if self.where else r"(?!)", re.IGNORECASE)

    def kept(self, match: re.Match[str]) -> str:
        """Return what a match of the pattern holds that stays when the finding goes: words of place.

        Args:
            match: The match.
        """
        groups = match.groupdict()
        found = self._places.findall(groups.get("before") or "")
        return "".join(f"{word} " for word in (*found, (groups.get("kept") or "").strip()) if word)


def form_of(match: re.Match[str]) -> Form:
    """Return the form of a phrase that a finding's pattern matched.

    Args:
        match: The match.

    Example:
        >>> from ct_vlm.text.finding_phrases import FINDINGS, form_of
        >>> form_of(FINDINGS["nodule"].pattern.search("Two nodules."))
        'many'
    """
    groups = match.groupdict()
    return next(form for form in _FORMS if groups.get(form) is not None)


def _has_word(words: str, text: str) -> bool:
    """Tell whether a text holds a word that an expression matches."""
    return re.search(rf"\b(?:{words})\b", text, re.IGNORECASE) is not None


def _finding(
    name: str,
    label: str | None = None,
    *,
    kinds: str = "",
    where: str = "",
    said: dict[Form, str],
    found: dict[Form, str] | None = None,
    has_size: bool = True,
    clash: str = "",
    needs: str = "",
) -> FindingPhrases:
    """Return a finding; it is found as it is said, and as ``found`` says."""
    more = found or {}
    patterns: dict[Form, str] = {
        form: "|".join(filter(None, (more.get(form, ""), _either_hyphen(said.get(form, "")))))
        for form in _FORMS
        if form in said or form in more
    }
    adjectives, places = (tuple(filter(None, words.split("|"))) for words in (kinds, where))
    return FindingPhrases(name, label, said, patterns, adjectives, places, has_size, clash, needs, SIGNS[name])


def _either_hyphen(words: str) -> str:
    """Return an expression of words that takes blanks for hyphens, too."""
    return re.escape(words).replace(r"\-", "[ -]")


_GGO = "ground[- ]glass"
# words of one finding give the other away where they stay behind
_SMALL = r"mill?imetric|tiny|punctate|micro\w*"
_NODULAR = rf"{_SMALL}|tree|spicul\w*|metasta\w*|ground|part[ -]solid|subsolid|cavit\w*"
_LOST = "volume loss|loss of volume"
_BRONCHOGRAM = r"bronchograms?"
_NODAL = r"axis|fatty|stations?|patholog\w*|enlarged|conglomerat\w*|nodal|hil(?:um|us) structure"
_LUNG = (
    _finding(
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
    _finding(
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
    _finding(
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
    _finding(
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
    _finding(
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
    _finding(
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
    _finding(
        "nodule",
        "Lung nodule",
        kinds="solid|calcified|calcific|non-?calcified|non-?specific",
        where="pulmonary|parenchymal",
        said={"many": "nodules", "one": "nodule"},
        found={"many": "nodular lesions", "one": "nodular lesion"},
        clash=rf"patch\w*|(?:sub-?)?segmental|lobar|pleuro-?parenchymal|{_LOST}|{_BRONCHOGRAM}",
    ),
    _finding(
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
    _finding(
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
    _finding("honeycombing", said={"mass": "honeycombing"}, found={"many": "honeycomb cysts"}, clash="para-?septal"),
    _finding(
        "air cyst", said={"many": "thin-walled air cysts", "one": "thin-walled air cyst"}, found={"many": "air cysts"}
    ),
)
_AIRWAYS = (
    _finding(
        "peribronchial thickening",
        "Peribronchial thickening",
        said={"many": "peribronchial thickenings", "mass": "peribronchial thickening"},
        found={
            "mass": "(?:increased bronchial wall thickness with )?peribronchial (?:wall )?thick(?:ening|ness increase)"
            "|thickening of the peribronchial tissue"
        },
    ),
    _finding("mucus plug", said={"many": "mucus plugs", "one": "mucus plug", "mass": "mucus plugging"}),
)
_WIDTH = r"thick\w*|fluid|free|dependent|loculat\w*"
_HEART = (
    _finding(
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
    _finding(
        "pericardial effusion",
        "Pericardial effusion",
        said={
            "clause": "pericardial effusion is observed",
            "one": "pericardial effusion",
            "mass": "pericardial effusion",
        },
        found={"mass": "thickened pericardial fluid as pericardial effusion|effusion"},
    ),
    _finding(
        "pericardial thickening",
        said={
            "clause": "pericardial thickening is observed",
            "one": "pericardial thickening",
            "mass": "pericardial thickening",
        },
        clash=_WIDTH,
    ),
    _finding(
        "coronary calcification",
        "Coronary artery wall calcification",
        kinds="calcific|calcified|atherosclerotic|atheromatous",
        where="coronary|artery|wall",
        said={"many": "calcified plaques", "one": "calcified plaque", "mass": "calcification"},
        found={"many": "(?:atheroma )?plaques(?: with calcification)?|calcifications", "one": "plaque"},
    ),
    _finding(
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
    _finding(
        "arterial calcification",
        "Arterial wall calcification",
        # what they are taken for is mural itself: the wall is still told
        kinds="calcific|calcified|atherosclerotic|atheromatous|mural|wall",
        where="arterial|aortic",
        said={"many": "calcified plaques", "one": "calcified plaque", "mass": "wall calcification"},
        found={"many": "(?:atheroma |calcified )*plaques|calcifications", "one": "plaque", "mass": "calcification"},
    ),
    _finding("mural thrombus", said={"many": "mural thrombi", "one": "mural thrombus", "mass": "mural thrombus"}),
    _finding("intramural hematoma", said={"many": "intramural hematomas", "mass": "intramural hematoma"}),
    _finding(
        "lymphadenopathy",
        "Lymphadenopathy",
        said={"many": "enlarged lymph nodes", "mass": "lymphadenopathy"},
        found={
            "many": r"(?:pathologically )?enlarged (?P<kept>(?:(?!lymph)[\w-]+ ){0,3})lymph nodes|lymph nodes"
            "|lymphadenopathies",
        },
    ),
    _finding("mediastinal cyst", said={"many": "cystic lesions", "one": "cystic lesion"}, clash=_NODAL),
    _finding("soft tissue", said={"many": "soft tissue thickenings", "mass": "soft tissue thickening"}, clash=_NODAL),
)
_STOMACH = r"gastric|stomach|type|sliding|hiat\w+"
_ESOPHAGUS = (
    _finding(
        "hiatal hernia",
        "Hiatal hernia",
        kinds="sliding type|sliding",
        where="gastric",
        said={"one": "hiatal hernia", "mass": "hiatal hernia"},
        found={
            "mass": "(?:the stomach protrudes through the hiatus|herniation of the stomach) as (?:a )?hiatal hernia",
        },
    ),
    _finding(
        "diverticulum",
        said={"one": "epiphrenic diverticulum", "mass": "epiphrenic diverticulum"},
        found={"one": "diverticulum"},
        clash=_STOMACH,
    ),
    _finding("esophageal mass", said={"one": "esophageal mass", "mass": "esophageal mass"}, clash=_STOMACH),
)
_PRESSED = r"compress\w*|passive|adjacent|atelecta\w*"
_PLEURA = (
    _finding(
        "pleural effusion",
        "Pleural effusion",
        kinds="free|thick",
        said={"many": "pleural effusions", "mass": "pleural effusion"},
        found={"many": "effusions", "mass": "effusion"},
    ),
    _finding(
        "pleural thickening",
        said={"many": "pleural thickenings", "mass": "pleural thickening"},
        clash=rf"{_WIDTH}|{_PRESSED}",
    ),
    _finding(
        "pneumothorax",
        said={"many": "pneumothoraces", "mass": "pneumothorax"},
        clash=rf"fluid|dependent|loculat\w*|{_PRESSED}",
    ),
)
_SPINE = r"vertebra\w*|end ?plates?|corpus|spin(?:e|al)|corners?"
_BROKEN = r"heights?|collaps\w*|compress\w*|displac\w*|callus|wedg\w*"
_BONE = (
    _finding(
        "osteophyte",
        kinds="degenerative",
        said={"many": "osteophytes", "one": "osteophyte"},
        clash=_BROKEN,
        needs=_SPINE,
    ),
    _finding(
        "fracture",
        kinds="compression|old|healed",
        said={"many": "fractures", "one": "fracture"},
        clash=r"metal\w*|artifact|material|placement|bridg\w*",
    ),
    _finding(
        "sternal wire",
        "Medical material",
        said={"many": "sternal wires", "one": "sternal wire"},
        found={"many": "sternotomy wire(?:s| sutures)"},
        needs=r"stern\w+",
    ),
    _finding("lytic lesion", said={"many": "lytic lesions", "one": "lytic lesion"}),
    _finding("sclerotic lesion", said={"many": "sclerotic lesions", "one": "sclerotic lesion"}),
    _finding("bone island", said={"many": "bone islands", "one": "bone island"}),
    _finding("vertebral hemangioma", said={"many": "hemangiomas", "one": "hemangioma"}, needs=_SPINE),
    _finding(
        "schmorl node",
        said={"many": "Schmorl nodes", "one": "Schmorl node"},
        found={"many": "Schmorl(?:['\u2019 ]?s)? nod(?:ul)?es"},
        clash=_BROKEN,
        needs=_SPINE,
    ),
    _finding("scoliosis", said={"mass": "scoliosis"}, has_size=False, clash=r"angulation|forwards?"),
    _finding(
        "kyphosis",
        said={"mass": "kyphosis"},
        has_size=False,
        clash=r"opening|facing|left\w*|right\w*|lateral\w*|shaped|rotat\w*",
    ),
)
_GLANDS = (
    _finding("thyroid nodule", kinds="hypodense|solid", said={"many": "nodules", "one": "nodule"}),
    _finding("thyroid cyst", said={"many": "cysts", "one": "cyst"}),
    _finding(
        "breast mass",
        kinds="solid",
        said={"many": "masses", "one": "mass"},
        found={"many": "mass lesions", "one": "mass lesion"},
    ),
    _finding("breast cyst", said={"many": "cysts", "one": "cyst"}),
)
_ABDOMEN = (
    _finding("gallstone", said={"many": "gallstones", "one": "gallstone"}),
    _finding("gallbladder polyp", said={"many": "gallbladder polyps", "one": "gallbladder polyp"}),
    _finding("cyst", kinds="simple", where="cortical", said={"many": "cysts", "one": "cyst"}),
    _finding("solid lesion", said={"many": "solid lesions", "one": "solid lesion"}),
    _finding(
        "steatosis",
        said={"mass": "hepatic steatosis"},
        found={"mass": "hepatosteatosis"},
        has_size=False,
        clash=r"sizes?|larg\w*|enlarg\w*|increas\w*|length|craniocaudal\w*",
    ),
    _finding("hepatomegaly", said={"mass": "hepatomegaly"}, clash=r"densit\w*|attenuat\w*|fat\w*|h[yi]\w+dens\w*"),
    _finding("adrenal adenoma", said={"many": "adrenal adenomas", "one": "adrenal adenoma"}),
    _finding("adrenal metastasis", said={"many": "adrenal metastases", "one": "adrenal metastasis"}),
)

FINDINGS: dict[str, FindingPhrases] = {
    finding.name: finding
    for group in (_LUNG, _AIRWAYS, _HEART, _MEDIASTINUM, _ESOPHAGUS, _PLEURA, _BONE, _GLANDS, _ABDOMEN)
    for finding in group
}
"""Findings by name. The phrases are inferred: those of CT-RATE-style reports, not a published list."""
