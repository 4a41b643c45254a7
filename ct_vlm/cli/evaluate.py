"""Score report files: word overlap under a named protocol, clinical efficacy, CRG, intervals, a comparison.

Reads CSV, TSV, JSON, JSON lines and the VLM3D challenge's JSON. A reference without a prediction
counts as an empty report. Writes `metrics.json`, `cases.csv` and `report.html`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct_vlm.cli.output import say
from ct_vlm.cli.scores import print_scores

if TYPE_CHECKING:
    import argparse

    from ct_vlm.evaluation import Settings


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
    files.add_argument("--train-reports", metavar="FILE", help="training reports: adds baselines that need no image")
    files.add_argument("--train-labels", metavar="FILE", help="their labels; default: the labeler's")
    files.add_argument("--scores", metavar="FILE", help="label probabilities of the system")
    files.add_argument("--calibration", metavar="FILE", help="probabilities of a calibration split, or `oracle`")
    files.add_argument("--calibration-labels", metavar="FILE", help="true labels of the calibration split")
    files.add_argument("--out", default="evaluation", metavar="DIR", help="folder for the results (evaluation)")
    files.add_argument("--export-vlm3d", metavar="FILE", help="also write the predictions in the challenge's format")
    files.add_argument("--id-column", metavar="NAME", help="column of the volume's name, if unusual")
    files.add_argument("--text-column", metavar="NAME", help="column of the predicted text, if unusual")
    files.add_argument("--reference-column", metavar="NAME", help="column of the true text, if unusual")
    files.add_argument(
        "--sections", choices=("findings", "impressions", "both"), default="findings", help="true sections (findings)"
    )
    files.add_argument(
        "--strip-region-headings", action="store_true", help='take "Lung:" and other headings of regions out of reports'
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
    scoring.add_argument("--regions", choices=("six", "ten"), help="also score by region")
    scoring.add_argument("--scorers", metavar="A,B", help="outside scorers beside ours: green, ratescore, radgraph")
    scoring.add_argument(
        "--scorer-model", action="append", metavar="SCORER.ROLE=DIR", help="a model of a scorer; may be repeated"
    )
    parser.add_argument("--no-progress", action="store_true", help="no progress bars")


def run(args: argparse.Namespace) -> int:
    """Read, score, compare, write.

    Args:
        args: Parsed options.
    """
    from ct_vlm.evaluation import Extras, Files, evaluate_files
    from ct_vlm.evaluation.scorers import parse_models

    files = Files(**{name: getattr(args, name) for name in Files.__dataclass_fields__})
    extras = Extras(args.regions, _listed(args.scorers), parse_models(args.scorer_model or ()), args.permutations)
    study = evaluate_files(files, _settings(args), extras)
    written = study.write(args.out, args.cases, args.export_vlm3d)
    print_scores(study)
    say(f"Wrote {', '.join(map(str, written))}")
    return 0


def _listed(text: str | None) -> tuple[str, ...]:
    """Return the names of a list with commas."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _settings(args: argparse.Namespace) -> Settings:
    """Return the settings that the options ask for."""
    from ct_vlm.evaluation import Settings

    return Settings(
        protocol=args.protocol,
        metrics=_listed(args.metrics) or None,
        labeler=args.labeler,
        group_by=args.group_by,
        zero_division=args.zero_division,
        n_resamples=args.resamples,
        confidence=args.confidence,
        seed=args.seed,
        bertscore_model=args.bertscore_model,
        progress=not args.no_progress,
    )
