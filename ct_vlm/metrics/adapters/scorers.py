"""GREEN, RaTEScore and RadGraph F1 by the package that carries them."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ct_vlm.errors import CheckpointError, ConfigError, MissingDependencyError
from ct_vlm.metrics.functional.inputs import as_predicted_texts, as_reference_texts, check_pairs
from ct_vlm.metrics.meteor.resources import package_version
from ct_vlm.text.sections import clean_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True)
class ExternalScores:
    """Scores of another package.

    Attributes:
        scores: Mean of each score over all reports.
        segments: Scores of each report; 0 where the prediction is missing.
        scorer: Name of the scorer.
        settings: Models and package version.
        missing_predictions: Reports without a prediction; they count 0.
    """

    scores: dict[str, float]
    segments: dict[str, list[float]]
    scorer: str
    settings: dict[str, str] = field(default_factory=dict)
    missing_predictions: int = 0


@dataclass(frozen=True)
class _Scorer:
    """What a scorer needs, and how it is run."""

    keys: tuple[str, ...]
    models: Mapping[str, str]
    run: Callable[[list[str], list[str], Mapping[str, str], bool], dict[str, list[float]]]
    # alternatives of one need are parted by a bar
    needs: tuple[str, ...] = ("radeval",)


def available_scorers() -> dict[str, str]:
    """Return each outside scorer with ``"installed"`` or what is missing, without importing any.

    Weights are another matter: they are looked for when a scorer is called.

    Example:
        >>> from ct_vlm.metrics.adapters import available_scorers
        >>> sorted(available_scorers())
        ['green', 'radgraph', 'ratescore']
    """
    found = {}
    for name, scorer in _SCORERS.items():
        absent = [need for need in scorer.needs if not any(map(importlib.util.find_spec, need.split("|")))]
        found[name] = (
            f"missing: pip install {' '.join(need.split('|')[0] for need in absent)}" if absent else "installed"
        )
    return found


def external_scores(
    predictions: Sequence[str | None],
    references: Sequence[str],
    scorer: str,
    models: Mapping[str, str | Path] | None = None,
    *,
    allow_download: bool = False,
    on_gpu: bool = False,
) -> ExternalScores:
    """Score reports with GREEN, RaTEScore or RadGraph F1.

    All three were made for chest X-ray reports. GREEN's prompt keeps the first 300 words of each
    report, fewer than many CT reports have. RadEval loads GREEN's model with ``trust_remote_code``:
    pass only weights that you trust. On import RadEval's RaTEScore asks NLTK to fetch its sentence
    splitter, which is not prevented here. None of the three was run with its published weights.

    Args:
        predictions: Generated reports; a missing one (``None``, NaN, blank) scores 0 and counts.
        references: True reports.
        scorer: ``"green"``, ``"ratescore"`` or ``"radgraph"``.
        models: Folder of each model the scorer needs: ``model`` (GREEN); ``entities`` and
            ``embeddings`` (RaTEScore); ``cache`` (RadGraph: the folder that holds ``radgraph-xl``).
        allow_download: Take hub names in ``models``, and let the scorer fetch them.
        on_gpu: Run on the first GPU.

    Raises:
        ConfigError: If the scorer is unknown or a model is not named.
        MissingDependencyError: If its package is not installed.
        CheckpointError: If a model is not on disk and must not be downloaded.
        ShapeError: If there are not as many predictions as references.

    Example:
        >>> from ct_vlm.metrics.adapters import external_scores
        >>> external_scores(["Clear lungs."], ["Clear lungs."], "bleu")
        Traceback (most recent call last):
        ...
        ct_vlm.errors.ConfigError: Expected `scorer` as one of green, ratescore, radgraph, but got 'bleu'. ...

    References:
        [1] GREEN: https://arxiv.org/abs/2405.03595. [2] RaTEScore: https://arxiv.org/abs/2406.16845.
        [3] RadGraph: https://arxiv.org/abs/2106.14463. [4] RadEval: https://arxiv.org/abs/2509.18030.
    """
    chosen = _find(scorer)
    texts, missing = as_predicted_texts(predictions)
    truths = as_reference_texts(references)
    check_pairs(texts, truths)
    paths = _check_models(scorer, chosen, models or {}, allow_download=allow_download)
    present = [row for row, text in enumerate(texts) if clean_missing(text)]
    found: dict[str, list[float]] = {key: [] for key in chosen.keys}
    if present:
        found = chosen.run([texts[row] for row in present], [truths[row] for row in present], paths, on_gpu)
    segments = {key: _spread(found[key], present, len(texts)) for key in chosen.keys}
    means = {key: sum(values) / len(values) if values else 0.0 for key, values in segments.items()}
    versions = {package: package_version(package) for need in chosen.needs for package in need.split("|")}
    models_used = {role: Path(path).name for role, path in paths.items()}
    return ExternalScores(means, segments, scorer, {**models_used, **versions}, missing)


def _find(name: str) -> _Scorer:
    """Return an installed scorer."""
    if name not in _SCORERS:
        msg = f"Expected `scorer` as one of {', '.join(_SCORERS)}, but got {name!r}."
        raise ConfigError(msg, "Choose one of them; `nlg_scores` has the word-overlap scores.")
    state = available_scorers()[name]
    if state != "installed":
        cause = f"The scorer {name!r} stands on a package that is not installed."
        raise MissingDependencyError(cause, f"Install it: {state.removeprefix('missing: ')}.")
    return _SCORERS[name]


def _check_models(
    name: str, scorer: _Scorer, models: Mapping[str, str | Path], *, allow_download: bool
) -> dict[str, str]:
    """Return the models' folders, all present unless downloads are allowed."""
    if set(models) != set(scorer.models):
        msg = f"The scorer {name!r} needs the models {', '.join(scorer.models)}, but got {', '.join(models) or 'none'}."
        published = ", ".join(f"{role}={source}" for role, source in scorer.models.items())
        raise ConfigError(msg, f"Pass the folder of each in `models` (published: {published}).")
    for role, path in models.items():
        if not allow_download and not Path(path).is_dir():
            cause = f"The model {role!r} of {name!r} is not a folder on this machine: {path}."
            raise CheckpointError(cause, f"Download {scorer.models[role]} once, or pass allow_download=True.")
    return {role: str(path) for role, path in models.items()}


