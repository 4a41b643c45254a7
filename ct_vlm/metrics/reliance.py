"""Controls that show whether a model reads the volume it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.metrics.progress import track

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from numpy.typing import NDArray

    from ct_vlm.metrics.functional.statistics import Statistics
    from ct_vlm.metrics.labeler import RuleLabeler
    from ct_vlm.metrics.reliance_result import RelianceResult

_DEFAULT_ARMS = ("real", "zeroed", "mean", "noise", "other_patient")


def other_patient_permutation(patient_ids: Sequence[Hashable], seed: int = 0) -> NDArray[np.int64]:
    """Give every sample the volume of another patient.

    A model that writes as well from another patient's volume as from the right one does not read
    volumes. Samples are put patient by patient in random order and shifted by a random step that is
    at least as long as the longest patient, so no sample meets its own patient and every volume is
    used once.

    Args:
        patient_ids: Patient of each sample.
        seed: Seed of the order and the step.

    Returns:
        For each sample the index of the sample whose volume it gets.

    Shape:
        - Output: ``(B,)``.

    Raises:
        DatasetError: If one patient has more than half of the samples: then there is no such order.

    Example:
        >>> from ct_vlm.metrics import other_patient_permutation
        >>> patients = ["a", "a", "b", "b", "c"]
        >>> partners = other_patient_permutation(patients, seed=0)
        >>> any(patients[own] == patients[other] for own, other in enumerate(partners))
        False
    """
    ids = list(patient_ids)
    groups: dict[Hashable, list[int]] = {}
    for index, patient in enumerate(ids):
        groups.setdefault(patient, []).append(index)
    longest = max(map(len, groups.values()), default=0)
    if 2 * longest > len(ids):
        patient = max(groups, key=lambda key: len(groups[key]))
        cause = f"Patient {patient!r} has {longest} of {len(ids)} samples, so some would keep their own volume."
        raise DatasetError(cause, "Use samples of more patients, or fewer of that one.")
    if not ids:
        return np.empty(0, dtype=np.int64)
    rng = np.random.default_rng(seed)
    members = list(groups.values())
    order = np.concatenate([rng.permutation(members[position]) for position in rng.permutation(len(members))])
    step = int(rng.integers(longest, len(ids) - longest, endpoint=True))
    partners = np.empty(len(ids), dtype=np.int64)
    partners[order] = np.roll(order, -step)
    return partners


@dataclass
class EvaluatedSamples:
    """What the batches say about their samples, for a scorer.

    Args:
        patients: Patient of each sample.
        references: True report of each, None where there is none.
        labels: True labels, None unless every sample has them.

    Shape:
        - labels: ``(N, K)``.
    """

    patients: list[Hashable]
    references: list[str | None]
    labels: NDArray[np.float64] | None


class ClinicalScorer:
    """Score reports by their labels: F1 averages and CRG.

    Args:
        labeler: Labels reports; the rule labeler unless given.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.metrics.reliance import ClinicalScorer, EvaluatedSamples
        >>> samples = EvaluatedSamples(["a"], ["Heart size increased."], None)
        >>> ClinicalScorer()(["Cardiomegaly."], samples).resample(np.ones((1, 1)))["micro_f1"].item()
        1.0
    """

    scores = ("micro_f1", "macro_f1", "crg")

    def __init__(self, labeler: RuleLabeler | Any | None = None) -> None:
        from ct_vlm.metrics.labeler import RuleLabeler

        self.labeler = RuleLabeler() if labeler is None else labeler
        self.name = f"labels ({self.labeler.name})"

    def __call__(self, reports: Sequence[str], samples: EvaluatedSamples) -> Statistics:
        """Return the statistics of reports.

        Args:
            reports: Generated reports.
            samples: Their true labels, or true reports to be labelled.

        Raises:
            DatasetError: If a sample has neither.
        """
        from ct_vlm.metrics.functional.statistics import clinical_statistics

        if samples.labels is None and any(text is None for text in samples.references):
            row = samples.references.index(None)
            cause = f"Sample {row} has neither labels nor a reference report."
            raise DatasetError(cause, "Batches need `labels` or `report`.")
        targets = self.labeler(samples.references) if samples.labels is None else samples.labels
        return clinical_statistics(np.asarray(self.labeler(list(reports))), targets, self.labeler.label_names)


def visual_reliance(
    model: Any,
    batches: Any,
    arms: Sequence[str] = _DEFAULT_ARMS,
    scorer: Callable[[Sequence[str], EvaluatedSamples], Statistics] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    patients: Sequence[Hashable] | None = None,
    blank: float = 0.0,
    scores: Sequence[str] | None = None,
    generation: Mapping[str, Any] | None = None,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    progress: bool = True,
) -> RelianceResult:
    """Show a model the wrong volume and see how much worse its reports get.

    ======================= ==========================================================================
    arm                     what the model is shown
    ======================= ==========================================================================
    ``real``                the right volume
    ``zeroed``              ``blank`` everywhere: out of distribution, so no proof by itself
    ``mean``                the mean volume of the data (mean tokens, for cached features)
    ``noise``               noise with the sample's own mean and standard deviation
    ``other_patient``       another patient's volume with its masks: the main arm, because only the
                            match of volume and report is broken
    ======================= ==========================================================================

    Prompts and references stay. Volumes are read batch by batch and never kept; batches with
    ``features`` in place of ``image`` are changed in token space.

    Args:
        model: Has ``generate_batch(batch, **generation)``, as every report model of the library, or is
            a callable from batch to reports.
        batches: A list of batches, a loader in order over a map-style data set, or a data module
            (its test part).
        arms: Which arms; ``real`` is always run.
        scorer: From reports and samples to statistics; :class:`ClinicalScorer` unless given.
        seeds: Seeds of ``noise`` and ``other_patient``; their scores are means over seeds.
        patients: Patient of each sample, where the batches do not say.
        blank: Value of ``zeroed``; in HU where volumes are integers.
        scores: Names of the scores to keep.
        generation: Options of ``generate_batch``.
        n_resamples: Bootstrap resamples of patients.
        confidence: Nominal coverage of the intervals.
        progress: Show a progress bar on a terminal.

    Returns:
        Scores of all arms, and reliance = 1 - arm / real, with intervals from the same resamples.

    Raises:
        ConfigError: If an arm is unknown, or the batches cannot be looked up.
        DatasetError: If patients are unknown, or one has more than half of the samples.

    Example:
        >>> import torch
        >>> from ct_vlm.metrics import visual_reliance
        >>> truth = [[float(label == sample % 2) for label in range(18)] for sample in range(8)]
        >>> batch = {"image": torch.arange(8.0).view(8, 1, 1, 1, 1), "patient_id": list("abcdefgh"),
        ...          "labels": torch.tensor(truth)}
        >>> blind = lambda batch: ["Pacemaker is seen."] * 8
        >>> found = visual_reliance(blind, [batch], ["other_patient"], n_resamples=20)
        >>> found.reliance["other_patient"]["micro_f1"].value
        0.0

    References:
        Differs from the usual blank-image control: volumes are exchanged between patients.
    """
    from ct_vlm.metrics.reliance_run import Run

    unknown = [arm for arm in arms if arm not in _DEFAULT_ARMS]
    if unknown or not seeds:
        cause = f"Unknown arms {unknown}." if unknown else "No seeds were given."
        raise ConfigError(cause, f"Choose from {_DEFAULT_ARMS}, with one seed or more.")
    run = Run(model, batches, patients, blank, dict(generation or {}))
    wanted = tuple(dict.fromkeys(("real", *arms)))
    reports = run.write(wanted, tuple(seeds), lambda items, text: track(items, text, show=progress))
    scorer = ClinicalScorer() if scorer is None else scorer
    kept = scores if scores is not None else getattr(scorer, "scores", None)
    return run.result(reports, scorer, kept, tuple(seeds), n_resamples, confidence)
