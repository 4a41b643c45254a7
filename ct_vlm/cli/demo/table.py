"""The demo's closing table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from pathlib import Path


def print_table(metrics: dict[str, Any], out: Path) -> None:
    """Print scores, cost and what to try next.

    Args:
        metrics: What ``metrics.json`` holds.
        out: Folder of the run.
    """
    console = Console()
    report, shuffled = metrics["report"], metrics["report_shuffled"]
    table = Table(title="held-out patients", show_header=True)
    table.add_column("what")
    table.add_column("own volume", justify="right")
    table.add_column("another patient's", justify="right")
    for key in ("micro_f1", "macro_f1"):
        other = f"{shuffled[key]:.3f}" if key in shuffled else "-"
        table.add_row(f"report {key} (18 labels, rules)", f"{report[key]:.3f}", other)
    table.add_row("report bleu_mean (vlm3d)", f"{report['bleu_mean']:.3f}", "")
    table.add_row(
        f"side or lobe right ({report['located_true_positives']} found)", f"{report['location_accuracy']:.3f}", ""
    )
    auroc = metrics["classifier"].get("macro_auroc", float("nan"))
    table.add_row("classifier macro_auroc", f"{auroc:.3f}", "")
    table.add_row("distinct reports", str(metrics["distinct_reports"]), "")
    table.add_row("wall time", f"{metrics['wall_s']:.0f} s", "")
    table.add_row("peak memory", f"{metrics['peak_rss_mb']} MB", "")
    console.print(table)
    labels = Table(title="report F1 by label")
    labels.add_column("label")
    labels.add_column("F1", justify="right")
    labels.add_column("cases", justify="right")
    for name, values in report["per_label"].items():
        labels.add_row(name, f"{values['f1']:.2f}", str(values["support"]))
    console.print(labels)
    console.print(f"scores: {out / 'metrics.json'}   reports: {out / 'reports.csv'}   pictures: {out / 'examples'}")
    console.print(f"next: ct-vlm generate --checkpoint {out / 'stage3_report'} --volume scan.nii.gz", soft_wrap=True)
