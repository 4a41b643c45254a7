"""The whole path on phantoms: data on disk, three training stages, reports, scores, pictures.

Everything is written below `--out`; a run that was stopped goes on where it was when the same
command is given again.
"""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.cli.errors import UsageError
from ct_vlm.cli.output import say
from ct_vlm.files import atomic_path, write_json

if TYPE_CHECKING:
    import argparse

    from ct_vlm.cli.demo.stages import DemoRun

_EXAMPLES = 6
_SETTINGS = "demo.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ct-vlm demo``."""
    parser.add_argument("--out", type=Path, default=Path("ct-vlm-demo"), help="folder of the run (ct-vlm-demo)")
    parser.add_argument("--seed", type=int, default=0, help="seed of phantoms, weights and orders (0)")
    parser.add_argument("--quick", action="store_true", help="the same path in seconds; its scores claim nothing")
    parser.add_argument("--no-progress", action="store_true", help="no progress bars")


def run(args: argparse.Namespace) -> int:
    """Run the demo."""
    start = time.perf_counter()
    _prepare(args)
    # a spinning second thread slows small convolutions down; processes share the work instead
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    from ct_vlm.cli.demo.memory import PeakMemory

    with PeakMemory() as memory:
        metrics, timings = _run_stages(args)
    metrics["seed"] = args.seed
    metrics["quick"] = args.quick
    metrics["wall_s"] = round(time.perf_counter() - start, 1)
    metrics["peak_rss_mb"] = round(memory.peak_mb)
    metrics["stage_s"] = timings
    write_json(args.out / "metrics.json", _finite(metrics))

    from ct_vlm.cli.demo.table import print_table

    print_table(metrics, args.out)
    return 0


def _finite(value: Any) -> Any:
    """Replace numbers that JSON has no word for (a score without a case) by null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _prepare(args: argparse.Namespace) -> None:
    """Make the folder, and refuse one that holds something else or another run."""
    settings = {"seed": args.seed, "quick": args.quick}
    file = args.out / _SETTINGS
    if file.is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        if found != settings:
            cause = f"`{args.out}` holds a demo run with {found}, not {settings}."
            raise UsageError(cause, "Name another folder with --out.")
        return
    if args.out.exists() and any(args.out.iterdir()):
        msg = f"`{args.out}` is not empty and holds no demo run."
        raise UsageError(msg, "Name another folder with --out.")
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(file, settings)


def _run_stages(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, float]]:
    """Run data, training, writing and scoring; return metrics and seconds of each part."""
    import torch
    from lightning import seed_everything

    from ct_vlm.cli.demo import data as demo_data
    from ct_vlm.cli.demo import recipe as recipes
    from ct_vlm.cli.demo.scoring import held_out_records, score
    from ct_vlm.cli.demo.stages import DemoRun
    from ct_vlm.cli.demo.training import choose_processes
    from ct_vlm.phantoms import Finding

    torch.set_num_threads(1)
    recipe = recipes.QUICK if args.quick else recipes.FULL
    demo = DemoRun(args.out, recipe, args.seed, choose_processes(), progress=not args.no_progress)
    clock = _Clock()
    say(f"phantoms in CT-RATE layout -> {demo.root}")
    manifest = demo_data.write_phantoms(demo.root, recipe, args.seed, demo.processes, progress=demo.progress)
    clock.lap("phantoms")
    seed_everything(args.seed, verbose=False)
    say("stage 1: segmentation")
    segmenter = demo.segmentation()
    clock.lap("segmentation")
    say("stage 2: classification")
    classifier = demo.classification(segmenter)
    clock.lap("classification")
    say("stage 3: report")
    data = demo_data.report_data(demo.root, recipe, demo.processes, args.seed)
    report = demo.report(classifier, data)
    clock.lap("report")
    say("held-out patients")
    torch.set_num_threads(demo.processes)
    records = held_out_records(demo, report, classifier, data)
    findings = {volume.name: [Finding(**fact) for fact in volume.findings] for volume in manifest.volumes}
    metrics: dict[str, Any] = dict(score(records, findings, args.seed))
    _write_examples(demo, records, data)
    clock.lap("evaluation")
    return metrics, clock.laps


def _write_examples(demo: DemoRun, records: list[dict[str, Any]], data: Any) -> None:
    """Write all held-out reports as CSV and a few beside their slices."""
    import pandas as pd

    from ct_vlm.cli.demo.pictures import draw_case

    rows = [{key: r.get(key) for key in ("volume_id", "prediction", "reference")} for r in records]
    with atomic_path(demo.out / "reports.csv") as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
    folder = demo.out / "examples"
    folder.mkdir(exist_ok=True)
    dataset = data.datasets["test"]
    for index in range(min(_EXAMPLES, len(dataset))):
        item = dataset[index]
        record = next(r for r in records if r["volume_id"] == item["volume_id"])
        draw_case(folder / f"{item['volume_id']}.png", item["image"][0].numpy(), record, item["spacing"].tolist())


class _Clock:
    """Seconds between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 1)
        self._last = now
