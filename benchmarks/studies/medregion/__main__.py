"""What MedRegion-CT's parts bring on phantoms: ``python -m benchmarks.studies.medregion ablations | selection``.

Both studies share a small slice encoder that is trained once on phantoms of its own. A study that was
stopped goes on where it was when the same command is given again.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct_vlm.encoders import SliceEncoder

# before numpy or torch is imported: a thread that waits for another one counts as work
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import torch  # noqa: E402

from benchmarks.studies.medregion.ablations import run_ablations  # noqa: E402
from benchmarks.studies.medregion.encoder import pretrained_encoder  # noqa: E402
from benchmarks.studies.medregion.recipe import StudyRecipe  # noqa: E402
from benchmarks.studies.medregion.selection import run_selection  # noqa: E402
from benchmarks.studies.medregion.tables import ablation_table, selection_table  # noqa: E402
from benchmarks.studies.medregion.training import ABLATIONS, LONGER  # noqa: E402
from ct_vlm.cli.output import complain, say  # noqa: E402
from ct_vlm.errors import CTVLMError  # noqa: E402
from ct_vlm.files import write_json  # noqa: E402


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of both studies."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.medregion", description=__doc__)
    studies = parser.add_subparsers(dest="study", required=True)
    for name, text in (("ablations", "five sets of parts"), ("selection", "R² against uniform slices")):
        study = studies.add_parser(name, help=text)
        study.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
        study.add_argument("--out", type=Path, required=True, metavar="DIR", help="phantoms, weights and results")
        study.add_argument("--no-progress", action="store_true", help="no progress bars")
    studies.choices["ablations"].add_argument(
        "--parts",
        nargs="+",
        choices=(*ABLATIONS, *LONGER),
        default=list(ABLATIONS),
        help="default: the five of the paper",
    )
    return parser


def main(arguments: Sequence[str] | None = None, recipe: StudyRecipe | None = None) -> int:
    """Run a study, write ``<study>.json`` and print its table.

    Args:
        arguments: Of the command line.
        recipe: Settings; those of the documented results unless given.
    """
    args = make_parser().parse_args(arguments)
    settings = recipe or StudyRecipe()
    logging.getLogger("lightning").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    progress = not args.no_progress and sys.stderr.isatty()
    try:
        if args.study == "ablations":
            rows = run_ablations(args.out, settings, args.seeds, args.parts, progress=progress)
            table = ablation_table(rows)
        else:
            encoder = pretrained_encoder(args.out / "encoder", settings.encoder, settings.shape, progress=progress)
            rows = [
                row for seed in args.seeds for row in _selection(args.out, encoder, settings, seed, progress=progress)
            ]
            table = selection_table(rows)
    except CTVLMError as error:
        complain(str(error))
        return 1
    write_json(args.out / f"{args.study}.json", rows)
    say(table)
    return 0


def _selection(
    out: Path, encoder: SliceEncoder, settings: StudyRecipe, seed: int, *, progress: bool
) -> list[dict[str, Any]]:
    """Return the rows of one seed, read where they are kept."""
    file = out / f"seed{seed}" / "selection.json"
    if not file.is_file():
        rows = run_selection(encoder, settings.shape, settings.selection, seed, progress=progress)
        write_json(file, rows)
    found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    sys.exit(main())
