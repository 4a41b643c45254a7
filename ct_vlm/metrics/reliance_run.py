"""Run a model over its data with the right and the wrong volumes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ct_vlm.errors import DatasetError, ShapeError
from ct_vlm.metrics.functional.resampling import bootstrap
from ct_vlm.metrics.reliance import EvaluatedSamples, other_patient_permutation
from ct_vlm.metrics.reliance_arms import SEEDED, MeanVolume, Volumes, batch_size, map_tensors, noise, zeroed
from ct_vlm.metrics.reliance_result import ArmStatistics, RelianceResult

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

    from ct_vlm.metrics.functional.statistics import Statistics

    Reports = dict[str, list[list[str]]]
    Bar = Callable[[Iterable[Any], str], Iterable[Any]]

_SECOND_PASS = ("mean", "other_patient")


class Run:
    """One model over one set of batches.

    Args:
        model: Has ``generate_batch``, or is a callable.
        batches: A list of batches, a loader or a data module.
        patients: Patient of each sample, where the batches do not say.
        blank: Value of the arm ``zeroed``.
        generation: Options of ``generate_batch``.
    """

    def __init__(
        self,
        model: Any,
        batches: Any,
        patients: Sequence[Hashable] | None,
        blank: float,
        generation: dict[str, Any],
    ) -> None:
        self.model, self.blank, self.generation = model, blank, generation
        self.hook: Any = getattr(batches, "on_after_batch_transfer", None)
        if hasattr(batches, "test_dataloader"):
            batches.prepare_data()
            batches.setup("test")
            batches = batches.test_dataloader()
        self.batches = batches
        self.volumes: Volumes | None = None
        self._given = None if patients is None else list(patients)
        self._samples: dict[str, list[Any]] = {"patients": [], "references": [], "labels": []}
        self._mean = MeanVolume()

    def write(self, arms: Sequence[str], seeds: Sequence[int], bar: Bar) -> Reports:
        """Return the reports of every arm and seed, in two passes over the data.

        Args:
            arms: Arms to run.
            seeds: Seeds of the arms that chance decides.
            bar: Shows progress over items.
        """
        reports: Reports = {arm: [[] for _ in (seeds if arm in SEEDED else (0,))] for arm in arms}
        later = [arm for arm in arms if arm in _SECOND_PASS]
        if "other_patient" in later:
            self.volumes = Volumes(self.batches)
        with self._evaluating():
            first = 0
            for number, batch in enumerate(bar(self.batches, "Real, blank and noise")):
                self._note(number, batch, "mean" in later)
                for arm in (arm for arm in arms if arm not in later):
                    for run, seed in zip(reports[arm], seeds, strict=False):
                        run.extend(self._generate(self._direct(arm, batch, seed, first)))
                first += batch_size(batch)
            if later:
                self._second_pass(reports, later, seeds, bar)
        return reports

    def result(
        self,
        reports: Reports,
        scorer: Callable[[Sequence[str], EvaluatedSamples], Statistics],
        scores: Sequence[str] | None,
        seeds: tuple[int, ...],
        n_resamples: int,
        confidence: float,
    ) -> RelianceResult:
        """Score the reports.

        Args:
            reports: Of :meth:`write`.
            scorer: From reports and samples to statistics.
            scores: Names to keep.
            seeds: The seeds.
            n_resamples: Bootstrap resamples.
            confidence: Nominal coverage.
        """
        samples = self.samples()
        arms = ArmStatistics({arm: [scorer(run, samples) for run in runs] for arm, runs in reports.items()}, scores)
        found = bootstrap(arms, samples.patients, n_resamples=n_resamples, confidence=confidence)
        tables: dict[str, dict[str, dict[str, Any]]] = {"arms": {}, "reliance": {}}
        for key, interval in found.scores.items():
            table, name = ("reliance", key.removeprefix("reliance/")) if key.startswith("reliance/") else ("arms", key)
            arm, score = name.split("/", 1)
            tables[table].setdefault(arm, {})[score] = interval
        by_seed = {k: v for k, v in arms.by_seed(np.ones((1, arms.num_samples))).items() if k in SEEDED}
        return RelianceResult(
            arms=tables["arms"],
            reliance=tables["reliance"],
            seed_spread={
                arm: {k: float(v.std()) for k, v in row.items()} for arm, row in by_seed.items() if arm in SEEDED
            },
            seeds=seeds,
            confidence=confidence,
            n_resamples=n_resamples,
            num_samples=found.num_reports,
            num_patients=found.num_patients,
            scorer=str(getattr(scorer, "name", getattr(scorer, "__name__", type(scorer).__name__))),
            reports=reports,
        )

    def samples(self) -> EvaluatedSamples:
        """Return what the batches said about their samples."""
        patients = self._samples["patients"] if self._given is None else self._given
        count = len(self._samples["references"])
        if len(patients) != count:
            cause = f"Expected the patient of {count} samples, but got {len(patients)}."
            raise DatasetError(cause, "Put `patient_id` into the batches, or pass `patients`.")
        labels = self._samples["labels"]
        known = len(labels) == count and all(row is not None for row in labels)
        return EvaluatedSamples(patients, self._samples["references"], np.stack(labels) if known and labels else None)

    def _direct(self, arm: str, batch: Mapping[str, Any], seed: int, first: int) -> Mapping[str, Any]:
        """Return the batch of an arm that needs no other batch."""
        if arm == "zeroed":
            return zeroed(batch, self.blank)
        return noise(batch, seed, first) if arm == "noise" else batch

    def _second_pass(self, reports: Reports, later: Sequence[str], seeds: Sequence[int], bar: Bar) -> None:
        """Write the reports of arms that need the whole data first."""
        partners = [np.empty(0, dtype=np.int64)] * len(seeds)
        if "other_patient" in later:
            partners = [other_patient_permutation(self.samples().patients, seed) for seed in seeds]
        first = 0
        for batch in bar(self.batches, "Mean and other patients"):
            rows = slice(first, first + batch_size(batch))
            if "mean" in later:
                reports["mean"][0].extend(self._generate(self._mean.fill(batch)))
            if self.volumes is not None:
                for run, order in zip(reports["other_patient"], partners, strict=True):
                    run.extend(self._generate(self.volumes.swap(batch, order[rows])))
            first = rows.stop

    def _note(self, number: int, batch: Mapping[str, Any], add_mean: bool) -> None:
        """Remember what a batch says about its samples."""
        size = batch_size(batch)
        self._samples["patients"].extend(batch["patient_id"] if batch.get("patient_id") is not None else [])
        self._samples["references"].extend(batch["report"] if batch.get("report") is not None else [None] * size)
        if batch.get("labels") is not None:
            self._samples["labels"].extend(torch.as_tensor(batch["labels"]).double().cpu().numpy())
        if self.volumes is not None:
            self.volumes.note(number, batch)
        if add_mean:
            self._mean.add(batch)

    def _generate(self, batch: Mapping[str, Any]) -> list[str]:
        """Write the reports of a batch."""
        size = batch_size(batch)
        parameter = next(iter(self.model.parameters()), None) if hasattr(self.model, "parameters") else None
        if parameter is not None:
            batch = map_tensors(dict(batch), lambda tensor: tensor.to(parameter.device))
        if self.hook is not None:
            batch = self.hook(batch, 0)
        write = getattr(self.model, "generate_batch", self.model)
        reports = list(write(batch, **self.generation))
        if len(reports) != size:
            cause = f"The model wrote {len(reports)} reports for {size} volumes."
            raise ShapeError(cause, "Return one report a sample.")
        return reports

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Switch a module to evaluation without gradients, and back."""
        is_module = isinstance(self.model, torch.nn.Module)
        training = is_module and self.model.training
        if is_module:
            self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            if is_module:
                self.model.train(training)
