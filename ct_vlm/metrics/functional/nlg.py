"""Word-overlap scores of reports under a named protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_vlm import __version__
from ct_vlm.metrics.functional.bleu import compute_bleu, count_bleu
from ct_vlm.metrics.functional.cleaning import cleaners
from ct_vlm.metrics.functional.inputs import as_predicted_texts, as_reference_texts, check_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def nlg_scores(predictions: Sequence[str | None], references: Sequence[str], protocol: str = "vlm3d") -> dict[str, Any]:
    """Return corpus BLEU-1 to BLEU-4 and their mean.

    The same reports score up to 28 % apart by protocol alone, so the protocol is part of the result
    and values of different protocols do not belong in one column. Word overlap cannot see a flipped
    negation: print clinical scores beside it.

    Args:
        predictions: Generated reports; a missing one (``None``, NaN, blank) counts as empty. The
            VLM3D challenge leaves those out, which inflates its scores.
        references: True reports.
        protocol: ``"vlm3d"``, ``"uvlm"`` or ``"ct2rep"`` clean as those works do; ``"raw"`` not at
            all. All split words at white space and count as pycocoevalcap does.

    Returns:
        ``bleu_1`` to ``bleu_4``, ``bleu_mean``, ``protocol``, ``num_samples``, ``coverage`` (share
        of reports with a prediction), ``missing_predictions`` and ``version`` of this library.

    Raises:
        ShapeError: If there are not as many predictions as references.
        DatasetError: If a reference is no text.
        ConfigError: If the protocol is unknown.

    Example:
        >>> from ct_vlm.metrics.functional import nlg_scores
        >>> scores = nlg_scores(["Heart size is normal."], ["Heart size is increased."])
        >>> round(scores["bleu_1"], 3), scores["protocol"]
        (0.75, 'vlm3d')

    References:
        [1] Papineni et al., BLEU, 2002. [2] ``pycocoevalcap`` 1.2.
    """
    counts, missing = count_reports(predictions, references, protocol)
    return summarise(counts, len(predictions), missing, protocol)


def count_reports(predictions: Sequence[str | None], references: Sequence[str], protocol: str) -> tuple[Tensor, int]:
    """Clean and count reports.

    Args:
        predictions: Generated reports, ``None`` where missing.
        references: True reports.
        protocol: Name of a protocol.

    Returns:
        Output of :func:`ct_vlm.metrics.functional.bleu.count_bleu`, and the number of missing
        predictions.
    """
    clean_prediction, clean_reference = cleaners(protocol)
    texts, missing = as_predicted_texts(predictions)
    truths = as_reference_texts(references)
    check_pairs(texts, truths)
    # an empty report stays empty: cleaning must not give it a word
    pairs = ((clean_prediction(t) if t.strip() else "", clean_reference(r)) for t, r in zip(texts, truths, strict=True))
    return count_bleu(pairs), missing


def summarise(counts: Tensor, num_samples: int, missing: int, protocol: str) -> dict[str, Any]:
    """Turn counts into the result of :func:`nlg_scores`.

    Args:
        counts: BLEU counts over all reports.
        num_samples: Number of reports.
        missing: Number of missing predictions.
        protocol: Name of the protocol.

    Shape:
        - counts: ``(10,)``.
    """
    bleu = compute_bleu(counts)
    return {
        **{f"bleu_{order}": score for order, score in enumerate(bleu, start=1)},
        "bleu_mean": sum(bleu) / len(bleu),
        "protocol": protocol,
        "num_samples": num_samples,
        "coverage": 1 - missing / num_samples if num_samples else 0.0,
        "missing_predictions": missing,
        "version": f"ct_vlm {__version__}",
    }
