"""The rows of the table: what is trained, from what, on which preferences."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.studies.absteering.scans import steering_scans, without_lists
from benchmarks.studies.absteering.scoring import pair_log_probs, pair_scores, text_scores
from benchmarks.studies.absteering.standin import stand_in
from benchmarks.studies.absteering.training import Start, train_preferences, train_reports
from benchmarks.studies.records import held_out_records
from ct_vlm.cli.output import say
from ct_vlm.files import write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from benchmarks.studies.absteering.pairs import Kind
    from benchmarks.studies.absteering.recipe import StudyRecipe
    from ct_vlm.datamodules import FeatureDataset
    from ct_vlm.tasks import ReportLightningModule


@dataclass(frozen=True)
class Part:
    """One row.

    Args:
        title: Its name in tables.
        steering: Whether stage 1 is taught the list before the report.
        negatives: Wrong lists of stage 2; None for stage 1 alone.
    """

    title: str
    steering: bool
    negatives: Kind | None = None


PARTS = {
    "baseline": Part("baseline", steering=False),
    "cot": Part("CoT", steering=True),
    "cot_dpo_hard": Part("CoT + DPO, hard negatives", steering=True, negatives="hard"),
    "cot_dpo_random": Part("CoT + DPO, random negatives", steering=True, negatives="random"),
    "cot_dpo_retold": Part("CoT + DPO, hard negatives retold", steering=True, negatives="retold"),
    "dpo": Part("DPO, hard negatives", steering=False, negatives="hard"),
}
"""What ``--parts`` chooses from."""


class BackboneStudy:
    """All runs of one backbone and seed; what is finished is read.

    Args:
        out: Folder of the study.
        backbone: Family.
        recipe: Settings.
        seed: Seed of phantoms, orders and pairs.
        progress: Show progress bars.
    """

    def __init__(self, out: Path, backbone: str, recipe: StudyRecipe, seed: int, *, progress: bool) -> None:
        self.recipe, self.seed, self.progress = recipe, seed, progress
        self.folder = out / backbone / f"seed{seed}"
        encoder, decoder = stand_in(out, backbone, recipe, progress=progress)
        self.start = Start(out / backbone / "checkpoint", decoder)
        self.scans = steering_scans(out, encoder, recipe, seed, progress=progress)
        self._references: dict[str, dict[str, Tensor]] = {}

    def task(self, name: str) -> ReportLightningModule:
        """Return a trained task.

        Args:
            name: One of :data:`PARTS`.
        """
        part, settings, train = PARTS[name], self.recipe.steering, self.scans["train"]
        first = "cot" if part.steering else "baseline"
        task = train_reports(
            self.folder / first,
            self.start,
            train,
            settings,
            self.seed,
            steering=part.steering,
            progress=self.progress,
        )
        if part.negatives is None:
            return task
        return train_preferences(
            self.folder / name,
            self.start,
            task,
            train,
            part.negatives,
            settings,
            self.seed,
            steering=part.steering,
            progress=self.progress,
        )

    def run(self, name: str) -> dict[str, Any]:
        """Train and score one row.

        Args:
            name: One of :data:`PARTS`.
        """
        start = time.process_time()
        task, part = self.task(name), PARTS[name]
        trained = time.process_time()
        test = self.scans["test"]
        scored = test.select(range(min(self.recipe.steering.scored, len(test))))
        records = held_out_records(task, scored if part.steering else without_lists(scored), progress=self.progress)
        write_json(self.folder / name / "records.json", records)
        written = time.process_time()
        row = {"part": name, "seed": self.seed, "scans": len(records), **text_scores(records, self.seed)}
        row["preferences"] = self._preferences(name, task, test)
        seconds = {"training": trained - start, "writing": written - trained, "pairs": time.process_time() - written}
        return {**row, "cpu_s": seconds}

    def _preferences(self, name: str, task: ReportLightningModule, test: FeatureDataset) -> dict[str, float]:
        """Return the scores of held-out pairs."""
        policy = pair_log_probs(task, test, self.seed)
        if PARTS[name].negatives is None:
            return pair_scores(policy, None)
        first = "cot" if PARTS[name].steering else "baseline"
        if first not in self._references:
            self._references[first] = pair_log_probs(self.task(first), test, self.seed)
        return pair_scores(policy, self._references[first])


def run_backbone(
    out: Path, backbone: str, recipe: StudyRecipe, seed: int, names: Sequence[str], *, progress: bool
) -> list[dict[str, Any]]:
    """Return the rows of one backbone and seed.

    Args:
        out: Folder of the study.
        backbone: Family.
        recipe: Settings.
        seed: Seed.
        names: Which of :data:`PARTS`.
        progress: Show progress bars.
    """
    study, rows = None, []
    for name in names:
        file = out / backbone / f"seed{seed}" / name / "scores.json"
        if not file.is_file():
            study = study or BackboneStudy(out, backbone, recipe, seed, progress=progress)
            write_json(file, {"backbone": backbone, **study.run(name)})
        row = json.loads(file.read_text(encoding="utf-8"))
        accuracy = row["preferences"]["hard/own/accuracy"]
        say(f"{backbone}, seed {seed}, {name}: micro F1 {row['micro_f1']:.3f}, hard pairs {accuracy:.3f}")
        rows.append(row)
    return rows
