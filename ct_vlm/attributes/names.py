"""Which organ or lesion a mask shows, from its name in any of the usual spellings."""

from __future__ import annotations

import re

_SINGULAR = {"lungs": "lung", "kidneys": "kidney", "nodules": "nodule", "effusions": "effusion", "cysts": "cyst"}
_SYNONYMS = {**_SINGULAR, "pulmonary": "lung", "renal": "kidney", "lobes": "lobe"}


def _spellings() -> dict[frozenset[str], str]:
    """Return the structure that each set of words means."""
    plain = ("lung", "kidney", "heart", "liver", "lung nodule", "pleural effusion", "kidney cyst")
    names = {frozenset(name.split()): name for name in plain}
    names[frozenset({"nodule"})] = "lung nodule"
    for side in ("right", "left"):
        for name in ("lung", "kidney", "lung nodule", "pleural effusion", "kidney cyst"):
            names[frozenset([side, *name.split()])] = f"{side} {name}"
        for level in ("upper", "lower") if side == "left" else ("upper", "middle", "lower"):
            for extra in ((), ("lung",)):
                names[frozenset([side, level, "lobe", *extra])] = f"{side} {level} lobe"
    for extra in ((), ("lung",)):
        names[frozenset(["middle", "lobe", *extra])] = "right middle lobe"
    return names


_STRUCTURES = _spellings()


def find_structure(name: str) -> str | None:
    """Return the structure that a mask's name means, None if the attributes do not use it.

    The order of the words, case, plural and the sign between words do not matter, so the names of
    TotalSegmentator, SAT, RadGenome-ChestCT and the phantoms are all understood.

    Args:
        name: Name of a mask or file stem.

    Example:
        >>> from ct_vlm.attributes.names import find_structure
        >>> find_structure("lung_upper_lobe_left"), find_structure("Kidneys"), find_structure("aorta")
        ('left upper lobe', 'kidney', None)
    """
    words = re.split(r"[\s_\-]+", name.strip().lower())
    return _STRUCTURES.get(frozenset(_SYNONYMS.get(word, word) for word in words))


def plain_name(name: str) -> str:
    """Return a name in lower case with single spaces, so that spellings of one name are equal.

    Args:
        name: Name of a mask, region or file stem.

    Example:
        >>> from ct_vlm.attributes.names import plain_name
        >>> plain_name("Trachea_and_bronchie")
        'trachea and bronchie'
    """
    return " ".join(name.lower().replace("_", " ").split())
