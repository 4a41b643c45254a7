"""Score report files: word overlap under a named protocol, clinical efficacy, CRG, intervals, a comparison.

Reads CSV, TSV, JSON, JSON lines and the VLM3D challenge's JSON. A reference without a prediction
counts as an empty report. Writes `metrics.json`, `cases.csv` and `report.html`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.cli.output import say, say_table
from ct_vlm.errors import DatasetError

if TYPE_CHECKING:
    import argparse

    from ct_vlm.evaluation import Evaluation, Pairs, ReportTable, Settings

_SHOWN = (
    "bleu_1", "bleu_4", "bleu_mean", "rouge_l", "meteor", "cider",
    "micro_precision", "micro_recall", "micro_f1", "macro_f1", "weighted_f1", "samples_f1", "crg",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options.

    Args:
        parser: Parser of the command.
    """
    files = parser.add_argument_group("files")
    files.add_argument("--predictions", required=True, metavar="FILE", help="generated reports (or labels)")
    files.add_argument("--references", metavar="FILE", help="true reports; default: the column `reference` there")
    files.add_argument("--labels", metavar="FILE", help="true labels, e.g. CT-RATE's *_predicted_labels.csv")
    files.add_argument("--compare", metavar="FILE", help="reports of a second system, for paired differences")
    files.add_argument("--reliance", metavar="FILE", help="JSON of a visual-reliance study, for its plot")
    files.add_argument("--out", default="evaluation", metavar="DIR", help="folder for the results (evaluation)")
    files.add_argument("--export-vlm3d", metavar="FILE", help="also write the predictions in the challenge's format")
    files.add_argument("--id-column", metavar="NAME", help="column of the volume's name, if unusual")
    files.add_argument("--text-column", metavar="NAME", help="column of the predicted text, if unusual")
    files.add_argument("--reference-column", metavar="NAME", help="column of the true text, if unusual")
    files.add_argument(
        "--sections", choices=("findings", "impressions", "both"), default="findings", help="true sections (findings)"
    )
    scoring = parser.add_argument_group("scoring")
    scoring.add_argument("--protocol", default="vlm3d", help="vlm3d, uvlm, ct2rep, hf_evaluate, raw or coco (vlm3d)")
    scoring.add_argument("--metrics", metavar="A,B", help="word-overlap scores, e.g. bleu,rouge (all that can be)")
    scoring.add_argument("--labeler", default="rules", help="rules, radbert:PATH, module:function or given (rules)")
    scoring.add_argument("--group-by", choices=("first", "any", "mean"), help="score scans rather than volumes")
    scoring.add_argument("--zero-division", type=float, default=0.0, metavar="X", help="value of 0/0 in F1 (0)")
    scoring.add_argument("--bertscore-model", metavar="DIR", help="folder of a model, for BERTScore")
    scoring.add_argument("--resamples", type=int, default=1000, metavar="N", help="bootstrap; 0 for none (1000)")
    scoring.add_argument("--permutations", type=int, default=1000, metavar="N", help="of --compare; 0 for none (1000)")
    scoring.add_argument("--confidence", type=float, default=0.95, metavar="X", help="of the intervals (0.95)")
    scoring.add_argument("--seed", type=int, default=0, help="of the resamples (0)")
    scoring.add_argument("--cases", type=int, default=5, metavar="N", help="worst and best cases shown (5)")
    parser.add_argument("--no-progress", action="store_true", help="no progress bars")


def run(args: argparse.Namespace) -> int:
    """Read, score, compare, write.

    Args:
        args: Parsed options.
    """
    from ct_vlm.evaluation import compare, evaluate, write_cases, write_challenge, write_json

    settings = _settings(args)
    references, labels = _references(args), _read(args.labels, "references", args) if args.labels else None
    pairs = _pairs(args.predictions, references, labels, args)
    found = evaluate(pairs, settings)
    systems, comparison = {_name(args.predictions): found}, None
    if args.compare:
        others = _pairs(args.compare, references, labels, args)
        second = evaluate(others, settings)
        systems[_name(args.compare, taken=systems)] = second
        comparison = compare((pairs, found), (others, second), settings, args.permutations)
    out = Path(args.out)
    results = {**found.scores, "inputs": _inputs(args), "comparison": comparison}
    if args.compare:
        results["compared"] = list(systems.values())[1].scores
    write_json(out / "metrics.json", results)
    write_cases(out / "cases.csv", found.cases)
    if args.export_vlm3d:
        write_challenge(Path(args.export_vlm3d), dict(zip(pairs.ids, pairs.predictions or (), strict=True)))
    _write_page(out / "report.html", systems, comparison, args)
    _print(systems, comparison)
    say(f"Wrote {out / 'metrics.json'}, {out / 'cases.csv'} and {out / 'report.html'}")
    return 0


