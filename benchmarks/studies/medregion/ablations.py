"""The five rows of MedRegion-CT's Table 1 on phantoms, over seeds."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from benchmarks.studies.medregion.encoder import pretrained_encoder, study_preset
from benchmarks.studies.medregion.language import pretrained_language_model
from benchmarks.studies.medregion.scans import encoded_scans, write_scans
from benchmarks.studies.medregion.training import ABLATIONS, LONGER, Parts, score_run, train_report
from benchmarks.studies.records import held_out_records
from ct_vlm.cli.output import say
from ct_vlm.files import write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.studies.medregion.recipe import StudyRecipe


def run_ablations(
    out: Path, recipe: StudyRecipe, seeds: Sequence[int], names: Sequence[str], *, progress: bool
) -> list[dict[str, Any]]:
    """Return one row of scores a seed and set of parts; what is finished is read.

    Args:
        out: Folder of the study.
        recipe: Settings.
        seeds: Seeds of phantoms, weights and orders.
        names: Which of :data:`ABLATIONS`, or of :data:`LONGER`.
        progress: Show progress bars.
    """
    rows = []
    for seed in seeds:
        for name in names:
            file = out / f"seed{seed}" / name.replace(" ", "_") / "scores.json"
            if not file.is_file():
                write_json(file, run_one(out, recipe, seed, name, progress=progress))
            row = json.loads(file.read_text(encoding="utf-8"))
            say(f"seed {seed}, {name}: micro F1 {row['micro_f1']:.3f}, {row['shuffled_micro_f1']:.3f} shuffled")
            rows.append(row)
    return rows


def run_one(out: Path, recipe: StudyRecipe, seed: int, name: str, *, progress: bool) -> dict[str, Any]:
    """Train and score one set of parts with one seed.

    Args:
        out: Folder of the study.
        recipe: Settings.
        seed: Seed of phantoms, weights and orders.
        name: One of :data:`ABLATIONS`, or of :data:`LONGER`.
        progress: Show progress bars.
    """
    encoder = pretrained_encoder(out / "encoder", recipe.encoder, recipe.shape, progress=progress)
    decoder = pretrained_language_model(out / "language", recipe.ablation, recipe.shape, progress=progress)
    data = write_scans(out / f"seed{seed}", recipe.ablation, recipe.shape, seed, progress=progress)
    scans = encoded_scans(out / f"seed{seed}", encoder, data, progress=progress)
    start = time.process_time()
    folder = out / f"seed{seed}" / name.replace(" ", "_")
    task = train_report(
        folder,
        Parts(encoder, decoder, study_preset(recipe.shape)),
        scans["train"],
        {**ABLATIONS, **LONGER}[name],
        recipe.ablation,
        seed,
        longer=name in LONGER,
        progress=progress,
    )
    trained = time.process_time()
    scored = scans["test"].select(range(min(recipe.ablation.scored, len(scans["test"]))))
    records = held_out_records(task, scored, progress=progress)
    write_json(folder / "records.json", records)
    return {
        "seed": seed,
        "parts": name,
        **score_run(records, seed),
        "scans": len(records),
        "trained_parameters": sum(p.numel() for p in task.parameters() if p.requires_grad),
        "cpu_s": {"training": trained - start, "writing": time.process_time() - trained},
    }
