"""Swap left and right in text, for images that were mirrored."""

from __future__ import annotations

import re

# Chambers and coronary arteries are names: the left ventricle of a mirrored chest is still the left ventricle.
_NAMED = (
    r"(?:ventric|atri(?:um|al|a\b)|heart (?:cavit|chamber)|main coronary|main (?:stem )?artery|coronary|circumflex"
    r"|anterior descending)"
)
# an underscore ends a word here: mask names such as `left_lung` have sides too
_SIDE = re.compile(rf"(?<![a-z])(left|right)(?=(?:ward|wards|most|sided)?(?![a-z]))(?![\s-]+{_NAMED})", re.IGNORECASE)


def swap_laterality(text: str) -> str:
    """Exchange "left" and "right", keeping the case of each word.

    Words that only contain the letters ("upright", "cleft") stay, and so do names that do not move
    when an image is mirrored (left ventricle, right coronary artery). Applying it twice gives the
    text back.

    Args:
        text: Report text of the image before the flip.

    Example:
        >>> from ct_vlm.text.laterality import swap_laterality
        >>> swap_laterality("Left-sided effusion; the right lung and the left ventricle are normal.")
        'Right-sided effusion; the left lung and the left ventricle are normal.'
    """
    return _SIDE.sub(_other_side, text)


def _other_side(match: re.Match[str]) -> str:
    """Return the other side in the case of the matched word."""
    word = match.group(1)
    other = "right" if word.lower() == "left" else "left"
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
