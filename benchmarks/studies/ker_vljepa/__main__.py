"""What the curriculum does on phantoms: ``python -m benchmarks.studies.ker_vljepa --seeds 0 1 2 --out DIR``.

Phantoms, LeJEPA encoder, slice embeddings and language model are made once. Then every seed runs the phases of
`examples/configs/ker_vljepa_curriculum.yaml`, and phase 3 on whole reports from the same start. Scored are patients
that no phase saw: label F1 of the classifier after phases 1 and 2, and of written reports after phases 3 and 4 with
the right volumes, blank ones, noise and those of other patients; and F1 by epoch of phase 3 with positive findings and
with whole reports. A study that was stopped goes on where it was when the same command is given again.
"""

from __future__ import annotations

import argparse
import json
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

from benchmarks.studies.ker_vljepa.plans import run_plan, seed_plan, shared_plan  # noqa: E402
from benchmarks.studies.ker_vljepa.scoring import score_seed  # noqa: E402
from benchmarks.studies.ker_vljepa.tables import study_tables  # noqa: E402
from ct_vlm.cli.output import complain, say  # noqa: E402
from ct_vlm.errors import CTVLMError  # noqa: E402
from ct_vlm.files import write_json  # noqa: E402


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the study."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.ker_vljepa",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="phantoms, weights and results")
    parser.add_argument(
        "--changes", type=json.loads, default={}, help='JSON: phase (or "training") to options, e.g. smaller sizes'
    )
    parser.add_argument("--generation", type=json.loads, default={}, help="JSON: options of generation in scoring")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study, write ``ker_vljepa.json`` and print its tables.

    Args:
        arguments: Of the command line.
    """
    args = make_parser().parse_args(arguments)
    torch.set_num_threads(1)
    results = []
    try:
        made = run_plan(shared_plan(args.changes), args.out / "shared")
        for seed in args.seeds:
            folder = args.out / f"seed{seed}"
            phases = run_plan(seed_plan(seed, made, args.changes), folder)
            results.append({"seed": seed, **score_seed(folder, made, phases, **args.generation)})
            write_json(args.out / "ker_vljepa.json", results)
    except CTVLMError as error:
        complain(str(error))
        return 1
    say(study_tables(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
