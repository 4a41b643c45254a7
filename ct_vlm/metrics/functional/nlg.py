"""Word-overlap scores of reports under a named protocol."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

from ct_vlm import __version__
from ct_vlm.errors import ConfigError, CTVLMError
from ct_vlm.metrics.functional.inputs import as_predicted_texts
from ct_vlm.metrics.functional.overlap import RESAMPLED, nlg_statistics
from ct_vlm.metrics.functional.protocols import METRICS, Protocol, get_protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from ct_vlm.metrics.functional.overlap import NlgStatistics

_PACKAGES = {"cider": ("scipy",), "bertscore": ("torch", "transformers")}


def nlg_scores(
    predictions: Sequence[str | None],
    references: Sequence[str],
    protocol: str = "vlm3d",
    metrics: Collection[str] | None = None,
    bertscore_model: str | Path | None = None,
    statistics: NlgStatistics | None = None,
) -> dict[str, Any]:
    """Return word-overlap scores of a set of reports.

    The same reports score up to 28 % apart in BLEU-4 and 56 % in METEOR by implementation alone, so
    the protocol is part of the result and values of different protocols do not belong in one column.
    Word overlap cannot see a flipped negation: print clinical scores beside it.

    ==============  ===================  ======================  ===============  ======
    protocol        cleaning, words      BLEU                    ROUGE            METEOR
    ==============  ===================  ======================  ===============  ======
    vlm3d           glues "A . B"        pycocoevalcap           L, beta 1.2      1.5
    uvlm            splits "5.5"         pycocoevalcap           (L, beta 1.2)    (1.5)
    ct2rep          lower, "5.5" = "55"  pycocoevalcap           (L, beta 1.2)    (1.5)
    hf_evaluate     none, mteval 13a     add-one smoothed        1, 2, L: F1      NLTK
    raw             none                 pycocoevalcap           L, beta 1.2      1.5
    coco            Penn Treebank        pycocoevalcap           L, beta 1.2      1.5
    ==============  ===================  ======================  ===============  ======

    What stands in brackets is not computed by the protocol's source; it is computed on the same
    cleaned text and listed under ``not_in_source``. CIDEr is always pycocoevalcap's, over
    white-space words of the cleaned text; it depends on the whole set of references.

    BLEU is that of the corpus. The source of ``hf_evaluate`` prints the mean over reports first
    (``bleu_4_report_mean``); its corpus ROUGE is the median of an unseeded bootstrap, here the mean.

    Args:
        predictions: Generated reports; a missing one (``None``, NaN, blank) counts as empty. Sources
            that leave those out inflate their scores; see
            :data:`ct_vlm.metrics.functional.protocols.PROTOCOLS`.
        references: True reports.
        protocol: A name of the table.
        metrics: Families (``"bleu"``, ``"rouge"``, ``"cider"``, ``"meteor"``, ``"bertscore"``) or
            single results (``"bleu_4"``, ``"rouge_l"``); by default all that can be computed here,
            and ``skipped`` says why the others are not. METEOR 1.5 takes minutes for thousands of
            reports, the others seconds.
        bertscore_model: Folder of a model for BERTScore; without it there is none.
        statistics: Output of :func:`~ct_vlm.metrics.functional.nlg_statistics` for the same reports
            and protocol, where they are counted already.

    Returns:
        ``bleu_1`` to ``bleu_4``, ``bleu_mean``, ``rouge_l``, ``cider``, ``meteor``, ...;
        ``protocol``, ``not_in_source``, ``skipped`` (family to reason), ``num_samples``,
        ``coverage`` (share of reports with a prediction), ``missing_predictions``, ``versions``, and
        ``meteor_settings`` (family, synonyms, tokenizer) and ``bertscore_settings`` (model, layer).

    Raises:
        ShapeError: If there are not as many predictions as references.
        DatasetError: If a text is no text.
        ConfigError: If the protocol or a metric is unknown, or ``statistics`` are not of these reports.
        CTVLMError: If a metric that was asked for lacks a resource, or the model cannot be loaded.

    Example:
        >>> from ct_vlm.metrics.functional import nlg_scores
        >>> scores = nlg_scores(["Heart size is normal."], ["Heart size is increased."], metrics=["bleu", "rouge"])
        >>> round(scores["bleu_1"], 3), round(scores["rouge_l"], 3), scores["protocol"]
        (0.75, 0.75, 'vlm3d')

        A report that denies what is there and states what is not keeps its BLEU and loses its labels:

        >>> from ct_vlm.metrics import RuleLabeler
        >>> from ct_vlm.metrics.functional import clinical_scores
        >>> truth = ["No pleural effusion was seen. There are calcific plaques in the aortic arch and its branches."]
        >>> wrong = ["Pleural effusion was seen. There are no calcific plaques in the aortic arch and its branches."]
        >>> labeler = RuleLabeler()
        >>> round(nlg_scores(wrong, truth, metrics=["bleu"])["bleu_4"], 2)
        0.74
        >>> clinical_scores(labeler(wrong), labeler(truth))["micro_f1"]
        0.0

    References:
        [1] Papineni et al., BLEU, 2002. [2] Lin, ROUGE, 2004. [3] Vedantam et al., CIDEr, 2015.
        [4] Denkowski and Lavie, METEOR 1.5, 2014. [5] ``pycocoevalcap`` 1.2.
    """
    rules = get_protocol(protocol)
    families = choose_families(metrics, bertscore_model)
    counted = [name for name in families if name in RESAMPLED]
    if statistics is None:
        statistics = nlg_statistics(predictions, references, protocol, counted)
    else:
        _check_statistics(statistics, protocol, len(references), counted)
    scores: dict[str, Any] = {k: value for k, value in statistics.scores().items() if k.split("_")[0] in families}
    found, notes, skipped = _with_resources(
        predictions, references, rules, families, bertscore_model, may_skip=metrics is None
    )
    scores |= found
    if metrics is not None:
        scores = _keep(scores, metrics)
    result = summarise(scores, protocol, len(statistics), statistics.missing_predictions, families, skipped)
    versions = result["versions"] | notes.pop("versions", {})
    return {**result, **notes, "versions": versions}


def _check_statistics(statistics: NlgStatistics, protocol: str, num_reports: int, families: Sequence[str]) -> None:
    """Refuse statistics of other reports, of another protocol, or without a family that is asked for."""
    if (statistics.protocol, len(statistics)) != (protocol, num_reports):
        cause = f"`statistics` are of {len(statistics)} reports under {statistics.protocol!r}."
        raise ConfigError(cause, f"Pass those of these {num_reports} reports under {protocol!r}.")
    absent = [name for name in families if name not in statistics.families]
    if absent:
        cause = f"`statistics` do not hold {', '.join(map(repr, absent))}."
        raise ConfigError(cause, "Count these in `nlg_statistics(..., metrics=...)`, or ask for fewer `metrics`.")


def summarise(
    scores: dict[str, Any],
    protocol: str,
    num_samples: int,
    missing: int,
    families: Sequence[str],
    skipped: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Put what belongs to scores beside them, as :func:`nlg_scores` returns it.

    Args:
        scores: Name to value.
        protocol: Name of the protocol.
        num_samples: Number of reports.
        missing: Number of missing predictions.
        families: Families that were asked for.
        skipped: Family to why it could not be computed.
    """
    skipped = skipped or {}
    in_source = get_protocol(protocol).in_source
    return {
        **scores,
        "protocol": protocol,
        "not_in_source": [name for name in scores if name not in in_source],
        "skipped": skipped,
        "num_samples": num_samples,
        "coverage": 1 - missing / num_samples if num_samples else 0.0,
        "missing_predictions": missing,
        "versions": _versions([name for name in families if name not in skipped]),
    }