def _spread(values: Sequence[float], rows: Sequence[int], size: int) -> list[float]:
    """Put values at their rows, 0 elsewhere."""
    spread = [0.0] * size
    for row, value in zip(rows, values, strict=True):
        spread[row] = float(value)
    return spread


def _import_class(name: str, *modules: str) -> Any:
    """Import a scorer's class from the first module that has it."""
    reasons = []
    for module in modules:
        try:
            return getattr(importlib.import_module(module), name)
        except Exception as error:
            reasons.append(f"{module}: {type(error).__name__}: {error}")
    cause = f"{name} is installed but cannot be imported ({'; '.join(reasons)})."
    raise MissingDependencyError(cause, "Repair or reinstall that package, in an environment of its own if need be.")


def _run_green(texts: list[str], truths: list[str], models: Mapping[str, str], on_gpu: bool) -> dict[str, list[float]]:
    """Run GREEN's evaluator."""
    make = _import_class("GREEN", "radeval.metrics.green_score.green")
    with TemporaryDirectory() as folder:
        scorer = make(models["model"], output_dir=folder, cpu=not on_gpu, num_gpus=1)
        return {"green": list(scorer(truths, texts)[2])}


def _run_ratescore(
    texts: list[str], truths: list[str], models: Mapping[str, str], on_gpu: bool
) -> dict[str, list[float]]:
    """Run RaTEScore with its default type weights."""
    make = _import_class("RaTEScore", "radeval.metrics.RaTEScore.scorer")
    scorer = make(bert_model=models["entities"], eval_model=models["embeddings"], use_gpu=on_gpu)
    return {"ratescore": list(scorer.compute_score(candidate_list=texts, reference_list=truths)[0])}


def _run_radgraph(
    texts: list[str], truths: list[str], models: Mapping[str, str], on_gpu: bool
) -> dict[str, list[float]]:
    """Run RadGraph-XL at its three reward levels."""
    make = _import_class("F1RadGraph", "radgraph", "radeval.metrics.radgraph")
    scorer = make(
        reward_level="all", model_type="radgraph-xl", model_cache_dir=models["cache"], cuda=0 if on_gpu else -1
    )
    levels = scorer(refs=truths, hyps=texts)[1]
    return dict(zip(_RADGRAPH_KEYS, map(list, levels), strict=True))


_RADGRAPH_KEYS = ("radgraph_simple", "radgraph_partial", "radgraph_complete")
_SCORERS = {
    "green": _Scorer(("green",), {"model": "StanfordAIMI/GREEN-radllama2-7b"}, _run_green),
    "ratescore": _Scorer(
        ("ratescore",),
        {"entities": "Angelakeke/RaTE-NER-Deberta", "embeddings": "FremyCompany/BioLORD-2023-C"},
        _run_ratescore,
        needs=("radeval", "medspacy"),
    ),
    "radgraph": _Scorer(
        _RADGRAPH_KEYS, {"cache": "the folder that holds radgraph-xl"}, _run_radgraph, needs=("radgraph|radeval",)
    ),
}
