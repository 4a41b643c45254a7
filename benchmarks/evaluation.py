"""How fast reports are scored, beside the package that the field runs: ``python -m benchmarks.evaluation``.

Both sides get the same cleaned texts in the same process, in turns; their values are compared. The
reports are phantoms' findings joined to the length of CT-RATE's. Wall and processor seconds are
shown: on a busy machine, processor seconds are the ones to read.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.cli.types import positive
from ct_vlm.evaluation import ReportTable, Settings, evaluate, pair_reports
from ct_vlm.files import write_json
from ct_vlm.metrics import RuleLabeler
from ct_vlm.metrics.functional import nlg_statistics
from ct_vlm.metrics.functional.protocols import get_protocol
from ct_vlm.phantoms import describe_phantom
from ct_vlm.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REPORTS, WORDS, PATIENTS, POOL = 3039, 276, 1314, 1500
TOLERANCE = 1e-9
_KEPT = 0.7
_SHAPE = (16, 24, 24)


@dataclass(frozen=True)
class Timing:
    """Wall and processor seconds of one piece of work, the best of its rounds.

    Args:
        work: What was done.
        wall_s: Wall seconds.
        cpu_s: Processor seconds.
        peer_wall_s: The same of the other package; None where there is none.
        peer_cpu_s: The same of the other package.
        difference: Largest difference of the values of both.
        note: What else is to be known.
    """

    work: str
    wall_s: float
    cpu_s: float
    peer_wall_s: float | None = None
    peer_cpu_s: float | None = None
    difference: float | None = None
    note: str = ""


def make_pairs(count: int, words: int, pool: int = POOL, seed: int = 0) -> tuple[list[str], list[str]]:
    """Return predictions and references.

    A reference joins the findings of random phantoms until it is long enough; its prediction keeps
    seven sentences of ten and takes the others from elsewhere.

    Args:
        count: Number of pairs.
        words: Least words of a reference.
        pool: Phantoms to draw from.
        seed: Seed of the draws.
    """
    rng = np.random.default_rng(seed)
    findings = [split_sentences(describe_phantom(number, _SHAPE).findings_text) for number in range(pool)]
    every = [sentence for sentences in findings for sentence in sentences]
    predictions, references = [], []
    for _ in range(count):
        true: list[str] = []
        while sum(len(sentence.split()) for sentence in true) < words:
            true += findings[rng.integers(pool)]
        said = [sentence if rng.random() < _KEPT else every[rng.integers(len(every))] for sentence in true]
        references.append(" ".join(true))
        predictions.append(" ".join(said))
    return predictions, references


def compare_scores(predictions: Sequence[str], references: Sequence[str], rounds: int = 1) -> list[Timing]:
    """Time BLEU, ROUGE-L and CIDEr, ours and ``pycocoevalcap``'s, on the cleaned texts of ``vlm3d``.

    Args:
        predictions: Generated reports.
        references: True reports.
        rounds: How often both are run, in turns.
    """
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    said, true = get_protocol("vlm3d").clean(predictions, references)
    res, gts = ({i: [text] for i, text in enumerate(texts)} for texts in (said, true))
    peers: dict[str, Callable[[], Any]] = {
        "bleu": lambda: Bleu(4).compute_score(gts, res, verbose=0)[0],
        "rouge": lambda: Rouge().compute_score(gts, res)[0],
        "cider": lambda: Cider().compute_score(gts, res)[0],
    }
    names = {"bleu": [f"bleu_{order}" for order in range(1, 5)], "rouge": ["rouge_l"], "cider": ["cider"]}
    timings = []
    for family, peer in peers.items():
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(_timed(lambda family=family: nlg_statistics(said, true, "raw", [family]).scores()))  # type: ignore[misc]
            theirs.append(_timed(peer))
        values = [ours[0][2][name] for name in names[family]]
        difference = float(np.abs(np.array(values) - np.ravel(theirs[0][2])).max())
        best, other = ((min(run[0] for run in runs), min(run[1] for run in runs)) for runs in (ours, theirs))
        timings.append(Timing(family, *best, *other, difference))
    return timings


def time_labeler(reports: Sequence[str]) -> list[Timing]:
    """Time the rule labeler on reports, and on reports no two of whose sentences are alike.

    The labeler remembers sentences; clinical reports repeat fewer of them than phantoms' do, so the
    truth lies between both.

    Args:
        reports: The reports.
    """
    number = iter(range(10**9))
    unlike = [" ".join(f"{s.rstrip('.')} on image {next(number)}." for s in split_sentences(r)) for r in reports]
    timings = []
    for name, texts in (("rule labeler", reports), ("rule labeler, no sentence twice", unlike)):
        wall, cpu, _ = _timed(lambda texts=texts: RuleLabeler()(texts))  # type: ignore[misc]
        timings.append(Timing(name, wall, cpu, note=f"{60 * len(reports) / max(cpu, 1e-9):,.0f} reports/min/core"))
    return timings


def time_evaluation(predictions: Sequence[str], references: Sequence[str], resamples: int = 1000) -> Timing:
    """Time a full evaluation: word overlap without METEOR, labels by rules, CRG, intervals over patients.

    Args:
        predictions: Generated reports.
        references: True reports.
        resamples: Bootstrap resamples.
    """
    ids = tuple(f"valid_{number % PATIENTS}_a_{number // PATIENTS}" for number in range(len(references)))
    patients = tuple(f"valid_{number % PATIENTS}" for number in range(len(references)))
    pairs = pair_reports(ReportTable(ids, tuple(predictions)), ReportTable(ids, tuple(references), patients=patients))
    settings = Settings(metrics=["bleu", "rouge", "cider"], n_resamples=resamples, progress=True)
    wall, cpu, found = _timed(lambda: evaluate(pairs, settings))
    return Timing(
        "full evaluation", wall, cpu, note=f"{len(found.scores['intervals'])} intervals, {resamples} resamples"
    )


def _timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return wall and processor seconds of a call, and what it returned."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return time.perf_counter() - wall, time.process_time() - cpu, found


def table(timings: Sequence[Timing]) -> str:
    """Return timings as text.

    Args:
        timings: The timings.
    """
    lines = [f"{'':<33}{'wall s':>8}{'cpu s':>8}{'peer wall':>11}{'peer cpu':>10}{'difference':>12}"]
    for timing in timings:
        peer = (
            f"{timing.peer_wall_s:>11.2f}{timing.peer_cpu_s:>10.2f}{timing.difference:>12.1e}"
            if timing.peer_wall_s is not None
            else ""
        )
        lines.append(f"{timing.work:<33}{timing.wall_s:>8.2f}{timing.cpu_s:>8.2f}{peer}  {timing.note}".rstrip())
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, and fail if values differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation", description=__doc__)
    parser.add_argument("--reports", type=positive, default=REPORTS, metavar="N", help=f"pairs ({REPORTS})")
    parser.add_argument("--words", type=positive, default=WORDS, metavar="N", help=f"least words of a report ({WORDS})")
    parser.add_argument("--rounds", type=positive, default=3, metavar="N", help="turns of both packages (3)")
    parser.add_argument("--resamples", type=positive, default=1000, metavar="N", help="bootstrap resamples (1000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows")
    args = parser.parse_args(argv)
    predictions, references = make_pairs(args.reports, args.words, min(POOL, 4 * args.reports))
    timings = [
        *compare_scores(predictions, references, args.rounds),
        *time_labeler(references),
        time_evaluation(predictions, references, args.resamples),
    ]
    words = np.mean([len(text.split()) for text in references])
    print(f"{len(references)} pairs, {words:.0f} words a reference")
    print(table(timings))
    if args.json is not None:
        write_json(args.json, [asdict(timing) for timing in timings])
    return int(any(timing.difference is not None and timing.difference > TOLERANCE for timing in timings))


if __name__ == "__main__":
    raise SystemExit(main())
