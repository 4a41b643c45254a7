"""What AbSteering's two stages bring on phantoms: ``python -m benchmarks.studies.absteering --out DIR``.

A stand-in for a pretrained video language model is made once a backbone. A study that was stopped goes on
where it was when the same command is given again.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# before numpy or torch is imported: a thread that waits for another one counts as work
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import torch  # noqa: E402

from benchmarks.studies.absteering.recipe import StudyRecipe  # noqa: E402
from benchmarks.studies.absteering.runs import PARTS, run_backbone  # noqa: E402
from benchmarks.studies.absteering.tables import study_tables  # noqa: E402
from ct_vlm.cli.output import complain, say  # noqa: E402
from ct_vlm.errors import CTVLMError  # noqa: E402
from ct_vlm.files import write_json  # noqa: E402

BACKBONES = ("qwen2_5_vl", "internvl")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the study."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.absteering", description=__doc__)
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=list(BACKBONES), help="default: both")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="rows (default: all)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="phantoms, weights and results")
    parser.add_argument("--no-progress", action="store_true", help="no progress bars")
    return parser


def main(arguments: Sequence[str] | None = None, recipe: StudyRecipe | None = None) -> int:
    """Run the study, write ``absteering.json`` and print its tables.

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
        rows = [
            row
            for seed in args.seeds
            for backbone in args.backbones
            for row in run_backbone(args.out, backbone, settings, seed, args.parts, progress=progress)
        ]
    except CTVLMError as error:
        complain(str(error))
        return 1
    write_json(args.out / "absteering.json", rows)
    say(study_tables(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