def _settings(args: argparse.Namespace) -> Settings:
    """Return the settings that the options ask for."""
    from ct_vlm.evaluation import Settings

    return Settings(
        protocol=args.protocol,
        metrics=args.metrics.split(",") if args.metrics else None,
        labeler=args.labeler,
        group_by=args.group_by,
        zero_division=args.zero_division,
        n_resamples=args.resamples,
        confidence=args.confidence,
        seed=args.seed,
        bertscore_model=args.bertscore_model,
        progress=not args.no_progress,
    )


def _references(args: argparse.Namespace) -> ReportTable:
    """Return the true reports, or the true labels alone."""
    from ct_vlm.evaluation.names import REFERENCE_NAMES
    from ct_vlm.evaluation.reading import read_rows

    if args.references:
        return _read(args.references, "references", args, args.reference_column)
    column = args.reference_column or REFERENCE_NAMES[0]
    if column in read_rows(args.predictions).columns:
        return _read(args.predictions, "references", args, column)
    if args.labels:
        return _read(args.labels, "references", args)
    cause = f"`{args.predictions}` has no column {column!r}, and no other file with references was given."
    raise DatasetError(cause, "Pass `--references FILE`, or `--labels FILE` for clinical scores alone.")


def _pairs(path: str, references: ReportTable, labels: ReportTable | None, args: argparse.Namespace) -> Pairs:
    """Read a system's reports and put them beside the references."""
    from ct_vlm.evaluation import pair_reports

    return pair_reports(_read(path, "predictions", args, args.text_column), references, labels)


def _read(path: str, role: Any, args: argparse.Namespace, column: str | None = None) -> ReportTable:
    """Read a file of reports or labels."""
    from ct_vlm.evaluation import read_reports

    return read_reports(path, role, id_column=args.id_column, text_column=column, sections=args.sections)


def _inputs(args: argparse.Namespace) -> dict[str, Any]:
    """Return names and checksums of the files, so that results say what they are of."""
    import hashlib

    files = {name: getattr(args, name) for name in ("predictions", "references", "labels", "compare")}
    return {
        name: {"file": str(path), "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest()}
        for name, path in files.items()
        if path
    }


def _write_page(
    path: Path, systems: dict[str, Evaluation], comparison: dict[str, Any] | None, args: argparse.Namespace
) -> None:
    """Write the HTML report."""
    from ct_vlm.evaluation.html import Page, write_html

    first = next(iter(systems.values()))
    reliance = _read_reliance(args.reliance) if args.reliance else None
    scores = {name: found.scores for name, found in systems.items()}
    write_html(path, Page(scores, first.cases, comparison, reliance, args.cases))


def _read_reliance(path: str) -> dict[str, Any]:
    """Read the arms of a visual-reliance study."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        arms = content.get("arms", content)
        return {str(name): arm if isinstance(arm, dict) else {"value": float(arm)} for name, arm in arms.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        cause = f"`{path}` is no visual-reliance study: {error}."
        raise DatasetError(cause, 'Write {"arms": {"real": 0.5, "other_patient": 0.1}} as JSON.') from error


def _print(systems: dict[str, Evaluation], comparison: dict[str, Any] | None) -> None:
    """Print the table of the main scores, and what they depend on."""
    from ct_vlm.evaluation.values import score_value, with_interval

    scores = {name: found.scores for name, found in systems.items()}
    rows = []
    for name in _SHOWN:
        if any(score_value(found, name) is not None for found in scores.values()):
            rows.append([name, *(with_interval(found, name) for found in scores.values())])
            if comparison:
                difference = comparison["difference"].get(name, {})
                tested = comparison["permutation"].get(name, difference.get("p_value"))
                value = difference.get("value")
                rows[-1] += ["" if value is None else f"{value:+.3f}", "" if tested is None else f"{tested:.3g}"]
    say_table("Scores", ["score", *scores, *(["difference", "p"] if comparison else [])], rows)
    for name, found in scores.items():
        nlg, clinical = found["nlg"] or {}, found["clinical"] or {}
        missing = nlg.get("missing_predictions", clinical.get("missing_predictions", 0))
        say(
            f"{name}: {found['num_reports']} reports of {found['num_patients']} patients, {missing} missing; "
            f"protocol {nlg.get('protocol', '-')}, labels {clinical.get('labeler', '-')} "
            f"against {clinical.get('target_labeler', '-')}"
        )
        for family, reason in nlg.get("skipped", {}).items():
            say(f"  not computed: {family}: {reason}")


def _name(path: str, taken: Any = ()) -> str:
    """Return a short name of a system: its file's, with its folder where two are alike."""
    name = Path(path).stem
    return name if name not in taken else str(Path(path).with_suffix(""))