def choose_families(metrics: Collection[str] | None, bertscore_model: str | Path | None = None) -> list[str]:
    """Return the families of scores to compute.

    Args:
        metrics: Families or single results; all by default.
        bertscore_model: Folder of a model for BERTScore.

    Raises:
        ConfigError: If a metric is unknown, or BERTScore has no model.
    """
    if metrics is None:
        return [name for name in METRICS if name != "bertscore" or bertscore_model is not None]
    names = {name: name.split("_")[0] for name in ([metrics] if isinstance(metrics, str) else metrics)}
    unknown = [name for name, family in names.items() if family not in METRICS]
    if unknown:
        cause = f"Unknown metrics: {', '.join(map(repr, unknown))}."
        raise ConfigError(cause, f"Choose from: {', '.join(METRICS)}; or single results such as 'bleu_4'.")
    if bertscore_model is None and "bertscore" in names.values():
        cause = "BERTScore was asked for without a model."
        raise ConfigError(cause, "Pass `bertscore_model`, the folder of a downloaded encoder.")
    return [name for name in METRICS if name in names.values()]


def _with_resources(
    predictions: Sequence[str | None],
    references: Sequence[str],
    rules: Protocol,
    families: Sequence[str],
    bertscore_model: str | Path | None,
    *,
    may_skip: bool,
) -> tuple[dict[str, float], dict[str, Any], dict[str, str]]:
    """Compute what needs a program or a model; return scores, what they depend on, and what is skipped and why."""
    scores: dict[str, float] = {}
    notes: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    if not {"meteor", "bertscore"} & set(families):
        return scores, notes, skipped
    texts = rules.clean(as_predicted_texts(predictions)[0], references)
    if "meteor" in families:
        try:
            scores, notes = _meteor(*texts, rules.meteor)
        except CTVLMError as error:
            if not may_skip:
                raise
            skipped["meteor"] = str(error)
    if bertscore_model is not None and "bertscore" in families:
        from ct_vlm.metrics.functional.bertscore import bert_scores

        found = bert_scores(*texts, bertscore_model)
        scores |= {f"bertscore_{name}": getattr(found, name) for name in ("precision", "recall", "f1")}
        notes["bertscore_settings"] = found.settings
    return scores, notes, skipped


def _meteor(
    predictions: Sequence[str], references: Sequence[str], variant: str
) -> tuple[dict[str, float], dict[str, Any]]:
    """Return METEOR of cleaned texts, and what its value depends on besides them."""
    from ct_vlm.metrics.functional.meteor import meteor_scores

    found = meteor_scores(predictions, references, variant)
    settings = {"variant": found.variant, "synonyms": found.synonyms, "tokenizer": found.tokenizer}
    return {"meteor": found.score}, {"meteor_settings": settings, "versions": found.versions}


def _keep(scores: dict[str, Any], metrics: Collection[str]) -> dict[str, Any]:
    """Keep the scores that were asked for."""
    names = [metrics] if isinstance(metrics, str) else metrics
    absent = [name for name in names if name not in METRICS and name not in scores]
    if absent:
        cause = f"This protocol has no {', '.join(map(repr, absent))}."
        raise ConfigError(cause, f"It has: {', '.join(scores)}.")
    return {name: value for name, value in scores.items() if name in names or name.split("_")[0] in names}


def _versions(families: Sequence[str]) -> dict[str, str]:
    """Return the versions of this library and of the packages that took part."""
    packages = ["numpy", *(package for family in families for package in _PACKAGES.get(family, ()))]
    return {"ct_vlm": __version__} | {package: importlib.metadata.version(package) for package in packages}
