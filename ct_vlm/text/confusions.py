"""Which findings are taken for one another on a chest CT, region by region, and why.

The table is the project's own (inferred). AbSteering had a language model choose "clinically
confusable" abnormalities of the same region and names no list.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ct_vlm.text.finding_phrases import FINDINGS, FindingPhrases, form_of

_HEAD_AFTER = re.compile(
    r"[ -]+(?:lesions?|areas?|changes?|densit(?:y|ies)|opacit(?:y|ies)|formations?|structures?|patterns?|appearances?"
    r"|lines|line(?! the\b)|sequelae?|foc(?:us|i)|nodules?|cysts?|mass(?:es)?|plaques?|bands?)\b",
    re.IGNORECASE,
)
_MEASURE = re.compile(r"areas? of ", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+")
_STEM, _SHORTEST, _BEFORE, _AFTER = 5, 4, 3, 2


class Confusion(NamedTuple):
    """Two findings of a region that are taken for one another.

    Args:
        region: Region of the list's entry.
        old: Name of the finding that is there.
        new: Name of the one it is taken for.
        reason: Why.
    """

    region: str
    old: str
    new: str
    reason: str


# each pair is confused both ways
_PAIRS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "lung": (
        ("consolidation", "ground glass opacity", "both raise attenuation; only whether vessels show through differs"),
        ("consolidation", "atelectasis", "both are dense and may hold air bronchograms; volume loss tells them apart"),
        ("ground glass opacity", "atelectasis", "dependent collapse shows as ground glass at the bases"),
        ("ground glass opacity", "mosaic attenuation", "patchy ground glass beside normal lung looks like a mosaic"),
        (
            "ground glass opacity",
            "septal thickening",
            "both veil the lung in edema, and occur apart or as crazy paving",
        ),
        ("emphysema", "mosaic attenuation", "air trapping and destroyed lung are both dark and poor in vessels"),
        ("emphysema", "bronchiectasis", "cystic dilated airways and centrilobular holes both are black rings"),
        ("emphysema", "air cyst", "a cyst has a wall, emphysema hardly one"),
        ("emphysema", "honeycombing", "stacked subpleural air spaces; paraseptal emphysema forms one row"),
        ("bronchiectasis", "air cyst", "a dilated airway cut across looks like a cyst"),
        ("bronchiectasis", "honeycombing", "traction bronchiectasis lies beside and looks like honeycombing"),
        ("sequela", "atelectasis", "both are bands that reach the pleura"),
        ("sequela", "septal thickening", "fibrotic bands and thick septa are both lines to the pleura"),
        ("sequela", "nodule", "an apical scar cut across looks like a nodule"),
        ("septal thickening", "atelectasis", "both are thin lines at the bases"),
        ("septal thickening", "mosaic attenuation", "edema shows as thick septa or as uneven attenuation"),
        ("nodule", "consolidation", "round pneumonia looks like a nodule"),
        ("nodule", "atelectasis", "rounded atelectasis looks like a nodule"),
        ("nodule", "ground glass opacity", "a subsolid nodule is a small patch of ground glass"),
    ),
    "trachea and bronchie": (
        ("peribronchial thickening", "bronchiectasis", "thick and wide airways both show as tram lines and rings"),
        ("peribronchial thickening", "mucus plug", "mucus along a wall looks like a thick wall"),
        ("bronchiectasis", "mucus plug", "plugged and wide airways occur together and are taken for one another"),
    ),
    "mediastinum": (
        ("arterial calcification", "mural thrombus", "both line the wall; a thrombus may calcify"),
        ("arterial calcification", "intramural hematoma", "a fresh hematoma is dense along the wall like calcium"),
        ("lymphadenopathy", "mediastinal cyst", "a bronchogenic cyst lies where nodes lie"),
        ("lymphadenopathy", "soft tissue", "nodes that run together look like a sheet of soft tissue"),
    ),
    "heart": (
        ("cardiomegaly", "pericardial effusion", "both widen the cardiac outline"),
        ("cardiomegaly", "pericardial thickening", "both widen the cardiac outline"),
        ("pericardial effusion", "pericardial thickening", "a thin layer of fluid looks like a thick pericardium"),
        ("coronary calcification", "coronary stent", "both are bright tubes along a coronary artery"),
    ),
    "esophagus": (
        ("hiatal hernia", "diverticulum", "both are pouches with air behind the heart"),
        ("hiatal hernia", "esophageal mass", "a hernia without air looks like a mass of the lower esophagus"),
    ),
    "pleura": (
        ("pleural effusion", "pleural thickening", "a thin layer of fluid looks like a thick pleura"),
        ("pleural effusion", "pneumothorax", "both part the lung from the chest wall"),
        ("pleural thickening", "pneumothorax", "both part the lung from the chest wall"),
    ),
    "bone": (
        ("lytic lesion", "vertebral hemangioma", "both are dark round areas in a vertebra"),
        ("lytic lesion", "schmorl node", "an indented end plate looks like a hole"),
        ("sclerotic lesion", "bone island", "both are dense and small"),
        ("osteophyte", "fracture", "a bridging edge and a broken one both end in a step"),
        ("fracture", "schmorl node", "both deform an end plate"),
        ("sternal wire", "fracture", "both interrupt the outline of the sternum along a line"),
        ("scoliosis", "kyphosis", "both are curves of the spine, in different planes"),
    ),
    "thyroid": (("thyroid nodule", "thyroid cyst", "both are dark and round without contrast"),),
    "breast": (("breast mass", "breast cyst", "both are round and alike without contrast"),),
    "abdomen": (
        ("gallstone", "gallbladder polyp", "both are small and lie at the gallbladder's wall"),
        ("cyst", "solid lesion", "without contrast a dense cyst and a solid lesion look alike"),
        ("steatosis", "hepatomegaly", "both make the liver the largest organ in view; they often occur together"),
        ("adrenal adenoma", "adrenal metastasis", "both enlarge the gland; only attenuation tells them apart"),
    ),
}

CONFUSIONS: tuple[Confusion, ...] = tuple(
    Confusion(region, *pair, reason)
    for region, rows in _PAIRS.items()
    for old, new, reason in rows
    for pair in ((old, new), (new, old))
)
"""Every row, both ways."""


def confusions_of(region: str, text: str) -> list[Confusion]:
    """Return the rows whose finding a text of a region names, be it only to deny it.

    Args:
        region: Region of the entry.
        text: Its text.

    Example:
        >>> from ct_vlm.text.confusions import confusions_of
        >>> [row.new for row in confusions_of("pleura", "Left pleural effusion of 8 mm.")]
        ['pleural thickening', 'pneumothorax']
    """
    return [row for row in CONFUSIONS if row.region == region and FINDINGS[row.old].pattern.search(text)]


def swap_finding(text: str, old: FindingPhrases, new: FindingPhrases) -> str | None:
    """Put one finding in the place of another; everything else stays as it is.

    Number, articles and capitals follow: a plural stays one, and "a" becomes "an" where it must. Words
    that say where the finding is stay ("aortic calcifications", "aortic mural thrombi").

    Args:
        text: A sentence.
        old: Finding to replace, wherever it is named.
        new: Finding to put there.

    Returns:
        The sentence, or None if it does not name the finding, or the other one is not said in the
        form that is needed, or not with a size or another word of the sentence, or beside a word of the
        same stem.

    Example:
        >>> from ct_vlm.text.confusions import swap_finding
        >>> from ct_vlm.text.finding_phrases import FINDINGS
        >>> swap_finding("There is a 5 mm solid nodule in the right lung.", FINDINGS["nodule"], FINDINGS["atelectasis"])
        'There is a 5 mm area of atelectasis in the right lung.'
    """
    matches = list(old.pattern.finditer(text))
    if not matches or any(form_of(match) not in new.said or _is_cut(match) for match in matches):
        return None
    if not new.suits(old.pattern.sub(old.kept, text)):
        return None
    written = ""
    end = 0
    for match in matches:
        kept, said = old.kept(match), new.said[form_of(match)]
        if _is_repeated(said, text[end : match.start()] + kept, text[match.end() :]):
            return None
        words = _placed(kept, said)
        if match.group()[:1].isupper() and not match.group()[:2].isupper():
            words = words[:1].upper() + words[1:]
        written += _with_article(text[end : match.start()], words)
        end = match.end()
    return written + text[end:]


def _is_cut(match: re.Match[str]) -> bool:
    """Tell whether the phrase goes on after what was matched: the head of "cyst lesion" is not the cyst."""
    return _HEAD_AFTER.match(match.string, match.end()) is not None


def _placed(kept: str, words: str) -> str:
    """Put words of place before the head that they belong to: "area of pulmonary atelectasis"."""
    start = match.end() if (match := _MEASURE.match(words)) else 0
    if not kept[:2].isupper():
        kept = kept[:1].lower() + kept[1:]
    return words[:start] + kept + words[start:]


def _is_repeated(words: str, before: str, after: str) -> bool:
    """Tell whether a word has the stem of another one or of one that stands around ("cystic cyst")."""
    said = _stems(words)
    around = [*_stems(before)[-_BEFORE:], *_stems(after)[:_AFTER]]
    pairs = [(one, other) for index, one in enumerate(said) for other in (*said[index + 1 :], *around)]
    return any(min(len(one), len(other)) >= _SHORTEST and (one in other or other in one) for one, other in pairs)


def _stems(text: str) -> list[str]:
    """Return how the words of a text begin."""
    return [word[:_STEM].lower() for word in _WORD.findall(text)]


def _with_article(before: str, words: str) -> str:
    """Join words to what stands before, with the article that suits them."""
    article = re.search(r"\b(a)n?(\s+)$", before, re.IGNORECASE)
    if article is None:
        return before + words
    n = "n" if words[:1].lower() in "aeiou" else ""
    return before[: article.start()] + article.group(1) + n + article.group(2) + words
