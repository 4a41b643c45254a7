"""METEOR of reports, by the family that is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ct_vlm.errors import ConfigError
from ct_vlm.metrics.functional.inputs import as_predicted_texts, as_reference_texts, check_pairs
from ct_vlm.metrics.meteor.java import java_statistics, java_version
from ct_vlm.metrics.meteor.nltk_score import nltk_segments
from ct_vlm.metrics.meteor.parameters import score_statistics, sum_statistics
from ct_vlm.metrics.meteor.resources import package_version

if TYPE_CHECKING:
    from collections.abc import Sequence

VARIANTS = ("1.5", "nltk")


@dataclass(frozen=True)
class MeteorScores:
    """METEOR of a set of reports.

    Attributes:
        score: Score of the set: by METEOR 1.5 from summed statistics, by NLTK the mean of segments.
        segments: Score of each report.
        variant: ``"1.5"`` or ``"nltk"``.
        synonyms: Where synonyms came from: ``"jar"``, ``"nltk"``, or ``"none"``, which is a lower score.
        tokenizer: How text was split.
        missing_predictions: How many reports had no prediction; they score 0 and count.
        versions: What computed the scores.
    """

    score: float
    segments: list[float]
    variant: str
    synonyms: str
    tokenizer: str
    missing_predictions: int = 0
    versions: dict[str, str] = field(default_factory=dict)


def meteor_scores(
    predictions: Sequence[str | None],
    references: Sequence[str],
    variant: str = "1.5",
    *,
    tokenizer: str = "treebank",
    wordnet: str = "auto",
) -> MeteorScores:
    """Return METEOR scores of one of two families that share no scale.

    The same six report pairs score .359 by METEOR 1.5 and .561 by NLTK, so the variant belongs to
    the number.

    Args:
        predictions: Generated reports; a missing one (``None``, NaN, blank) scores 0 and counts.
        references: True reports.
        variant: ``"1.5"``, the Java program in pycocoevalcap that the VLM3D challenge runs (needs
            ``java`` and the extra ``[metrics]``), or ``"nltk"``, what Hugging Face evaluate prints.
        tokenizer: For ``"nltk"``: ``"treebank"``, ``"whitespace"`` or ``"punkt"``; see
            :func:`ct_vlm.metrics.meteor.nltk_score.nltk_segments`.
        wordnet: For ``"nltk"``: ``"auto"``, ``"nltk"``, ``"jar"`` or ``"none"``.

    Raises:
        ShapeError: If there are not as many predictions as references.
        DatasetError: If a reference is no text.
        ConfigError: If the variant is unknown.
        MissingDependencyError: If the extra or Java is missing.

    Example:
        >>> from ct_vlm.metrics.functional.meteor import meteor_scores
        >>> texts = ["No tumour was found."]
        >>> scores = meteor_scores(texts, ["No tumor was found."], variant="nltk", wordnet="none")
        >>> round(scores.score, 3), scores.synonyms
        (0.75, 'none')

    References:
        [1] Denkowski and Lavie, 2014, https://aclanthology.org/W14-3348 (1.5).
        [2] Lavie and Agarwal, 2007, https://aclanthology.org/W07-0734 (what NLTK follows).
    """
    if variant not in VARIANTS:
        msg = f"Expected `variant` as one of {', '.join(VARIANTS)}, but got {variant!r}."
        raise ConfigError(msg, "Choose one of them; their scores are not comparable.")
    texts, missing = as_predicted_texts(predictions)
    truths = as_reference_texts(references)
    check_pairs(texts, truths)
    if variant == "nltk":
        segments, source = nltk_segments(texts, truths, tokenizer, wordnet)
        mean = sum(segments) / len(segments) if segments else 0.0
        return MeteorScores(mean, segments, variant, source, tokenizer, missing, {"nltk": package_version("nltk")})
    statistics = java_statistics(texts, truths)
    versions = {"meteor": "1.5", "pycocoevalcap": package_version("pycocoevalcap"), "java": java_version()}
    segments = [score_statistics(row) for row in statistics]
    total = score_statistics(sum_statistics(statistics))
    return MeteorScores(total, segments, variant, "jar", "meteor-norm", missing, versions)
