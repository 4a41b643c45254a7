"""What whitening does to embeddings of phantoms' reports: ``python -m benchmarks.studies.whitening --out DIR``.

A small language model is trained on reports alone, and its embeddings are whitened, as the step ``language`` of
Ker-VLJEPA's curriculum does. Then cosines of texts are compared before and after: of the training reports,
where a text belongs together with itself only, and of held-out findings that are told several times in other words.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# before numpy or torch is imported: a thread that waits for another one counts as work
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402

from ct_vlm.cli.curriculum.steps import prepare_language  # noqa: E402
from ct_vlm.component import Component  # noqa: E402
from ct_vlm.files import write_json  # noqa: E402
from ct_vlm.modules import separability  # noqa: E402
from ct_vlm.phantoms import describe_phantom  # noqa: E402
from ct_vlm.phantoms.report import write_report  # noqa: E402
from ct_vlm.text import positive_findings  # noqa: E402

COLUMNS = ("cosine before", "cosine after", "d' before", "d' centred", "d' after")
_SHAPE = (24, 64, 64)


@dataclass(frozen=True)
class Recipe:
    """Settings of the study; all are ours."""

    train_patients: int = 400
    test_patients: int = 150
    wordings: int = 4
    steps: int = 120
    vocab_size: int = 1000


@dataclass(frozen=True)
class Texts:
    """Texts, and for each what it says; None where a text belongs together with itself only."""

    texts: list[str]
    groups: list[str] | None = None


def training_reports(count: int, first: int) -> Texts:
    """Return the findings of as many patients."""
    return Texts([describe_phantom(first + number, _SHAPE).findings_text for number in range(count)])


def retold_reports(count: int, wordings: int, first: int) -> Texts:
    """Return whole reports of patients, each told in several ways."""
    texts, groups = [], []
    for seed in range(first, first + count):
        facts = describe_phantom(seed, _SHAPE)
        for way in range(wordings):
            texts.append(write_report(facts.findings, facts.sex, facts.seed, way).findings)
            groups.append(str(seed))
    return Texts(texts, groups)


def retold_findings(count: int, wordings: int, first: int) -> Texts:
    """Return texts of positive findings, each set of labels told in several ways."""
    told: dict[str, list[str]] = {}
    for seed in range(first, first + count):
        labels = describe_phantom(seed, _SHAPE).labels.tolist()
        # the normal sentence is one text, however often it is written
        if any(labels):
            told["".join(map(str, labels))] = [positive_findings(labels, seed=f"{seed}/{w}") for w in range(wordings)]
    pairs = [(text, labels) for labels, texts in told.items() for text in dict.fromkeys(texts)]
    return Texts([text for text, _ in pairs], [labels for _, labels in pairs])


def compare(embedder: Any, found: Texts) -> dict[str, float]:
    """Return mean cosine and d' of texts before, after centring alone, and after whitening."""
    rows = embedder.embed_all(found.texts, progress=False)
    report = embedder.whitening.report(rows, found.groups)
    centred = separability(rows - embedder.whitening.mean, found.groups)
    values = (
        report.before.mean_cosine,
        report.after.mean_cosine,
        report.before.d_prime,
        centred.d_prime,
        report.after.d_prime,
    )
    return dict(zip(COLUMNS, values, strict=True))


def run_seed(recipe: Recipe, seed: int, folder: Path, *, progress: bool = False) -> list[dict[str, Any]]:
    """Run everything for one seed: other phantoms, other weights."""
    start = time.process_time()
    first = 10_000_000 * (seed + 1)
    train, held_out = training_reports(recipe.train_patients, first), first + 1_000_000
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"Findings_EN": train.texts}).to_csv(folder / "reports.csv", index=False)
    prepare_language(
        str(folder / "reports.csv"),
        str(folder),
        steps=recipe.steps,
        vocab_size=recipe.vocab_size,
        seed=seed,
        progress=progress,
    )
    embedder: Any = Component.from_pretrained(folder / "embedder").eval()
    kinds = {
        "training reports": Texts(sorted(set(train.texts))),
        "held-out reports, retold": retold_reports(recipe.test_patients, recipe.wordings, held_out),
        "held-out positive findings, retold": retold_findings(recipe.test_patients, recipe.wordings, held_out),
    }
    variance = embedder.whitening.explained_variance
    rows: list[dict[str, Any]] = [
        {"texts": name, "seed": seed, "count": len(found.texts), **compare(embedder, found)}
        for name, found in kinds.items()
    ]
    rows[0] |= {"explained variance": variance, "cpu seconds": time.process_time() - start}
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a Markdown table: mean over seeds, and the range of the seeds where there are several."""
    lines = ["| texts | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name in dict.fromkeys(row["texts"] for row in rows):
        cells = []
        for column in COLUMNS:
            values = [row[column] for row in rows if row["texts"] == name]
            digits = 3 if column.startswith("cosine") else 2
            spread = f" ({min(values):.{digits}f} to {max(values):.{digits}f})" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.{digits}f}{spread}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None, recipe: Recipe | None = None) -> int:
    """Run the study, write ``whitening.json`` and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.whitening", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets whitening.json and the models")
    parser.add_argument("--no-progress", action="store_true", help="no progress bars")
    args = parser.parse_args(arguments)
    settings = recipe or Recipe()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for seed in args.seeds:
        shown = not args.no_progress and sys.stderr.isatty()
        rows += run_seed(settings, seed, args.out / f"seed{seed}", progress=shown)
        write_json(args.out / "whitening.json", {"recipe": asdict(settings), "rows": rows})
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
