"""How each field cleans reports before it counts words; part of a score's protocol.

References:
    [1] VLM3D challenge, ``reportgen_evaluation/nlg_metrics.py``.
    [2] U-VLM, ``uvlm/evaluation/metrics/nlg.py``.
    [3] CT2Rep, ``CT2Rep/modules/tokenizers.py`` (R2Gen's cleaning of MIMIC-CXR reports).
"""

from __future__ import annotations

import re

# the original's ":-[" is a range, so a hyphen stays
_R2GEN_SIGNS = re.compile(r"[.,?;*!%^&_+():-\[\]{}]")
_SPACE = re.compile(r"\s+")
_STOP = re.compile(r"\s*\.\s*")
_TWO_STOPS = re.compile(r"\.\s*\.")


def keep(text: str) -> str:
    """Keep the text as it is.

    Args:
        text: A report.
    """
    return text


def vlm3d_reference(text: str) -> str:
    """Clean a reference as the challenge does; it glues sentences written "A . B".

    Args:
        text: A report.
    """
    return text.replace("\n", "").replace(" . ", ".").replace(" .", ".")


def vlm3d_prediction(text: str) -> str:
    """Clean a prediction as the challenge does: also quotes, underscores and an end token.

    Args:
        text: A report.
    """
    return vlm3d_reference(text.replace("<|eot_id|>", "").replace('"', "").replace("_", ""))


def uvlm(text: str) -> str:
    """Clean as U-VLM does; it splits decimals.

    Args:
        text: A report.
    """
    text = _SPACE.sub(" ", text.replace("<|eot_id|>", "").replace("\n", " ").replace('"', ""))
    return _TWO_STOPS.sub(".", _STOP.sub(". ", text)).strip()


def ct2rep(text: str) -> str:
    """Clean as CT2Rep does: lower case, no punctuation, " . " between sentences; it joins decimals.

    Args:
        text: A report.
    """
    text = text.replace("\n", " ")
    for repeated, single, times in (("__", "_", 7), ("  ", " ", 6), ("..", ".", 6)):
        for _ in range(times):
            text = text.replace(repeated, single)
    text = text.replace("1. ", "")
    for number in "2345":
        text = text.replace(f". {number}. ", ". ")
    for number in "2345":
        text = text.replace(f" {number}. ", ". ")
    return " . ".join(map(_ct2rep_sentence, text.strip().lower().split(". "))) + " ."


def _ct2rep_sentence(sentence: str) -> str:
    """Strip a sentence of its signs."""
    for sign in ('"', "/", "\\", "'"):
        sentence = sentence.replace(sign, "")
    return _R2GEN_SIGNS.sub("", sentence.strip())
